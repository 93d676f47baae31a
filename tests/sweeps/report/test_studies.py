"""What a sweep says about its studies: tables, journal, report, MLflow, mode=why."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from scipy.stats import spearmanr
from support.inline_sweep import InlineSweep, inline_sweep
from support.result_frames import frame_of, row

from oneshui.errors import InputError
from sweeps import sampler
from sweeps.cli import run
from sweeps.cli.why import explanation
from sweeps.config import load
from sweeps.graph.job import Job
from sweeps.graph.plan import Plan, ResultRow, expand
from sweeps.graph.spec import OBJECTIVES
from sweeps.inference.evidence import Evidence
from sweeps.report import formats, page, provenance, tables
from sweeps.report.figures import catalogue
from sweeps.report.figures.style import Material
from sweeps.report.measures import RANKED
from sweeps.report.results import resolved_hyperparameters, results_frame
from sweeps.report.studies.leaks import leak_cost, leak_cost_markdown
from sweeps.report.studies.results import (
    JOURNAL,
    StudyResult,
    studies_frame,
    study_results,
    write_studies,
)
from sweeps.report.summary import summarise
from sweeps.report.tables import tables_of
from sweeps.store import Entry
from sweeps.store.status import scan
from sweeps.tracking.leaderboard import wanted_runs
from sweeps.tracking.rows import wanted_run

COMMAND = (
    "sweep=leak_cost",
    "scale=toy",
    "sweep.methods=[pretrain,retrain,ssd,weight_noise]",
    "tuning.trials=5",
    "tuning.batch=2",
    "tuning.carried=2",
    "sweep.seeds=[0,1]",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("studies")


@pytest.fixture(scope="module")
def sweep(folder: Path) -> InlineSweep:
    found = inline_sweep(folder, *COMMAND)
    assert not found.scheduler.failures()
    return found


@pytest.fixture(scope="module")
def entries(sweep: InlineSweep) -> dict[str, Entry]:
    return dict(scan(sweep.plan, sweep.store, discard=False).entries)


@pytest.fixture(scope="module")
def results(sweep: InlineSweep, entries: dict[str, Entry]) -> list[StudyResult]:
    return study_results(sweep.plan, entries)


def rows_named(sweep: InlineSweep, name: str) -> list[ResultRow]:
    return [found for found in sweep.plan.results if found.row.name == name]


def test_points_are_those_of_the_jobs_with_their_true_tow(
    entries: dict[str, Entry], results: list[StudyResult]
) -> None:
    (result,) = results
    study = result.study
    assert result.points["place"].tolist() == list(range(5))
    for place, line in enumerate(result.points.to_dict("records")):
        assert line["simulated"] == entries[study.trials[place]].value["simulated"]
        assert line["tow"] == entries[study.true_tows[place][0]].value["tow"]
        assert {n: line[n] for n in study.space} == entries[study.trials[place]].value["point"]
    assert result.chosen.keys() == set(OBJECTIVES)
    idle = result.points.set_index("place").loc[study.nothing]
    assert idle["carried"]
    assert 1 <= result.points["carried"].sum() <= 4
    judged = entries[study.choices["support_only"]].value["carried"]
    for place in {*judged} - {study.nothing}:
        assert result.points.set_index("place")["simulated"][place] > idle["simulated"]


def test_the_score_shown_is_the_one_that_chose(
    entries: dict[str, Entry], results: list[StudyResult]
) -> None:
    """The report's score of a point is what the choice itself computed."""
    (result,) = results
    choice = entries[result.study.choices["support_only"]].value
    shown = result.points.set_index("place")["score"]
    for place, score in zip(choice["carried"], choice["scores"], strict=True):
        assert shown[place] == pytest.approx(score, rel=1e-6)
    oracle = entries[result.study.choices["oracle"]].value
    for place, score in zip(oracle["carried"], oracle["scores"], strict=True):
        assert result.tow_of(place) == pytest.approx(score, rel=1e-6)


def test_correlations_are_over_all_points(results: list[StudyResult]) -> None:
    (result,) = results
    points = result.points
    for name, found in (
        ("simulated", result.simulated_correlation),
        ("score", result.score_correlation),
    ):
        assert found == pytest.approx(spearmanr(points[name], points["tow"]).statistic)
    assert result.best_tow == points["tow"].max()
    table = studies_frame(results).set_index("objective")
    assert table["picked_tow"]["oracle"] == max(table["picked_tow"])
    assert (table["best_tow"] >= table["picked_tow"]).all()


def test_nothing_is_said_of_a_study_that_is_half_done(
    sweep: InlineSweep, entries: dict[str, Entry]
) -> None:
    (study,) = sweep.plan.studies
    known = {*study.trials[:2], *study.true_tows[0]}
    some = {k: e for k, e in entries.items() if k in known or e.stage in ("simulate", "split")}
    (result,) = study_results(sweep.plan, some)
    assert len(result.points) == 2
    assert result.points["tow"].notna().tolist() == [True, False]
    assert result.points["score"].isna().all()
    assert result.chosen == {}
    assert result.score_correlation is None
    assert study_results(sweep.plan, {}) == []


def test_the_picked_trial_is_the_best_one_that_optuna_shows(
    results: list[StudyResult], entries: dict[str, Entry], tmp_path: Path
) -> None:
    write_studies(results, entries, tmp_path)
    storage = sampler._storage(tmp_path / JOURNAL)
    (result,) = results
    names = {f"{result.study.name}, by {objective}" for objective in result.chosen}
    assert set(optuna.get_all_study_names(storage)) == names
    metrics = {
        "support_only": "support-only score",
        "support_and_val": "score by support and validation images",
        "simulated": "simulated ToW",
        "oracle": "true ToW",
    }
    for objective, place in result.chosen.items():
        study = optuna.load_study(
            study_name=f"{result.study.name}, by {objective}", storage=storage
        )
        assert study.best_trial.number == place
        assert study.metric_names == [metrics[objective]]
        assert [t.user_attrs["tow"] for t in study.trials] == result.points["tow"].tolist()
        carried = entries[result.study.choices[objective]].value["carried"]
        whole = [t.number for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
        assert whole == sorted(carried)
        for trial, key in zip(study.trials, result.study.trials, strict=True):
            cost = entries[key].cost
            assert trial.duration is not None
            assert trial.datetime_start is not None
            assert trial.duration.total_seconds() == pytest.approx(cost["seconds"], abs=1e-5)
            assert trial.datetime_start.timestamp() == pytest.approx(cost["started"], abs=1e-5)
    sampler.check_journal(tmp_path / JOURNAL, {result.study.name: result.study.space})


def test_a_study_that_has_not_chosen_shows_what_its_trials_are_drawn_by(
    sweep: InlineSweep, entries: dict[str, Entry], tmp_path: Path
) -> None:
    some = {k: e for k, e in entries.items() if e.stage != "choose"}
    (result,) = study_results(sweep.plan, some)
    write_studies([result], some, tmp_path)
    storage = sampler._storage(tmp_path / JOURNAL)
    study = optuna.load_study(study_name=result.study.name, storage=storage)
    assert [t.value for t in study.trials] == result.points["simulated"].tolist()
    assert study.metric_names == ["simulated ToW"]


def test_a_changed_space_is_refused_before_anything_starts(
    results: list[StudyResult],
    entries: dict[str, Entry],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_studies(results, entries, tmp_path)
    spec = load([*COMMAND, "sweep.rows.ssd.space={share: [1e-4, 1e-2]}", f"output_dir={tmp_path}"])
    monkeypatch.setattr("sweeps.cli.datasets.prepare_datasets", None)
    from rich.console import Console

    with pytest.raises(
        InputError, match=r"was made with the search space .*1e-05.*share.*0.0001.*0.01"
    ) as error:
        run(spec, Console())
    assert "\n" not in str(error.value)


def made_up(values: dict[str, list[float | None]]) -> pd.DataFrame:
    """Rows by name; those called "<row>@<objective>" were tuned by that objective."""
    return frame_of(
        [
            row(name, seed, tow, tuning=name.partition("@")[2] or None)
            for name, tows in values.items()
            for seed, tow in enumerate(tows)
        ]
    )


def test_leak_cost_pairs_cells() -> None:
    table = leak_cost(
        made_up(
            {
                "ssd": [0.1, 0.1, 0.1],
                "ssd@support_only": [0.70, 0.80, 0.90],
                "ssd@oracle": [0.75, 0.80, None],
                "jit@support_only": [0.60, None, 0.60],
                "jit@oracle": [0.70, 0.90, 0.55],
            }
        )
    ).set_index("objective")
    # Pairs: ssd seeds 0 and 1, jit seeds 0 and 2; what one side lacks is left out.
    differences = np.array([0.05, 0.0, 0.10, -0.05])
    assert table["gain_mean"]["oracle"] == pytest.approx(differences.mean())
    assert table["gain_std"]["oracle"] == pytest.approx(differences.std(ddof=1))
    assert table["better"]["oracle"] == pytest.approx(0.5)
    assert table["n"].to_dict() == {"oracle": 5, "support_only": 5}
    assert table["tow_mean"]["support_only"] == pytest.approx(0.72)
    text = leak_cost_markdown(table.reset_index())
    assert "| oracle | 5 | 74.0 ± 12.9 | +2.5 ± 6.5 | 50% |" in text
    assert "| support_only | 5 | 72.0 ± 13.0 | - | - |" in text


def test_why_tells_the_choices_of_several_studies_by_seed() -> None:
    plan = expand(load([*COMMAND, "tuning.studies=2"]).sweep)
    asked = "synthetic_tiny 4 ssd@oracle tow"
    known = {}
    for study in plan.studies:
        key = study.choices["oracle"]
        value = {"hyperparameters": {"share": study.cells[0].seed}}
        known[key] = made_entry(plan, key, value)
    lines = list(explanation(asked, plan, known, Path("/nowhere"), COMMAND))
    place = lines.index(
        "hyperparameters by seed (seeds 1000, 1001, never reported, in 2 independent studies):"
    )
    for number, line in enumerate(lines[place + 1 : place + 3]):
        assert line.startswith(f"  seed {number}: ")
        assert f'"share": {1000 + number}' in line


def made_entry(plan: Plan, key: str, value: dict[str, Any]) -> Entry:
    return Entry(
        stage=plan.jobs[key].stage,
        key=key,
        folder=Path("/nowhere"),
        files={},
        value=value,
        content=key,
        inputs={},
        cost={},
    )


@pytest.mark.parametrize("names", [["ssd"], ["ssd@oracle"], ["ssd@support_only"]])
def test_one_objective_costs_nothing(names: list[str]) -> None:
    assert leak_cost(made_up({name: [0.5, 0.6] for name in names})).empty


def test_resolved_hyperparameters_are_what_the_model_ran_with(
    sweep: InlineSweep, entries: dict[str, Entry]
) -> None:
    (study,) = sweep.plan.studies
    for objective in OBJECTIVES:
        for found in rows_named(sweep, f"ssd@{objective}"):
            chosen = entries[study.choices[objective]].value["hyperparameters"]
            resolved = resolved_hyperparameters(found, entries)
            assert list(resolved) == list(found.row.hyperparameters)
            assert {n: resolved[n] for n in study.space} == chosen
            assert entries[found.model_key].value["hyperparameters"] == chosen
            assert not study.space.keys() & resolved_hyperparameters(found, {}).keys()
    (noise, _) = rows_named(sweep, "weight_noise")
    assert resolved_hyperparameters(noise, {}) == noise.row.hyperparameters


def test_the_table_says_which_rows_were_tuned_and_how(
    sweep: InlineSweep, entries: dict[str, Entry]
) -> None:
    frame = results_frame(sweep.plan, entries)
    by_row = frame.groupby("method")["tuning"].first()
    assert by_row["ssd@oracle"] == "oracle"
    assert frame.loc[frame["method"] == "pretrain", "tuning"].isna().all()
    summary = summarise(frame)
    (table,) = tables_of(summary)
    assert table.is_tuned
    shown = {line.method: line.tuning for line in table.lines}
    assert shown["ssd@oracle"] == "ORACLE"
    assert shown["ssd@support_only"] == "S"
    assert shown["weight_noise"] == shown["retrain"] == "no"
    ranks = [f"{measure}_rank" for measure in RANKED]
    beyond = summary["method"].isin(["ssd@oracle", "ssd@support_and_val"])
    assert beyond.sum() == 2
    assert summary.loc[beyond, ranks].isna().all(axis=None)


def test_a_table_without_tuned_rows_has_no_such_column() -> None:
    frame = made_up({"pretrain": [0.7, 0.8], "ssd": [0.8, 0.9]})
    (table,) = tables_of(summarise(frame))
    assert not table.is_tuned
    assert tables.TUNED_TITLE not in formats.markdown(summarise(frame)).split("\n")[2]


def test_mlflow_has_chosen_values_and_the_tag(
    sweep: InlineSweep, entries: dict[str, Entry]
) -> None:
    (study,) = sweep.plan.studies
    (first, _) = rows_named(sweep, "ssd@simulated")
    published = wanted_run(sweep.plan, first, entries, "parent")
    chosen = entries[study.choices["simulated"]].value["hyperparameters"]
    assert published.params["hp.share"] == str(chosen["share"])
    assert published.tags["tuning"] == "simulated"
    assert published.tags["hyperparameters_from"] == "tuned"
    pretrained = wanted_run(sweep.plan, rows_named(sweep, "pretrain")[0], entries, "parent")
    assert pretrained.tags["hyperparameters_from"] == "nothing"
    (noise, _) = rows_named(sweep, "weight_noise")
    assert wanted_run(sweep.plan, noise, entries, "parent").tags["tuning"] == "no"
    frame = results_frame(sweep.plan, entries)
    origins = frame.groupby("method")["hyperparameters_from"].first()
    assert (origins["ssd@oracle"], origins["weight_noise"]) == ("tuned", "truth_in_view")
    found = list(wanted_runs(summarise(frame)))
    shown = {w.tags["method"]: w.tags["hyperparameters_from"] for w in found}
    assert (shown["ssd@oracle"], shown["weight_noise"]) == ("tuned", "truth_in_view")
    assert shown["retrain"] == "nothing"
    board = {w.tags["method"]: w.tags["tuning"] for w in found}
    assert board["ssd@oracle"] == "oracle"
    assert board["weight_noise"] == "no"


def test_why_names_the_choice_and_a_command_that_makes_it(
    sweep: InlineSweep, entries: dict[str, Entry], folder: Path
) -> None:
    (study,) = sweep.plan.studies
    lines = list(
        explanation("synthetic_tiny 4 ssd@oracle tow", sweep.plan, entries, folder, COMMAND)
    )
    text = "\n".join(lines)
    key = study.choices["oracle"]
    assert f"share tuned (oracle) by choose/{key}" in text
    share = entries[key].value["hyperparameters"]["share"]
    assert f'"share": {share}' in text
    (first, _) = rows_named(sweep, "ssd@oracle")
    command = provenance.alone(sweep.plan, first, COMMAND)
    assert "sweep.methods=[retrain,ssd]" in command
    of_noise = explanation("synthetic_tiny 4 weight_noise tow", sweep.plan, {}, folder, COMMAND)
    assert f"  {tables.TRUTH_NOTE}" in list(of_noise)
    assert tables.TRUTH_NOTE not in text
    unfinished = "\n".join(
        explanation("synthetic_tiny 4 ssd@oracle tow", sweep.plan, {}, folder, COMMAND)
    )
    assert "share to be tuned (oracle)" in unfinished


def write(
    sweep: InlineSweep, entries: dict[str, Entry], results: list[StudyResult], output: Path
) -> Path:
    frame = results_frame(sweep.plan, entries)
    evidence = Evidence.of(frame)
    known = (sweep.plan, frame, summarise(frame, evidence), evidence, entries)
    return page.write_report(*known, [], (), output, COMMAND, studies=results)


def test_the_report_has_a_section_figure_and_files(
    sweep: InlineSweep,
    entries: dict[str, Entry],
    results: list[StudyResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only = {name: catalogue.KINDS[name] for name in ("tuning", "cost")}
    monkeypatch.setattr(catalogue, "KINDS", only)
    page = write(sweep, entries, results, tmp_path)
    text = " ".join(re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8")).split())
    (result,) = results
    for said in (
        "computed afterwards and never fed back",
        result.study.name,
        "ORACLE",
        "What more knowledge would be worth",
        f"{100 * (result.best_tow or 0):.1f}",
        "Rank correlation of the support-only score with the true ToW",
    ):
        assert said in text
    files = page.parent
    points = pd.read_csv(files / "points.csv")
    assert np.allclose(points["tow"], result.points["tow"])
    assert pd.read_csv(files / "studies.csv")["objective"].tolist() == list(result.chosen)
    assert pd.read_csv(files / "leak_cost.csv")["objective"].nunique() == 4
    assert (files / "leak_cost.md").read_text().count("\n| ") == 5
    for suffix in ("png", "pdf"):
        assert (files / "figures" / f"tuning-synthetic_tiny-n4.{suffix}").stat().st_size > 5000


def test_the_figure_shows_every_point(
    sweep: InlineSweep, entries: dict[str, Entry], results: list[StudyResult]
) -> None:
    frame = results_frame(sweep.plan, entries)
    material = Material(
        plan=sweep.plan,
        entries=entries,
        frame=frame,
        summary=summarise(frame),
        studies=tuple(results),
    )
    (drawing,) = catalogue.KINDS["tuning"].drawings(material)
    history, scatter = drawing.make().axes

    def drawn(axes: Any) -> set[tuple[float, float]]:
        # The ring around the picked point stands where a point stands.
        offsets = [c.get_offsets() for c in axes.collections]
        return {(round(float(x), 6), round(float(y), 6)) for o in offsets for x, y in o}

    (result,) = results
    points = result.points
    wanted = {
        "history": zip(points["place"], 100 * points["simulated"], strict=True),
        "scatter": zip(100 * points["score"], 100 * points["tow"], strict=True),
    }
    for axes, name in ((history, "history"), (scatter, "scatter")):
        assert drawn(axes) == {(round(float(x), 6), round(float(y), 6)) for x, y in wanted[name]}
    assert f"{result.score_correlation:.2f}" in scatter.get_title()


def test_a_study_whose_later_points_are_lost_finds_them_again(
    sweep: InlineSweep, entries: dict[str, Entry], folder: Path, tmp_path: Path
) -> None:
    """As after a kill: points from the second batch on, and the choices, are gone."""
    (study,) = sweep.plan.studies
    shutil.copytree(folder, tmp_path / "copy")
    lost = {*study.trials[2:], *study.choices.values()}
    for key in lost:
        shutil.rmtree(tmp_path / "copy" / "store" / sweep.plan.jobs[key].stage / key)
    again = inline_sweep(tmp_path / "copy", *COMMAND, fresh=True)
    assert again.plan.jobs.keys() == sweep.plan.jobs.keys()
    found = scan(again.plan, again.store, discard=False).entries
    for key in lost:
        assert found[key].value == entries[key].value
        assert found[key].content == entries[key].content


@pytest.mark.slow
def test_a_sweep_that_is_interrupted_within_a_study_ends_with_the_same_results(
    sweep: InlineSweep, entries: dict[str, Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted again and again, at other places of the studies each time."""
    execute = InlineSweep.execute
    tried: list[int] = []
    for more in (1, 2, 1):
        count = itertools.count()

        def stopping(self: InlineSweep, job: Job, count: Any = count, more: int = more) -> Any:
            if job.stage == "trial" and next(count) == more:
                raise KeyboardInterrupt
            return execute(self, job)

        monkeypatch.setattr(InlineSweep, "execute", stopping)
        with pytest.raises(KeyboardInterrupt):
            inline_sweep(tmp_path, *COMMAND, fresh=True)
        tried.append(len(list((tmp_path / "store" / "trial").glob("*/result.json"))))
    monkeypatch.setattr(InlineSweep, "execute", execute)
    assert tried == [1, 3, 4]
    again = inline_sweep(tmp_path, *COMMAND, fresh=True)
    found = scan(again.plan, again.store, discard=False).entries
    assert {key: e.content for key, e in found.items()} == {
        key: e.content for key, e in entries.items()
    }
    costs = r"_(?:seconds|bytes)$"
    mine, theirs = (results_frame(sweep.plan, one) for one in (found, entries))
    pd.testing.assert_frame_equal(
        mine.loc[:, ~mine.columns.str.contains(costs)],
        theirs.loc[:, ~theirs.columns.str.contains(costs)],
    )


def test_a_report_without_a_study_imports_neither_torch_nor_what_draws() -> None:
    code = (
        "import sys\n"
        "import sweeps.cli.finish, sweeps.report.page, sweeps.report.studies.results\n"
        "import sweeps.tracking\n"
        "heavy = {'torch', 'ray', 'mlflow', 'sklearn', 'matplotlib', 'scipy'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_report_with_studies_does_without_torch(folder: Path, results: list[StudyResult]) -> None:
    code = (
        "import sys\n"
        "from sweeps.config import load\n"
        "from sweeps.graph.plan import expand\n"
        "from sweeps.store.status import scan\n"
        "from sweeps.store import open_store\n"
        "from sweeps.report.studies.results import study_results\n"
        "spec = load(sys.argv[1:])\n"
        "plan = expand(spec.sweep)\n"
        "entries = scan(plan, open_store(spec.places.store_uri), discard=False).entries\n"
        "found = study_results(plan, entries)\n"
        "scored = sum(result.points['score'].notna().sum() for result in found)\n"
        "print(scored, 'torch' in sys.modules)\n"
    )
    command = [sys.executable, "-c", code, *COMMAND, f"output_dir={folder}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    scored = sum(int(result.points["score"].notna().sum()) for result in results)
    assert done.stdout.split() == [str(scored), "False"]
    assert scored > 0
