"""Damage of whatever a run has left: it is seen, named, healed, and the table stays the same."""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest
from support.damages import Damage, damage
from support.inline_command import Ended, inline_command

from oneshui.training.models import make_model, save_weights
from sweeps.config import load
from sweeps.graph.plan import Plan, expand
from sweeps.report.measures import CATALOGUE
from sweeps.report.results import results_frame
from sweeps.store import DamagedEntryError, Entry, LocalStore
from sweeps.store.status import scan

COMMAND = [
    "sweep=smoke",
    "sweep.datasets=[synthetic_tiny]",
    "sweep.methods=[pretrain,retrain,ssd]",
    "sweep.seeds=[0]",
    "profile=tuned",
    "tuning.trials=3",
    "tuning.batch=2",
    "tuning.requests=2",
    "tuning.true_tow=true",
]
MEASURED = [
    name
    for name, it in CATALOGUE.items()
    if it.unit == "seconds" or name.endswith(("peak_bytes", "gpu_bytes"))
]
"""Columns that no two computations share."""


class Left:
    """What a finished sweep has left, and how to come back to it."""

    def __init__(self, folder: Path) -> None:
        """Run the sweep, with starting weights from a file, so that every stage has results."""
        self.output, self._kept = folder / "out", folder / "kept"
        start = folder / "start.safetensors"
        model = dataclasses.replace(load(COMMAND).sweep.model, weights="random")
        save_weights(make_model(model, 1, seed=0), start)
        self.command = [*COMMAND, f"sweep.model.weights={start}"]
        self.command += [f"output_dir={self.output}"]
        done = self.run()
        assert done.status == 0, done.said
        self.plan: Plan = expand(load(self.command).sweep)
        self.table = self.read_table()
        self.output.rename(self._kept)

    def restore(self) -> None:
        """Everything as the sweep left it, at the same place."""
        shutil.rmtree(self.output, ignore_errors=True)
        shutil.copytree(self._kept, self.output)

    def run(self, *more: str) -> Ended:
        return inline_command(*self.command, *more)

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.output / "store")

    def read_table(self) -> pd.DataFrame:
        entries = scan(self.plan, self.store, discard=False).entries
        assert entries.keys() == self.plan.jobs.keys()
        return results_frame(self.plan, entries).drop(columns=MEASURED)

    def files(self, *patterns: str) -> list[Path]:
        return sorted(p for one in patterns for p in self.output.glob(one) if p.is_file())

    def is_healed(self) -> None:
        """A further run has nothing to do, every file is as its manifest says, and the table."""
        again = self.run()
        assert again.status == 0, again.said
        assert "nothing to do" in again.said
        for marker in ("damaged", "not as it was written", "unreadable", "warning"):
            assert marker not in again.said
        pd.testing.assert_frame_equal(self.read_table(), self.table)


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    return Left(tmp_path_factory.mktemp("corruption"))


@pytest.fixture
def restored(left: Left) -> Iterator[Left]:
    left.restore()
    yield left
    shutil.rmtree(left.output, ignore_errors=True)


ENTRIES = "store/[a-z]*/*/*"


def sleeping(left: Left, done: Sequence[Damage]) -> list[Damage]:
    """Damages that are still there, which whoever opens the file sees."""
    found = []
    for one in done:
        entry = found_entry(left, one)
        if entry is not None and one.path.name in entry.files:
            try:
                entry.file(one.path.name)
            except DamagedEntryError:
                found.append(one)
    return found


def found_entry(left: Left, one: Damage) -> Entry | None:
    stage, key = one.path.parts[-3:-1]
    try:
        return left.store.find(stage, key)  # type: ignore[arg-type]
    except DamagedEntryError as error:
        raise AssertionError(f"{one} is not healed") from error


def is_named(one: Damage, said: str) -> bool:
    stage, key = one.path.parts[-3:-1]
    return f"store entry {stage}/{key} is damaged: " in said


def heals(left: Left, done: Sequence[Damage]) -> None:
    """Run until all is read again: what no job needed to open waits for one that does."""
    first = left.run()
    assert first.status == 0, first.said
    asleep = sleeping(left, done)
    assert all(is_named(one, first.said) for one in done if one not in asleep), first.said
    wake = {one.path.parts[-2] for one in asleep}
    for job in left.plan.jobs.values():
        if wake & set(job.needs):
            shutil.rmtree(left.output / "store" / job.stage / job.key, ignore_errors=True)
    if any("score" in one.path.parts for one in asleep):
        # Scores are opened by the report.
        (left.output / "report" / ".state").unlink()
    second = left.run()
    assert second.status == 0, second.said
    for one in asleep:
        # Of a description that fits its key nothing but the label can differ, which nobody reads.
        assert is_named(one, second.said) or one.path.name == "job.json", f"{one}\n{second.said}"
    left.is_healed()


def test_every_flipped_bit_of_a_result_is_seen_at_once(restored: Left) -> None:
    rng = random.Random(16)
    results = restored.files("store/[a-z]*/*/result.json")
    for _ in range(400):
        path = rng.choice(results)
        sound = path.read_bytes()
        data = bytearray(sound)
        place, bit = rng.randrange(len(data)), 1 << rng.randrange(8)
        data[place] ^= bit
        path.write_bytes(data)
        stage, key = path.parts[-3:-1]
        with pytest.raises(DamagedEntryError):
            restored.store.find(stage, key)  # type: ignore[arg-type]
        path.write_bytes(sound)
    restored.is_healed()


def test_damaged_results_are_named_and_computed_again(restored: Left) -> None:
    heals(restored, damage(restored.files(ENTRIES), 25, random.Random(0)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_damaged_results_are_named_and_computed_again_however_they_fall(
    restored: Left, seed: int
) -> None:
    heals(restored, damage(restored.files(ENTRIES), 25, random.Random(seed)))
