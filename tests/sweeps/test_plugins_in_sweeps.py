"""What plugins change of a sweep: names, jobs, keys and columns; and what they leave alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from support.inline_command import inline_command
from support.inline_sweep import InlineSweep, inline_sweep
from support.own_code import NET, written

from oneshui.errors import InputError
from sweeps import described
from sweeps.cli.why import explanation
from sweeps.config import load
from sweeps.graph.plan import Plan, expand
from sweeps.report import formats, tables
from sweeps.report.measures import CATALOGUE
from sweeps.report.results import COLUMNS, results_frame
from sweeps.report.summary import summarise
from sweeps.store.status import scan
from sweeps.tracking.leaderboard import wanted_runs
from sweeps.tracking.rows import wanted_run

METHOD = '''
"""Shrinks the classifier."""

import copy
from dataclasses import dataclass

from oneshui.methods import Range, register
from oneshui.spec import Access


@register
@dataclass(frozen=True, kw_only=True)
class Shrink:
    name = "shrink"
    access = Access.SUPPORT
    search_space = {"factor": Range(low=0.1, high=1.0)}
    factor: float = 0.5

    def unlearn(self, request):
        from beside_shrink import scaled

        return scaled(copy.deepcopy(request.model), self.factor)
'''
BESIDE = """
def scaled(model, factor):
    model.get_classifier().weight.data.mul_(factor)
    return model
"""
MEASURE = '''
from oneshui.metrics import Predicted, measure


@measure("agreement", title="agrees", better="higher")
def agreement(outcome: Predicted) -> float:
    """Share of forget images with the largest output where retraining has it."""
    own, theirs = outcome.logits("forget"), outcome.logits("forget", retrained=True)
    return float((own.argmax(axis=1) == theirs.argmax(axis=1)).mean())
'''
OWN = ("sweep.model.mean=[0.4,0.5,0.6]", "sweep.model.std=[0.2,0.2,0.2]")
EPOCH = ("sweep.training.epochs=1",)
SWEEP = (
    "sweep=smoke",
    "sweep.datasets=[synthetic_tiny]",
    "sweep.methods=[pretrain,retrain,shrink]",
    "sweep.seeds=[0]",
    *EPOCH,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    files = {"shrink_it.py": METHOD, "beside_shrink.py": BESIDE}
    files |= {"agreeing.py": MEASURE, "own_net.py": NET}
    with written(tmp_path_factory.mktemp("plugins"), files) as made:
        yield made


def plan_of(*overrides: str) -> Plan:
    return expand(load(overrides).sweep)


def keys(plan: Plan, *stages: str) -> set[str]:
    return {job.key for job in plan.jobs.values() if job.stage in stages}


def test_what_a_plugin_does_not_touch_keeps_its_keys(folder: Path) -> None:
    others = "sweep.methods=[pretrain,retrain,ssd]"
    method, measure = f"{folder}/shrink_it.py", f"{folder}/agreeing.py"
    plain = plan_of(*SWEEP, others)
    assert set(plan_of(*SWEEP, others, f"plugins=[{method}]").jobs) == set(plain.jobs)
    measured = plan_of(*SWEEP, others, f"plugins=[{measure}]")
    assert set(plain.jobs) - set(measured.jobs) == keys(plain, "score")
    # The first half of a key tells what is meant, whatever the code.
    assert {key[:8] for key in measured.jobs} == {key[:8] for key in plain.jobs}
    own = plan_of(*SWEEP, f"plugins=[{method},{measure}]")
    text = (folder / "beside_shrink.py").read_text()
    (folder / "beside_shrink.py").write_text(f"{text}# edited\n")
    load(["sweep=smoke"])
    edited = plan_of(*SWEEP, f"plugins=[{method},{measure}]")
    (folder / "beside_shrink.py").write_text(text)
    load(["sweep=smoke"])
    changed = {job.stage for key, job in own.jobs.items() if key not in edited.jobs}
    assert changed == {"unlearn", "evaluate", "score"}


def test_the_code_of_a_network_is_in_what_works_with_it(folder: Path) -> None:
    own = [*SWEEP, "sweep.methods=[pretrain,retrain,ssd]"]
    own += [f"sweep.model.factory={folder}/own_net.py:make_net", "sweep.model.options={width: 4}"]
    before, text = plan_of(*own), (folder / "own_net.py").read_text()
    (folder / "own_net.py").write_text(f"{text}# edited\n")
    load(["sweep=smoke"])
    after = plan_of(*own)
    (folder / "own_net.py").write_text(text)
    load(["sweep=smoke"])
    kept = {job.stage for key, job in before.jobs.items() if key in after.jobs}
    assert kept == {"index", "cache", "split"}
    trained = [job for job in before.jobs.values() if job.stage == "pretrain"]
    again = [job for job in after.jobs.values() if job.stage == "pretrain"]
    assert [job.key[:8] for job in trained] == [job.key[:8] for job in again]
    assert trained[0].editable == ("plugin changed",)
    assert trained[0].spec["model"]["factory"] == "own_net:make_net"
    # Neither the sweep's name of a timm network nor its options are those of another.
    assert trained[0].spec["model"].keys() == {
        *("factory", "image_size", "weights", "options", "source"),
    }
    without = plan_of(*SWEEP, own[-3], own[-2])
    (job,) = [job for job in without.jobs.values() if job.stage == "pretrain"]
    assert job.spec["model"]["options"] == {}


def test_all_of_it_is_in_the_description_of_a_run(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").touch()
    own = [*SWEEP, f"plugins=[{folder}/shrink_it.py,{folder}/agreeing.py]", *OWN]
    own += [f"sweep.model.factory={folder}/own_net.py:make_net"]
    own += [f"sweep.pretrained={tmp_path}/m.safetensors", "sweep.pretrained_saw=all"]
    spec = load(own)
    described.write(spec, tmp_path)
    load(["sweep=smoke"])
    assert described.read(tmp_path).sweep == spec.sweep


def test_without_its_plugin_a_name_is_unknown_again(folder: Path) -> None:
    assert load([*SWEEP, f"plugins=[{folder}/shrink_it.py]"]).plugins[0].item.endswith(".py")
    with pytest.raises(InputError, match="unknown method 'shrink'"):
        load(SWEEP)


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> InlineSweep:
    own = f"plugins=[{folder}/shrink_it.py,{folder}/agreeing.py]"
    sweep = inline_sweep(tmp_path_factory.mktemp("own"), *SWEEP, own)
    assert not sweep.scheduler.failures()
    load(["sweep=smoke"])  # which forgets the plugins
    return sweep


def test_a_report_needs_no_plugin(finished: InlineSweep) -> None:
    plan = finished.plan
    entries = scan(plan, finished.store, discard=False).entries
    frame = results_frame(plan, entries)
    assert list(frame.columns) == [*COLUMNS, "agreement"]
    assert frame["agreement"].between(0, 1).all()
    assert frame.loc[frame["method"] == "retrain", "agreement"].tolist() == [1.0]
    summary = summarise(frame)
    assert "agreement_rank" in summary
    assert "| agrees |" in formats.markdown(summary)
    assert "& agrees" in formats.latex(summary)
    (note,) = tables.plugin_notes()
    assert note == (
        "agrees: Share of forget images with the largest output where retraining has it "
        "(a plugin's measure, in percent; higher is better)."
    )
    assert CATALOGUE["agreement"].better == "highest"
    (row,) = [row for row in plan.results if row.row.name == "shrink"]
    value = frame.loc[frame["method"] == "shrink", "agreement"].item()
    assert wanted_run(plan, row, entries, "parent").metrics["plugin/agreement"] == value
    (run,) = [run for run in wanted_runs(summary, frame) if run.params["method"] == "shrink"]
    assert run.metrics["plugin/agreement"] == pytest.approx(value, abs=1e-4)
    lines = explanation("synthetic_tiny 4 shrink agrees", plan, entries, finished.env.logs, [])
    assert next(iter(lines)).startswith(f"synthetic_tiny 4 shrink agrees: agreement = {value:.6g}")
    # Another sweep's report knows nothing of it.
    other = plan_of("sweep=smoke", "sweep.datasets=[synthetic_tiny]", "sweep.methods=[retrain]")
    assert list(results_frame(other, {}).columns) == list(COLUMNS)


def test_an_error_in_a_plugin_is_one_sentence(tmp_path: Path) -> None:
    faults = {
        "typo.py": ("x = 1\ndef broken(:\n", "typo.py, line 2: SyntaxError: "),
        "raising.py": (
            "import math\n\nmath.sqrt(-1)\n",
            "raising.py, line 3: ValueError: ",
        ),
        "taken.py": (
            METHOD.replace('"shrink"', '"ssd"'),
            "TypeError: two methods are called 'ssd'",
        ),
        "column.py": (MEASURE.replace('"agreement"', '"tow"'), "'tow', which is a column"),
        "leaving.py": ("raise SystemExit(3)\n", "leaving.py, line 1: SystemExit: 3"),
        "json.py": ("", "would be the module json, which is something else here already"),
    }
    with written(tmp_path, {name: text for name, (text, _) in faults.items()}):
        for name, (_, reason) in faults.items():
            done = inline_command(*SWEEP[:2], f"plugins=[{tmp_path}/{name}]", "mode=plan")
            assert (done.status, len(done.said.splitlines())) == (2, 1), done.said
            assert reason in done.said
            assert name in done.said or name == "column.py"
    for item, reason in (
        ("absent.py", "is not there: no file"),
        ("absent_module", "there is no module 'absent_module'"),
        ("oneshui", "would be the module oneshui, which is something else here already"),
    ):
        done = inline_command(*SWEEP[:2], f"plugins=[{item}]", "mode=plan")
        assert (done.status, len(done.said.splitlines())) == (2, 1), done.said
        assert reason in done.said


def test_a_mean_of_too_few_channels_is_named() -> None:
    with pytest.raises(InputError, match=r"^sweep\.model\.mean is .*0\.5.: it holds too few"):
        load([*SWEEP[:2], "sweep.model.mean=[0.5,0.5]", "sweep.model.std=[1,1,1]"])


def test_what_methods_must_not_read_is_kept_out_of_a_plugin_s_folder(tmp_path: Path) -> None:
    files = {"lab/__init__.py": "", "lab/data/people.csv": "", "alone.py": ""}
    with written(tmp_path, files):
        own = ["sweep=smoke", "mode=plan", f"plugins=[{tmp_path}/lab,{tmp_path}/alone.py]"]
        table = [f"data_dir={tmp_path}/lab/data", "sweep.datasets=[celebahq]"]
        for more, key in (
            ((*SWEEP[1:2], f"output_dir={tmp_path}/lab/runs"), "output_dir"),
            ((*SWEEP[1:2], f"store.uri={tmp_path}/lab/store"), "store.uri"),
            (table, "data_dir"),
            ([f"data_dir={tmp_path}", "datasets.celebahq.path=lab", table[1]], "celebahq.path"),
        ):
            done = inline_command(*own, *more)
            assert (done.status, len(done.said.splitlines())) == (2, 1), done.said
            assert f"{key} " in done.said
            assert "lies in the plugin" in done.said
        done = inline_command(*own, *SWEEP[1:2], f"output_dir={tmp_path}/runs")
        assert done.status == 0, done.said


def test_a_model_that_exists_takes_the_place_of_pretraining(folder: Path, tmp_path: Path) -> None:
    own = [*SWEEP[:2], "sweep.methods=[pretrain,retrain,ssd]", *EPOCH, "sweep.seeds=[0]", *OWN]
    own += [f"sweep.model.factory={folder}/own_net.py:make_net"]
    first = inline_sweep(tmp_path / "first", *own)
    assert not first.scheduler.failures()
    plan = first.plan
    (pretrain,) = [job for job in plan.jobs.values() if job.stage == "pretrain"]
    entry = first.store.find("pretrain", pretrain.key)
    assert entry is not None
    weights = load_file(entry.file("weights.safetensors"))
    assert set(weights) > {"head.weight", "body.0.weight"}
    for number, name in enumerate(("a", "b")):
        save_file({f"module.{k}": v for k, v in weights.items()}, tmp_path / f"{name}.safetensors")
        brought = inline_sweep(
            tmp_path / "second",
            *own,
            f"sweep.pretrained={tmp_path}/{name}.safetensors",
            "sweep.pretrained_saw=split",
        )
        assert not brought.scheduler.failures()
        # Wherever the file lies: nothing is computed again.
        assert len(scan(brought.plan, brought.store, discard=False).reasons) == 0
        done = {job.stage for job in brought.plan.jobs.values()}
        assert "pretrain" not in done
        if number == 0:
            keys_before = set(brought.plan.jobs)
        else:
            assert set(brought.plan.jobs) == keys_before
    before, after = (
        results_frame(it.plan, scan(it.plan, it.store, discard=False).entries)
        for it in (first, brought)
    )
    measured = [name for name in before if before[name].dtype == np.float64]
    measured = [name for name in measured if not re.search("seconds|bytes", str(name))]
    np.testing.assert_array_equal(before[measured].to_numpy(), after[measured].to_numpy())


def test_what_a_model_that_exists_saw_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    file.write_bytes(b"no weights")
    command = [*SWEEP[:2], *EPOCH, "sweep.methods=[retrain]"]
    command += ["sweep.seeds=[0,1]", f"sweep.pretrained={file}"]
    for more, reason in (
        ([], "sweep.pretrained needs sweep.pretrained_saw"),
        (["sweep.pretrained_saw=split"], r"two splits, synthetic_tiny n4 s0 and .* s1"),
        (
            ["sweep.pretrained_saw=all", f"sweep.pretrained={tmp_path}/{{sed}}.safetensors"],
            r"\{seed\} alone may stand in braces",
        ),
        (
            ["sweep.pretrained_saw=all", f"sweep.pretrained={tmp_path}/{{seed}}.safetensors"],
            r"0\.safetensors cannot be read \(No such file",
        ),
    ):
        with pytest.raises(InputError, match=reason):
            load([*command, *more])
    for saw in ("all", "unknown"):
        sweep = load([*command, f"sweep.pretrained_saw={saw}"]).sweep
        (note,) = tables.pretrained_notes(sweep.pretrained)
        assert {"all": "It was trained on all", "unknown": "Nobody said"}[saw] in note
