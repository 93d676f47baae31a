"""The commands about finished sweeps, as a user gives them; nothing of Ray is started."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from safetensors.torch import save_file
from support.inline_command import Ended, inline_command
from support.inline_sweep import inline_sweep
from support.own_code import NET, written

from oneshui import plugins
from sweeps import described
from sweeps.archive.care import note_use
from sweeps.cli.reproduce import reproduce
from sweeps.config import load
from sweeps.graph.job import digest
from sweeps.graph.launch import LaunchSpec
from sweeps.graph.plan import Plan, expand
from sweeps.stages.context import environment
from sweeps.store import LocalStore, Store
from sweeps.store.base import SEAL, content_of, encoded
from sweeps.store.status import scan

ROWS = (
    "sweep=smoke",
    "sweep.datasets=[synthetic_tiny]",
    "sweep.methods=[pretrain,retrain,ssd]",
)
SHRINK = """
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
        model = copy.deepcopy(request.model)
        model.get_classifier().weight.data.mul_(self.factor)
        return model
"""


def done(*arguments: str) -> Ended:
    ended = inline_command(*arguments)
    assert ended.status == 0, ended.said
    return ended


def described_sweep(folder: Path, *command: str) -> Path:
    """A finished sweep that says what it is, without a report."""
    inline_sweep(folder, *command)
    described.write(load([*command, f"output_dir={folder}"]), folder)
    return folder


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep with its report; tests must not change it."""
    folder = tmp_path_factory.mktemp("sweep") / "home"
    inline_sweep(folder, *ROWS)
    done(*ROWS, f"output_dir={folder}")
    return folder


@pytest.fixture(scope="module")
def archive(sweep: Path) -> Path:
    to = sweep.parent / "x.tar.zst"
    said = done("mode=export", f"to={to}", "without=[weights,images]", f"output_dir={sweep}").said
    assert "x.tar.zst: " in said
    assert "left out: " in said
    return to


@pytest.fixture
def stranger(archive: Path, tmp_path: Path) -> Path:
    """Where a stranger has unpacked the archive."""
    subprocess.run(["tar", "--zstd", "-xf", str(archive), "-C", str(tmp_path)], check=True)
    return tmp_path / "smoke"


def tables(folder: Path) -> dict[str, bytes]:
    kinds = ("*.csv", "*.md", "*.tex", "*.parquet")
    return {p.name: p.read_bytes() for kind in kinds for p in (folder / "report").glob(kind)}


def test_a_stranger_rebuilds_every_table_to_the_byte(sweep: Path, stranger: Path) -> None:
    shutil.rmtree(stranger / "report")
    ended = done("mode=report", f"output_dir={stranger}")
    assert "damaged" not in ended.said
    assert tables(stranger) == tables(sweep) != {}
    assert str(sweep) not in (stranger / "plan.json").read_text()
    assert str(sweep) not in (stranger / "sweep.yaml").read_text()


def test_a_row_is_computed_again_and_compared(stranger: Path) -> None:
    """From the archive alone: its weights and pictures were left out."""
    asked = ("mode=why", "row=synthetic_tiny 4 ssd tow", "run=true", f"output_dir={stranger}")
    scores = {path: path.read_bytes() for path in stranger.glob("store/score/*/result.json")}
    for path in scores:
        sealed_again(path, lambda document: document["value"].update(tow=0.125))
    ended = inline_command(*asked)
    assert ended.status == 1
    assert "first to differ is score ssd synthetic_tiny n4 s0: the same was asked of" in ended.said
    (place,) = (stranger / "again").iterdir()
    assert str(place) in ended.said
    # What was computed is kept until it is the same; now nothing has to run.
    for path, content in scores.items():
        path.write_bytes(content)
    said = done(*asked).said
    own = {json.loads(text)["key"]: json.loads(text)["content"] for text in scores.values()}
    for seed in (0, 1):
        assert f"score ssd synthetic_tiny n4 s{seed}: same content hash " in said
    assert sum(content[:16] in said for content in own.values()) == 2
    assert "pretrain: 2 of 2 with the same content hash" in said
    assert not place.exists()


def test_methods_that_run_again_cannot_reach_the_results_that_are_there(stranger: Path) -> None:
    spec = load(["mode=why", "row=synthetic_tiny 4 ssd tow", "run=true", f"output_dir={stranger}"])
    plan = expand(spec.sweep)
    entries = scan(plan, LocalStore(stranger / "store"), discard=False).entries
    protected: list[Path] = []

    class ReachedError(Exception):
        pass

    def compute(spec: LaunchSpec, console: Console, plan: Plan, store: Store, *left: Any) -> None:
        del console, plan
        protected.extend(environment(spec, store, left[-1]).protected)
        raise ReachedError

    with pytest.raises(ReachedError):
        reproduce(spec, Console(quiet=True), plan, entries, compute)
    assert {stranger, stranger / "store"} <= set(protected)


@pytest.mark.long
def test_a_row_of_code_and_a_model_that_were_brought_is_computed_again_elsewhere(
    tmp_path: Path,
) -> None:
    """By who has the archive and the code, and not the file of the model."""
    file = tmp_path / "model.safetensors"
    with written(tmp_path / "mine", {"shrink.py": SHRINK, "own_net.py": NET}) as mine:
        own = f"plugins=[{mine}/shrink.py,{mine}/own_net.py]"
        plugins.load([f"{mine}/own_net.py"])
        save_file(sys.modules["own_net"].make_net(40).state_dict(), file)
        done(
            *(*ROWS[:2], "sweep.methods=[pretrain,retrain,shrink]", "sweep.seeds=[0]", own),
            *("sweep.training.epochs=1", "sweep.model.factory=own_net:make_net"),
            *(f"sweep.pretrained={file}", "sweep.pretrained_saw=unknown"),
            f"output_dir={tmp_path / 'home'}",
        )
        done("mode=export", f"to={tmp_path}/x.tar.zst", f"output_dir={tmp_path / 'home'}")
        file.unlink()
        subprocess.run(["tar", "--zstd", "-xf", "x.tar.zst"], cwd=tmp_path, check=True)
        asked = ("mode=why", "row=synthetic_tiny 4 shrink tow", "run=true", own)
        said = done(*asked, f"output_dir={tmp_path / 'smoke'}").said
    unknown = inline_command(*asked[:-1], f"output_dir={tmp_path / 'smoke'}")
    assert (unknown.status, unknown.said.count("\n")) == (2, 1)
    assert "the method shrink is a plugin's: name it, as in plugins=" in unknown.said
    assert "from a file: what it is made of is not here, the stored one is taken" in said
    assert "score shrink synthetic_tiny n4 s0: same content hash " in said


@pytest.mark.long
def test_a_new_row_on_an_archive_computes_what_it_needs(stranger: Path) -> None:
    before = {path.parent.name for path in stranger.glob("store/unlearn/*/result.json")}
    plan = done(
        f"sweep={stranger / 'sweep.yaml'}",
        f"output_dir={stranger}",
        "sweep.methods=[pretrain,retrain,ssd,jit]",
    )
    assert "left out)" in plan.said.replace(",", ")")
    frame = pd.read_parquet(stranger / "report" / "results.parquet")
    assert frame.loc[frame["method"] == "jit", "tow"].notna().all()
    after = {path.parent.name for path in stranger.glob("store/unlearn/*/result.json")}
    assert before < after


def test_two_sweeps_are_compared_and_joined(sweep: Path, tmp_path: Path) -> None:
    other = described_sweep(tmp_path / "other", *ROWS, "sweep.rows.ssd.alpha=20.0")
    said = done("mode=diff", f"other={other}", f"output_dir={sweep}").said
    assert "Rows: 2 the same, 1 changed, 0 only here, 0 only there." in said
    assert "another hyperparameters.alpha: 50 and 20" in " ".join(said.split())
    joined = tmp_path / "joined"
    said = done("mode=join", f"from=[{sweep},{other}]", f"output_dir={joined}").said
    assert f"report: {joined / 'report' / 'index.html'}" in said
    frame = pd.read_parquet(joined / "report" / "results.parquet")
    assert set(frame["sweep"]) == {"smoke in home", "smoke in other"}
    assert [path.name for path in joined.iterdir()] == ["report"]
    described.write(load([*ROWS, "report.margin=0.03", f"output_dir={other}"]), other)
    ended = inline_command("mode=join", f"from=[{sweep},{other}]", f"output_dir={joined}")
    assert ended.status == 2
    assert f"report.margin is 0.02 in {sweep}, 0.03 in {other}: say which" in ended.said


def test_damage_of_another_sweep_is_its_own(sweep: Path, tmp_path: Path) -> None:
    """The sweep that is asked from loses nothing by it, and a joined folder gets no store."""
    other = tmp_path / "other"
    shutil.copytree(sweep, other)
    for path in other.glob("store/score/*/people.parquet"):
        path.write_bytes(path.read_bytes()[::-1])
    before = set(sweep.glob("store/*/*"))
    joined = tmp_path / "joined"
    for asked in (
        ("mode=diff", f"other={other}", f"output_dir={sweep}"),
        ("mode=join", f"from=[{sweep},{other}]", f"output_dir={joined}"),
    ):
        assert "people.parquet has changed since it was written" in done(*asked).said
    assert set(sweep.glob("store/*/*")) == before
    assert [path.name for path in joined.iterdir()] == ["report"]


def test_what_was_run_in_a_folder_stays_while_another_sweep_is_asked_about(tmp_path: Path) -> None:
    own = described_sweep(tmp_path / "own", *ROWS)
    note_use(LocalStore(own / "store"), expand(load(ROWS).sweep), own)
    for path in own.glob("store/*/*/result.json"):
        sealed_again(path, lambda it: it["cost"].update(started=it["cost"]["started"] - 86400))
    fewer = (*ROWS[:2], "sweep.methods=[pretrain,retrain]")
    asked = ("mode=store", "prune=unreachable", "yes=true", f"output_dir={own}")
    assert "nothing to remove" in done(*fewer, *asked).said


def test_a_store_is_cleared_of_what_nobody_needs(tmp_path: Path) -> None:
    """Of what another sweep had put into it, which is not known any more."""
    with_jit = (*ROWS[:2], "sweep.methods=[pretrain,retrain,ssd,jit]")
    own = described_sweep(tmp_path / "own", *with_jit)
    described.write(load([*ROWS, f"output_dir={own}"]), own)
    asked = ("mode=store", "prune=unreachable", f"output_dir={own}")
    fresh = done(*asked).said
    assert "nothing to remove" in fresh
    assert "stay: 6 results, younger than an hour or undated" in fresh
    for path in own.glob("store/*/*/result.json"):
        sealed_again(path, lambda it: it["cost"].update(started=it["cost"]["started"] - 86400))
    before = set(own.glob("store/[a-z]*/*"))
    shown = done(*asked).said
    assert "would be removed: 2 results of unlearn" in shown
    assert "to remove them: " in shown
    keep = tmp_path / "keep"
    keep.mkdir()
    described.write(load([*with_jit, f"output_dir={keep}"]), keep)
    assert "nothing to remove" in done(*asked, f"keep=[{keep}]").said
    assert set(own.glob("store/[a-z]*/*")) == before
    assert "removed: 2 results of unlearn" in done(*asked, "yes=true").said
    gone = before - set(own.glob("store/[a-z]*/*"))
    assert sorted(path.parent.name for path in gone) == [
        *["evaluate"] * 2, *["score"] * 2, *["unlearn"] * 2
    ]  # fmt: skip
    plan = expand(load(ROWS).sweep)
    assert not scan(plan, LocalStore(own / "store"), discard=False).reasons


def sealed_again(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest as nobody but a store can."""
    document = json.loads(path.read_bytes())
    document.pop(SEAL)
    change(document)
    document["content"] = content_of(document["files"], document["value"])
    path.write_bytes(encoded({**document, SEAL: digest(document)}))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["mode=export"], "mode=export needs to=NAME.tar.zst"),
        (["mode=export", "to=x.zip"], "must end with .tar.zst"),
        (["mode=export", "to=x.tar.zst", "without=[faces]"], "without.0 is 'faces'"),
        (["mode=diff"], "mode=diff needs other=FOLDER"),
        (["mode=diff", "other=nowhere"], "nowhere holds no plan.json"),
        (["mode=store", "prune=all"], "prune is 'all'"),
        (["mode=store", "prune=unreachable", "keep=[nowhere]"], "nowhere holds no plan.json"),
        (["mode=join", "from=[a]"], "mode=join needs from=[FOLDER,FOLDER]"),
        (["mode=join", "from=[a,a]"], "from names a folder twice"),
        (["mode=join", "from=[a,b]"], "is the folder of a sweep; set output_dir"),
        (["mode=why", "row=x", "run=true"], "it must be of the form row="),
    ],
)
def test_what_does_not_fit_gets_one_sentence(
    arguments: list[str], sentence: str, sweep: Path
) -> None:
    ended = inline_command(*arguments, f"output_dir={sweep}")
    assert ended.status == 2
    (line,) = ended.said.strip().splitlines()
    assert sentence in line


def test_an_archive_is_not_overwritten(archive: Path, sweep: Path) -> None:
    before = archive.read_bytes()
    ended = inline_command("mode=export", f"to={archive}", f"output_dir={sweep}")
    assert ended.status == 2
    assert "is there already; name another file, or say replace=true" in ended.said
    assert archive.read_bytes() == before
