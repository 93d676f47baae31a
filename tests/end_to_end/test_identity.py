"""What a number is made of: each kind of input that changes is noticed, and nothing else is.

One small sweep on pictures, labels, weights and a method that somebody brought is computed once;
each test changes one thing in a copy, and looks at what would run again and why.
"""

from __future__ import annotations

import importlib
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console
from support.inline_sweep import inline_sweep

from oneshui.methods.base import METHODS
from oneshui.sources import source_of
from oneshui.training.models import make_model, save_weights
from sweeps.cli.datasets import prepare_datasets, prepare_weights
from sweeps.composition import CONF
from sweeps.config import load
from sweeps.graph.plan import expand
from sweeps.store import open_store
from sweeps.store.status import scan

PLUGIN = """
import copy
from dataclasses import dataclass
from typing import ClassVar
from brought_steps import SIGN
from oneshui.methods.base import Range, register
from oneshui.spec import Access

@register
@dataclass(frozen=True, kw_only=True)
class Brought:
    name: ClassVar[str] = "brought"
    access: ClassVar[Access] = Access.SUPPORT
    search_space: ClassVar[dict[str, Range]] = {}
    size: float = 0.01

    def unlearn(self, request):
        model = copy.deepcopy(request.model)
        for weight in model.parameters():
            weight.data.add_(SIGN * self.size)
        return model
"""
PEOPLE, EACH = 30, 4
DATA = {"index", "cache", "split"}
TRAINED = {"pretrain", "retrain", "prepare", "unlearn", "evaluate", "score"}


@dataclass
class Brought:
    """What somebody brought, and the results of a sweep on it.

    Attributes:
        folder: With ``data``, ``weights.safetensors``, ``code`` and ``out``.
    """

    folder: Path

    @property
    def table(self) -> Path:
        return self.folder / "data" / "mine" / "images.csv"

    @property
    def command(self) -> list[str]:
        return [
            "sweep=smoke",
            "sweep.seeds=[0]",
            "sweep.methods=[pretrain,retrain,ssd,brought]",
            "datasets.mine={layout: table, path: mine/images.csv, forget_sizes: [3]}",
            "sweep.datasets=[mine]",
            f"data_dir={self.folder / 'data'}",
            f"sweep.model.weights={self.folder / 'weights.safetensors'}",
            f"output_dir={self.folder / 'out'}",
        ]

    def to_run(self, *further: str) -> dict[str, str]:
        """Which jobs a command would run, by label without the cell, and why."""
        load_plugin(self.folder / "code")
        spec = load([*self.command, *further])
        store, logs = open_store(spec.places.store_uri), self.folder / "logs"
        console = Console(file=io.StringIO())
        prepare_weights(spec.sweep, store, logs, console)
        prepare_datasets(spec.sweep, spec.places, store, logs, console)
        plan = expand(spec.sweep)
        reasons = scan(plan, store, discard=False).reasons
        return {plan.jobs[key].label.partition(" mine n")[0]: why for key, why in reasons.items()}

    def edit(self, old: str, new: str) -> None:
        """Change the table."""
        text = self.table.read_text()
        assert old in text
        self.table.write_text(text.replace(old, new, 1))


def load_plugin(code: Path) -> None:
    """Import the method anew, as a new process would."""
    for name in ("brought_method", "brought_steps"):
        sys.modules.pop(name, None)
    METHODS.known.pop("brought", None)
    source_of.cache_clear()
    importlib.invalidate_caches()
    sys.path.insert(0, str(code))
    try:
        importlib.import_module("brought_method")
    finally:
        sys.path.remove(str(code))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brought]:
    brought = Brought(tmp_path_factory.mktemp("whole"))
    pictures = brought.table.parent / "pictures"
    pictures.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(PEOPLE * EACH):
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(pictures / f"{number}.bmp")
        row = {"path": f"pictures/{number}.bmp", "identity": f"person {number // EACH}"}
        rows.append({**row, "smiling": number % 2, "outside": int(number % 3 == 0)})
    pd.DataFrame(rows).to_csv(brought.table, index=False)
    model = load(["sweep=smoke"]).sweep.model
    save_weights(make_model(model, 2, seed=1), brought.folder / "weights.safetensors")
    code = brought.folder / "code"
    code.mkdir()
    (code / "brought_method.py").write_text(PLUGIN)
    (code / "brought_steps.py").write_text("SIGN = 1\n")
    load_plugin(code)
    sweep = inline_sweep(brought.folder / "out", *brought.command[:-1], fresh=True)
    assert not sweep.scheduler.failures()
    yield brought
    METHODS.known.pop("brought", None)
    source_of.cache_clear()


@pytest.fixture
def brought(whole: Brought, tmp_path: Path) -> Brought:
    """A copy at another place, with the pictures' times as they were."""
    shutil.copytree(whole.folder, tmp_path / "copy")
    return Brought(tmp_path / "copy")


def stages(reasons: dict[str, str]) -> set[str]:
    return {label.split()[0] for label in reasons}


def test_in_another_place_nothing_runs(brought: Brought) -> None:
    assert brought.to_run() == {}


def other_picture(brought: Brought) -> None:
    path = brought.table.parent / "pictures" / "7.bmp"
    before = path.stat()
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    assert path.stat().st_size == before.st_size


def other_weights(brought: Brought) -> None:
    model = load(["sweep=smoke"]).sweep.model
    save_weights(make_model(model, 2, seed=2), brought.folder / "weights.safetensors")


def swapped_rows(brought: Brought) -> None:
    head, first, *rest = brought.table.read_text().splitlines()
    brought.table.write_text("\n".join([head, *rest, first]) + "\n")


def write_code(name: str, old: str, new: str) -> Callable[[Brought], None]:
    def write(brought: Brought) -> None:
        path = brought.folder / "code" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return write


OF_BROUGHT = {
    "unlearn brought": "method changed",
    "evaluate brought": "input changed",
    "score brought": "input changed",
}


@pytest.mark.parametrize(
    ("change", "again"),
    [
        # The index itself is read anew at once, before anything is counted.
        (other_picture, {"cache", "split", *TRAINED}),
        (lambda it: it.edit("3.bmp,person 0,1,1", "3.bmp,person 0,0,1"), {"split", *TRAINED}),
        (lambda it: it.edit("smiling", "laughing"), {"split", *TRAINED}),
        (lambda it: it.edit("3.bmp,person 0", "3.bmp,person 1"), {"split", *TRAINED}),
        (swapped_rows, {"cache", "split", *TRAINED}),
    ],
    ids=["a picture of equal size", "a label", "an attribute's name", "a person", "the order"],
)
def test_data_that_change_are_noticed(
    brought: Brought, change: Callable[[Brought], None], again: set[str]
) -> None:
    change(brought)
    reasons = brought.to_run()
    assert stages(reasons) == again
    assert set(reasons.values()) == {"input changed"}


def test_a_file_of_weights_that_is_exchanged_is_noticed(brought: Brought) -> None:
    other_weights(brought)
    reasons = brought.to_run()
    assert stages(reasons) == TRAINED
    assert set(reasons.values()) == {"input changed"}


@pytest.mark.parametrize(
    "change",
    [
        write_code("brought_method.py", "SIGN * self.size", "-SIGN * self.size"),
        write_code("brought_steps.py", "SIGN = 1", "SIGN = -1"),
    ],
    ids=["the method's file", "a file beside it"],
)
def test_a_plugin_whose_code_is_edited_runs_again_and_no_other_method(
    brought: Brought, change: Callable[[Brought], None]
) -> None:
    change(brought)
    assert brought.to_run() == OF_BROUGHT


def touched(brought: Brought) -> None:
    for path in [*brought.table.parent.rglob("*"), *(brought.folder / "code").glob("*.py")]:
        os.utime(path, (1_000_000_000, 1_000_000_000))


def moved_weights(brought: Brought) -> None:
    file = brought.folder / "weights.safetensors"
    shutil.copy(file, brought.folder / "renamed.safetensors")


@pytest.mark.parametrize(
    ("change", "further"),
    [
        (touched, ()),
        (moved_weights, ("sweep.model.weights={folder}/renamed.safetensors",)),
        (lambda _: None, ("cluster.workers=3", "cluster.cpus_per_worker=2")),
        (lambda _: None, ("cluster.gpus_per_worker=0.5", "cluster.price_per_gpu_hour=2")),
        (lambda _: None, ("output_dir={folder}/other", "store.uri={folder}/out/store")),
        (lambda _: None, ("tracking.uri=http://127.0.0.1:9", "profile=paper")),
    ],
    ids=["times", "the path of the weights", "workers", "devices", "folders", "tracking"],
)
def test_what_cannot_change_a_number_runs_nothing(
    brought: Brought, change: Callable[[Brought], None], further: tuple[str, ...]
) -> None:
    change(brought)
    assert brought.to_run(*(text.format(folder=brought.folder) for text in further)) == {}


def test_comments_in_the_configuration_run_nothing(
    brought: Brought, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(CONF, tmp_path / "conf")
    for path in (tmp_path / "conf").rglob("*.yaml"):
        # The first line may be Hydra's own.
        first, _, rest = path.read_text().partition("\n")
        path.write_text(f"{first}\n# another comment\n{rest}\n# and one more\n")
    monkeypatch.setattr("sweeps.composition.CONF", tmp_path / "conf")
    assert brought.to_run() == {}
