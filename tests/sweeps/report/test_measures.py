"""The catalogue: names that others rely on, written out, and that one entry is all it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from sweeps.report import formats, measures, paper, tables
from sweeps.report.results import COLUMNS
from sweeps.tracking.leaderboard import SHOWN

RESULTS = """
dataset num_forget requests seed method role access task tuning hyperparameters_from
retain_score forget_score test_score val_score support_score
retain_loss forget_loss test_loss val_loss support_loss
tow mia_auc mia_acc mia_threshold_auc rmia_auc rmia_tpr
unlearn_seconds prepare_seconds
retain_gap forget_gap test_gap tow_normalised tow_with_mia mia_reference_auc mia_reference_acc
rmia_fpr rmia_a rmia_references rmia_reference_auc rmia_copies_auc
rmia_auc_low rmia_auc_high rmia_tpr_low rmia_tpr_high mia_auc_low mia_auc_high
forget_people forget_images test_people test_images js_forget js_test weight_distance
forget_margin forget_loss_gap forget_margin_gap num_attributes nomus prepared_bytes
recovery_1 recovery_5 recovery_support relearn_steps
reid_rank1 reid_rank1_gap reid_tpr reid_tpr_gap reid_retain_gap hides
completeness completeness_low completeness_high completeness_people completeness_images
completeness_models zrf rf_js activation_forget activation_test same_forget same_test
unlearn_peak_bytes prepare_peak_bytes unlearn_peak_gpu_bytes prepare_peak_gpu_bytes
lira_auc lira_auc_low lira_auc_high lira_auc_by_chance lira_tpr lira_tpr_low
lira_tpr_high lira_tpr_10 lira_efficacy_auc lira_efficacy_auc_low lira_efficacy_auc_high
lira_epsilon lira_worst
lira_worst_by_chance lira_p95 lira_shift lira_shift_low lira_shift_high
lira_positives lira_negatives lira_people lira_models
chosen_tow chosen_drop chosen_forget_gap chosen_mia_auc chosen_rmia_auc
method_source protection device precision versions commit job_key
"""
MLFLOW = """
retain/score forget/score test/score val/score support/score
retain/loss forget/loss test/loss val/loss support/loss
tow mia/auc mia/accuracy mia/threshold_auc rmia/auc rmia/tpr
cost/unlearn_seconds cost/prepare_seconds
gap/retain gap/forget gap/test tow_normalised tow_with_mia mia/reference_auc
mia/reference_accuracy rmia/fpr rmia/a rmia/references rmia/reference_auc rmia/copies_auc
rmia/auc_low rmia/auc_high rmia/tpr_low rmia/tpr_high mia/auc_low mia/auc_high
forget/people forget/images test/people test/images js/forget js/test
weight_distance forget/margin gap/forget_loss gap/forget_margin num_attributes nomus
cost/prepared_bytes
probe/recovery_1 probe/recovery_5 probe/recovery_support probe/relearn_steps
probe/rank1 probe/rank1_gap probe/tpr probe/tpr_gap probe/retain_gap probe/hides
audit/completeness audit/completeness_low audit/completeness_high audit/completeness_people
audit/completeness_images audit/completeness_models audit/zrf audit/rf_js
audit/activation_forget audit/activation_test audit/same_forget audit/same_test
cost/unlearn_peak_bytes cost/prepare_peak_bytes cost/unlearn_peak_gpu_bytes
cost/prepare_peak_gpu_bytes
audit/lira_auc audit/lira_auc_low audit/lira_auc_high audit/lira_auc_by_chance audit/lira_tpr
audit/lira_tpr_low audit/lira_tpr_high audit/lira_tpr_10 audit/lira_efficacy_auc
audit/lira_efficacy_auc_low audit/lira_efficacy_auc_high audit/lira_epsilon
audit/lira_worst audit/lira_worst_by_chance audit/lira_p95 audit/lira_shift
audit/lira_shift_low audit/lira_shift_high audit/lira_positives audit/lira_negatives
audit/lira_people audit/lira_models
audit/chosen_tow audit/chosen_drop audit/chosen_forget_gap
audit/chosen_mia_auc audit/chosen_rmia_auc
"""
BOARD = """
retain forget test ToW mia_auc mia_acc rmia_auc rmia_tpr seconds prepare_seconds
gap/retain gap/forget gap/test ToW_normalised
"""


def test_columns_of_the_results_and_names_in_mlflow_are_those_that_people_know() -> None:
    assert list(COLUMNS) == RESULTS.split()
    assert [m.mlflow for m in measures.CATALOGUE.values()] == MLFLOW.split()
    assert [measures.CATALOGUE[key].board for key in SHOWN] == BOARD.split()
    known = "retain_score forget_score test_score tow mia_auc mia_acc rmia_auc"
    assert list(paper.COMPARED) == known.split()


def test_the_tables_show_scores_first_then_distances_and_costs() -> None:
    titles = [", ".join(tables.titles()[key] for key in panel) for panel in tables.PANELS]
    first, second, third = titles
    assert first == "retain, forget, test, ToW, MIA AUC"
    assert second == (
        "ToW norm, Δ retain, Δ forget, Δ test, MIA acc, RMIA AUC, unlearn s, prepare s"
    )
    assert third == "Δ forget loss, Δ forget margin"


def test_what_is_best_is_written_down_once() -> None:
    assert {key: measures.CATALOGUE[key].better for key in measures.RANKED} == {
        "retain_score": "highest",
        "forget_score": "retrained",
        "test_score": "highest",
        "tow": "highest",
        "mia_auc": "retrained",
        "mia_acc": "retrained",
        "rmia_auc": "retrained",
        "unlearn_seconds": "lowest",
    }
    units = {m.key: m.unit for m in measures.CATALOGUE.values() if m.key.endswith("_gap")}
    assert units == {
        **dict.fromkeys(("retain_gap", "forget_gap", "test_gap"), "difference"),
        **dict.fromkeys(("reid_rank1_gap", "reid_tpr_gap", "reid_retain_gap"), "difference"),
        "chosen_forget_gap": "difference",
        **dict.fromkeys(("forget_loss_gap", "forget_margin_gap"), "signed"),
    }
    hundred = {key for key, m in measures.CATALOGUE.items() if m.scale == 100}
    assert {"tow", "retain_gap", "rmia_tpr"} <= hundred
    assert not hundred & {"unlearn_seconds", "retain_loss", "forget_loss_gap", "forget_margin_gap"}
    few = [m.key for m in measures.CATALOGUE.values() if m.panel == 3]
    assert few == ["forget_loss_gap", "forget_margin_gap"]
    assert {*few, "forget_margin"} <= {*measures.SUMMARISED}


_WITH_ONE_MORE = """
import importlib.util, json, sys
spec = importlib.util.spec_from_loader("sweeps.report.measures", None, origin=sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["sweeps.report.measures"] = module
exec(sys.stdin.read(), module.__dict__)
sys.path.insert(0, sys.argv[1])
from support.result_frames import frame_of, row
from sweeps.report import formats, paper, results, tables
from sweeps.report.summary import summarise
from sweeps.tracking.leaderboard import wanted_runs
frame = frame_of([row(m, s, 0.5, calm=calm)
                  for m, c in (("a", 0.9), ("b", 0.5), ("c", 0.1)) for s in (0, 1, 2)
                  for calm in [c + (s if m == "a" else -s) / 100]])
summary = summarise(frame)
print(json.dumps({
    "results": "calm" in results.COLUMNS,
    "paper": "calm" in set(paper.template(summary)["measure"]),
    "markdown": formats.markdown(summary),
    "latex": formats.latex(summary),
    "board": [run.metrics.get("calmness") for run in wanted_runs(summary)],
}))
"""


def test_a_new_measure_is_one_entry() -> None:
    source = Path(measures.__file__).read_text(encoding="utf-8")
    entry = (
        'Measure("calm", "calm", title="Calm", better="highest", panel=1, board="calmness",'
        " is_published=True),\n)\n# fmt: on"
    )
    changed = source.replace(")\n# fmt: on", entry)
    assert changed != source
    done = subprocess.run(
        [sys.executable, "-c", _WITH_ONE_MORE, str(Path(__file__).parents[2])],
        input=changed,
        cwd=Path(formats.__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["results"]
    assert found["paper"]
    assert "| ToW | MIA AUC | Calm |" in found["markdown"]
    assert "**91.0 ± 1.0** |" in found["markdown"]
    assert r"\textbf{91.0}{\tiny$\pm$1.0}" in found["latex"]
    assert found["board"] == [0.91, 0.49, 0.09]
