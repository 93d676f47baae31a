"""Damage of whatever a run has left: it is seen, named, healed, and the table stays the same."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest
from support.damages import Damage, Kind, cut, damage, delete, flip, folder, foreign, grow
from support.inline_command import Ended, inline_command

from oneshui.training.models import make_model, save_weights
from sweeps.config import load
from sweeps.graph.plan import Plan, expand
from sweeps.report.measures import CATALOGUE
from sweeps.report.paper import FILE
from sweeps.report.results import results_frame
from sweeps.store import DamagedEntryError, Entry, LocalStore
from sweeps.store.status import scan
from sweeps.tracking import client as tracking_client

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
MEASURED.append("commit")
"""Columns that no two computations share; the sources may change while the tests run."""


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
        # What was hashed as soon as it was written is noted by the next run.
        assert "nothing to do" in self.run().said
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
UNREAD = ("job.json", "attributes.parquet")
"""Of a description that fits its key nothing but the label can differ, which nobody reads; scores
by attribute are read where several requests are pooled, which is not the case here."""


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
    if asleep:
        # Scores, features and support pictures are opened by the report.
        (left.output / "report" / ".state").unlink()
    # What was to wake one of them may have been another, which is gone with it.
    there = [one for one in asleep if one.path.exists()]
    second = left.run()
    assert second.status == 0, second.said
    for one in there:
        assert is_named(one, second.said) or one.path.name in UNREAD, f"{one}\n{second.said}"
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


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 9))
def test_damaged_results_are_named_and_computed_again_however_they_fall(
    restored: Left, seed: int
) -> None:
    heals(restored, damage(restored.files(ENTRIES), 25, random.Random(seed)))


VIEWS = ("report/*.*", "report/figures/*", "studies.journal", ".mlflow-experiment.json")


def views_heal(left: Left, count: int, seed: int) -> None:
    """Our own views are named and written again from the store, which is the truth."""
    files = [path for path in left.files(*VIEWS) if path.name not in (FILE, ".state")]
    shown = pd.read_parquet(left.output / "report" / "results.parquet")
    done = damage(files, count, random.Random(seed))
    ended = left.run()
    assert ended.status == 0, ended.said
    for one in done:
        assert f"{one.path} is not as it was written" in ended.said, f"{one}\n{ended.said}"
    pd.testing.assert_frame_equal(
        pd.read_parquet(left.output / "report" / "results.parquet"), shown
    )
    left.is_healed()


@pytest.mark.long
def test_damaged_views_are_named_and_written_again(restored: Left) -> None:
    views_heal(restored, 20, 0)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 5))
def test_damaged_views_are_named_and_written_again_however_they_fall(
    restored: Left, seed: int
) -> None:
    views_heal(restored, 20, seed)


DATABASE: tuple[tuple[Kind, int], ...] = (
    (flip, 1),
    (flip, 200),
    (cut, 1),
    (grow, 1),
    (delete, 1),
    (foreign, 1),
    (folder, 1),
)


@pytest.mark.long
@pytest.mark.parametrize(("kind", "times"), DATABASE, ids=lambda it: getattr(it, "__name__", it))
def test_a_damaged_database_of_mlflow_is_written_again(
    restored: Left, kind: Kind, times: int
) -> None:
    database = restored.output / "mlflow.db"
    before = published(database)
    rng = random.Random(times)
    for _ in range(times):
        kind(database, rng, [])
    is_lost = tracking_client.is_lost(database)
    ended = restored.run()
    assert ended.status == 0, ended.said
    # A bit in one of its numbers, where its own check finds nothing, waits for mode=report.
    assert is_lost == (f"{database} is not as it was written" in ended.said)
    if not is_lost:
        ended = restored.run("mode=report")
        assert ended.status == 0, ended.said
    assert published(database) == before
    restored.is_healed()


def published(database: Path) -> list[tuple[str, str, str]]:
    """What MLflow shows of every row that is not deleted: name, key and value."""
    query = """
        SELECT runs.name, {0}.key, {0}.value FROM {0} JOIN runs USING (run_uuid)
        WHERE runs.lifecycle_stage = 'active' AND {0}.key NOT LIKE 'results/%'
    """
    with contextlib.closing(sqlite3.connect(database)) as connection:
        tables = ("latest_metrics", "params")
        found = [connection.execute(query.format(table)).fetchall() for table in tables]
    return sorted((str(name), str(key), str(value)) for rows in found for name, key, value in rows)


def test_other_things_in_the_places_of_what_is_ours_make_room(restored: Left) -> None:
    output, store = restored.output, restored.output / "store"
    of_stage = {job.stage: job for job in restored.plan.jobs.values()}
    names = {stage: f"{stage}-{job.key}" for stage, job in of_stage.items()}
    # What must run again meets all the rest.
    for stage in ("cache", "pretrain", "prepare", "evaluate"):
        shutil.rmtree(store / stage)
    folders = [store / "score", store / ".pictures", store / ".discarded", output / "logs"]
    folders += [output / "mlartifacts", store / ".work" / names["cache"]]
    folders += [store / ".checkpoints" / names[stage] for stage in ("pretrain", "prepare")]
    for path in folders:
        shutil.rmtree(path, ignore_errors=True)
        path.write_text("hello\n")
    files = [output / name for name in ("studies.journal", "mlflow.db", ".mlflow-experiment.json")]
    files += [output / ".data.lock", output / ".publish.lock", output / "report" / ".state"]
    files += [store / ".index.lock", store / ".weights.lock"]
    files += [store / ".leases" / f"{names['pretrain']}.3"]
    for path in files:
        path.unlink(missing_ok=True)
        (path / "within").mkdir(parents=True)
    (store / ".leases" / f"{names['prepare']}.1").write_bytes(b"\xff[[[")
    (store / ".leases" / f"{names['evaluate']}.\N{SUPERSCRIPT TWO}").write_text("{}")
    ended = restored.run()
    assert ended.status == 0, ended.said
    assert "store entry score/ is damaged: a file stands in its folder's place" in ended.said
    restored.is_healed()


def test_a_half_decoded_cache_with_foreign_files_is_begun_again(restored: Left) -> None:
    store = restored.output / "store"
    (job,) = (job for job in restored.plan.jobs.values() if job.stage == "cache")
    shutil.rmtree(store / "cache")
    unfinished = store / ".work" / f"cache-{job.key}"
    (unfinished / "images.npy").mkdir(parents=True)
    (unfinished / "images.npy.journal").write_bytes(b"[" * 100_000)
    (unfinished / "notes.txt").write_text("mine\n")
    assert restored.run().status == 0
    restored.is_healed()


def test_what_a_person_fills_is_refused_and_never_thrown_away(restored: Left) -> None:
    table = restored.output / "report" / FILE
    table.write_bytes(table.read_bytes() + b"\xff\xfe,1\n")
    damaged = table.read_bytes()
    assert restored.run().status == 0
    refused = restored.run("mode=report")
    assert refused.status == 2
    assert str(table) in refused.said
    assert table.read_bytes() == damaged
    restored.is_healed()


def test_damaged_logs_and_copies_of_the_report_are_inputs_of_nothing(restored: Left) -> None:
    """People alone read them; MLflow's copies are made anew with the report."""
    damage(restored.files("logs/*", "mlartifacts/**/*"), 40, random.Random(0))
    restored.is_healed()


def drawn_again(left: Left, seed: int) -> None:
    """Drawn faces are what was drawn: the table cannot come from others."""
    done = damage(left.files("data/*/*.json", "data/*/*/**/*"), 30, random.Random(seed))
    shutil.rmtree(left.output / "store" / "cache")
    ended = left.run()
    assert ended.status == 0, ended.said
    assert f"{len(done)} of the files in " in ended.said
    left.is_healed()


@pytest.mark.long
def test_damaged_drawn_faces_are_named_and_drawn_again(restored: Left) -> None:
    drawn_again(restored, 0)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 3))
def test_damaged_drawn_faces_are_drawn_again_however_they_fall(restored: Left, seed: int) -> None:
    drawn_again(restored, seed)


@pytest.mark.parametrize("kind", [flip, cut, grow, foreign, folder])
@pytest.mark.parametrize("pattern", ["data/*/faces.sha256", "store/.pictures/*"])
def test_what_is_noted_of_pictures_is_believed_only_as_it_was_written(
    restored: Left, pattern: str, kind: Kind
) -> None:
    (path,) = restored.files(pattern)
    kind(path, random.Random(0), [])
    ended = restored.run()
    assert ended.status == 0, ended.said
    assert "nothing to do" in ended.said
    restored.is_healed()
