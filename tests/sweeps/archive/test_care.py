"""What a store holds, for whom, and what may go."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from contracts.store_contract import job, publish

from oneshui.errors import InputError
from sweeps.archive.care import (
    FRESH_SECONDS,
    Holding,
    User,
    age_of,
    holdings,
    note_use,
    unreachable,
    users,
)
from sweeps.graph.job import Job
from sweeps.graph.plan import Plan
from sweeps.store import LocalStore, Store, open_store
from sweeps.store.bucket import RemoteStore
from sweeps.store.objects import Bucket

NOW = 1_000_000.0


def stored(store: Store, number: int, age: float) -> Job:
    """A result so many seconds old."""
    what = job(number)
    with store.work(what) as work:
        (work.folder / "data.txt").write_text("hello" * (number + 1))
        work.publish({}, {}, {"started": NOW - age - 10, "seconds": 10.0})
    return what


def plan_of(*jobs: Job, name: str = "some") -> Plan:
    from support.publishing import PLAN

    sweep = dataclasses.replace(PLAN.sweep, name=name)
    return Plan(sweep=sweep, jobs={one.key: one for one in jobs}, results=())


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return LocalStore(tmp_path / "store")
    found: RemoteStore = request.getfixturevalue("store")
    return found


def test_what_no_sweep_reaches_may_go(place: Store, tmp_path: Path) -> None:
    mine, theirs, old, young = (
        stored(place, number, age) for number, age in enumerate((9e4, 9e4, 9e4, 60.0))
    )
    (tmp_path / "theirs").mkdir()
    note_use(place, plan_of(theirs, name="theirs"), tmp_path / "theirs")
    known = users(place)
    assert [(user.sweep, user.is_gone) for user in known] == [("theirs", False)]
    held = holdings(place)
    assert {one.key for one in held} == {one.key for one in (mine, theirs, old, young)}
    sizes = {one.key: one.size for one in held}
    assert sizes[theirs.key] - sizes[mine.key] == pytest.approx(5, abs=3)
    own = User.of(plan_of(mine), tmp_path)
    found = unreachable(place, held, [own, *known], NOW)
    assert [one.key for one in found.removable] == [old.key]
    assert [one.key for one in found.fresh] == [young.key]
    place.remove("split", old.key)
    again = open_store(place.address)
    assert again.find("split", old.key) is None
    assert again.find("split", mine.key) is not None
    assert old.key not in again.keys("split")


def test_the_last_plan_of_a_folder_counts(place: Store, tmp_path: Path) -> None:
    first, second = stored(place, 0, 9e4), stored(place, 1, 9e4)
    note_use(place, plan_of(first), tmp_path)
    note_use(place, plan_of(second), tmp_path)
    (user,) = users(place)
    assert user.reached == {("split", second.key)}


def test_a_sweep_whose_folder_was_removed_is_known_by_that(place: Store, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    folder.mkdir()
    note_use(place, plan_of(stored(place, 0, 9e4)), folder)
    shutil.rmtree(folder)
    (user,) = users(place)
    assert user.is_gone
    # What another machine has cannot be looked at.
    assert not dataclasses.replace(user, host="elsewhere").is_gone


def test_results_of_an_earlier_version_stay_while_their_sweep_is_recorded(
    place: Store, tmp_path: Path
) -> None:
    """Keys are recorded: nothing has to be expanded as it was then."""
    earlier = dataclasses.replace(job(3), label="of an earlier version")
    object.__setattr__(earlier, "key", earlier.key_at(7, {}))
    note_use(place, plan_of(earlier), tmp_path)
    held = [Holding(stage="split", key=earlier.key, size=1, ended=NOW - 9e9)]
    assert unreachable(place, held, users(place), NOW).removable == ()
    assert unreachable(place, held, [], NOW).removable == tuple(held)


def test_nothing_goes_while_somebody_unknown_is_at_work(place: Store) -> None:
    old, running = stored(place, 0, 9e4), job(1)
    lease = place.leases.acquire(running)
    assert lease is not None
    with pytest.raises(InputError, match=f"split-{running.key} is worked on for a sweep that is"):
        unreachable(place, holdings(place), [], NOW)
    known = User.of(plan_of(running), Path("/somewhere"))
    found = unreachable(place, holdings(place), [known], NOW)
    assert [one.key for one in found.removable] == [old.key]
    place.leases.release(running, lease)


def test_what_says_no_age_stays(tmp_path: Path) -> None:
    """It may be on its way into a bucket, or damaged: a run takes it out of the way."""
    store = LocalStore(tmp_path)
    what = stored(store, 0, 9e4)
    (tmp_path / "split" / what.key / "result.json").write_text("{}")
    (held,) = holdings(store)
    assert age_of(held, NOW) == "unknown"
    assert unreachable(store, [held], [], NOW).removable == ()


def test_ages_are_told(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for number, age in enumerate((FRESH_SECONDS, 3 * 86400, 20 * 86400, 90 * 86400)):
        stored(store, number, age)
    found = sorted(age_of(one, NOW) for one in holdings(store))
    assert found == ["older", "under a day", "under a month", "under a week"]


def test_a_record_that_cannot_be_read_is_named(place: Store, tmp_path: Path) -> None:
    note_use(place, plan_of(job()), tmp_path)
    (name,) = place.users()
    place.note_user(name, {"jobs": 3})
    with pytest.raises(InputError, match=rf"plans/{name}\.json in .* cannot be read; remove it"):
        users(place)


KILLED = """
import os, shutil, sys
from pathlib import Path
from sweeps.store import LocalStore

shutil.rmtree = lambda *_, **__: os._exit(9)
LocalStore(Path(sys.argv[1])).remove("split", sys.argv[2])
"""


def test_a_removal_that_is_cut_short_leaves_no_half_of_an_entry(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    what = job()
    publish(store, what)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), what.key], check=False)
    assert done.returncode == 9
    assert store.find("split", what.key) is None
    assert not (tmp_path / "split" / what.key).exists()
    publish(store, what)
    assert store.find("split", what.key) is not None


def test_a_removal_in_a_bucket_begins_with_the_manifest(
    store: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever finds the entry finds all of its files."""
    what = job()
    publish(store, what)
    removed: list[str] = []
    plain = Bucket.remove

    def noted(bucket: Bucket, names: Sequence[str]) -> None:
        removed.extend(names)
        plain(bucket, names)

    monkeypatch.setattr(Bucket, "remove", noted)
    store.remove("split", what.key)
    assert removed[0] == f"split/{what.key}/result.json"
    assert len(removed) == 3
    assert store.holdings() == {}


def test_records_are_no_results(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    note_use(store, plan_of(job()), tmp_path)
    (path,) = (tmp_path / "plans").iterdir()
    assert json.loads(path.read_text())["jobs"] == [f"split/{job().key}"]
    assert store.holdings() == {}
