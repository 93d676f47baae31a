"""What every store must do; a test module calls it with its own store."""

from __future__ import annotations

import json
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

from sweeps.graph.job import Job, digest
from sweeps.store import DamagedEntryError, Entry, Store
from sweeps.store.base import ENTRY_FIELDS, encoded
from sweeps.store.bucket import RemoteEntry


def job(number: int = 0) -> Job:
    return Job(stage="split", spec={"number": number}, inputs={}, label=f"split {number}")


def publish(store: Store, what: Job, text: str = "hello", value: float = 1.5) -> Entry:
    with store.work(what) as work:
        (work.folder / "data.txt").write_text(text)
        made = {"device": "made at home"}
        return work.publish({"value": value}, {"index": "abc"}, {"seconds": 0.25}, made)


def folder_of(store: Store, what: Job) -> Path:
    entry = store.find(what.stage, what.key)
    assert entry is not None
    return entry.folder


def sealed(entry: Entry) -> dict[str, Any]:
    """The manifest of an entry."""
    fields = {name: getattr(entry, name) for name in ENTRY_FIELDS}
    attempt = {"attempt": entry.attempt} if isinstance(entry, RemoteEntry) else {}
    return {**fields, "seal": digest(fields), **attempt}


class StoreContract:
    """Subclass it and give a ``store`` fixture, and how a stranger damages entries in it."""

    def overwrite(self, store: Store, what: Job, name: str, text: str) -> None:
        """Replace a file of an entry."""
        (store.root / what.stage / what.key / name).write_text(text)

    def remove(self, store: Store, what: Job, name: str) -> None:
        """Remove a file of an entry."""
        (folder_of(store, what) / name).unlink()

    def move(self, store: Store, what: Job, to: Job) -> None:
        """Put a job's entry in the place of another's."""
        mine = folder_of(store, what)
        mine.rename(mine.parent / to.key)

    def test_finds_nothing_before_and_the_entry_after(self, store: Store) -> None:
        assert store.find("split", job().key) is None
        made = publish(store, job())
        found = store.find("split", job().key)
        assert found == made
        assert found.value == {"value": 1.5}
        assert found.inputs == {"index": "abc"}
        assert found.cost == {"seconds": 0.25}
        assert found.made == {"device": "made at home"}
        assert found.file("data.txt").read_text() == "hello"
        document = json.loads(found.file("job.json").read_text())
        assert Job.from_json(document) == job()

    def test_content_follows_files_and_value_but_not_the_cost(self, store: Store) -> None:
        first = publish(store, job())
        store.discard("split", job().key)
        with store.work(job()) as work:
            (work.folder / "data.txt").write_text("hello")
            again = work.publish({"value": 1.5}, {"index": "xyz"}, {"seconds": 99.0})
        assert again.content == first.content
        store.discard("split", job().key)
        assert publish(store, job(), text="other").content != first.content
        store.discard("split", job().key)
        assert publish(store, job(), value=2.5).content != first.content

    def test_the_first_to_publish_wins(self, store: Store) -> None:
        first = publish(store, job())
        second = publish(store, job(), text="late")
        assert second.content == first.content
        assert second.file("data.txt").read_text() == "hello"

    def test_an_unpublished_work_folder_leaves_nothing(self, store: Store) -> None:
        folders = []

        def crash() -> None:
            with store.work(job()) as work:
                folders.append(work.folder)
                (work.folder / "data.txt").write_text("half")
                raise RuntimeError("crash")

        with pytest.raises(RuntimeError, match="crash"):
            crash()
        assert not folders[0].exists()
        assert store.find("split", job().key) is None

    def test_racing_publishers_leave_one_whole_entry(self, store: Store) -> None:
        barrier = threading.Barrier(8)
        contents = []

        def race(number: int) -> None:
            with store.work(job()) as work:
                (work.folder / "data.txt").write_text(f"writer {number}")
                barrier.wait()
                contents.append(work.publish({"n": number}, {}, {}).content)

        threads = [threading.Thread(target=race, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = store.find("split", job().key)
        assert found is not None
        assert contents == [found.content] * 8
        assert found.file("data.txt").read_text() == f"writer {found.value['n']}"

    @pytest.mark.parametrize(
        ("name", "text", "says"),
        [
            ("data.txt", "longer than it was", "another size"),
            ("result.json", "{", "damaged"),
            ("result.json", "{}", "damaged"),
            ("result.json", "[" * 100_000, "damaged"),
            ("result.json", '"text"', "damaged"),
            ("job.json", "{}", "damaged"),
        ],
    )
    def test_damage_is_found_when_looked_up(
        self, store: Store, name: str, text: str, says: str
    ) -> None:
        publish(store, job())
        self.overwrite(store, job(), name, text)
        with pytest.raises(DamagedEntryError, match=says) as caught:
            store.find("split", job().key)
        assert caught.value.key == job().key

    def test_a_flipped_bit_is_found_when_read(self, store: Store) -> None:
        publish(store, job())
        self.overwrite(store, job(), "data.txt", "hellp")
        entry = store.find("split", job().key)
        assert entry is not None
        with pytest.raises(DamagedEntryError, match=r"data.txt has changed"):
            entry.file("data.txt")

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('"value": 1.5', '"value": 1.4'),
            ("0.25", "0.24"),
            ('"abc"', '"abb"'),
            ("made at home", "made at hole"),
            ('"bytes"', '"bytds"'),
            ('"seal": "', '"seal": "0'),
            ('"seal"', '"sdal"'),
        ],
    )
    def test_a_bit_of_the_manifest_that_flips_is_found(
        self, store: Store, old: str, new: str
    ) -> None:
        whole = encoded(sealed(publish(store, job()))).decode()
        assert whole.count(old) == 1 or old == '"bytes"'
        self.overwrite(store, job(), "result.json", whole.replace(old, new))
        with pytest.raises(DamagedEntryError, match=r"has changed|damaged"):
            store.find("split", job().key)
        self.overwrite(store, job(), "result.json", whole)
        assert store.find("split", job().key) is not None

    def test_what_an_earlier_version_wrote_has_no_seal(self, store: Store) -> None:
        document = sealed(publish(store, job()))
        del document["seal"]
        self.overwrite(store, job(), "result.json", json.dumps(document))
        with pytest.raises(DamagedEntryError, match="earlier version"):
            store.find("split", job().key)

    def test_a_missing_file_is_damage(self, store: Store) -> None:
        publish(store, job())
        self.remove(store, job(), "data.txt")
        with pytest.raises(DamagedEntryError):
            store.find("split", job().key)

    def test_an_entry_of_another_job_is_foreign(self, store: Store) -> None:
        publish(store, job(1))
        self.move(store, job(1), job(2))
        with pytest.raises(DamagedEntryError, match="another job"):
            store.find("split", job(2).key)

    def test_all_are_found_that_are_there_whole_or_damaged(self, store: Store) -> None:
        made = {job(number).key: publish(store, job(number)) for number in range(20)}
        self.overwrite(store, job(3), "result.json", "{")
        found = store.find_all(job(number) for number in range(25))
        assert store.keys("split") == found.keys() == made.keys()
        damaged = found.pop(job(3).key)
        assert isinstance(damaged, DamagedEntryError)
        assert damaged.key == job(3).key
        del made[job(3).key]
        assert found == made
        assert store.find_all([job(1), job(99)]) == {job(1).key: made[job(1).key]}

    def test_an_entry_can_travel_between_processes(self, store: Store) -> None:
        entry = pickle.loads(pickle.dumps(publish(store, job())))
        assert entry == store.find("split", job().key)
        assert entry.file("data.txt").read_text() == "hello"

    def test_a_discarded_entry_can_be_made_again(self, store: Store) -> None:
        publish(store, job())
        store.discard("split", job().key)
        store.discard("split", job().key)
        assert store.find("split", job().key) is None
        assert publish(store, job(), text="new").file("data.txt").read_text() == "new"

    def test_a_damaged_entry_is_replaced_when_published_again(self, store: Store) -> None:
        publish(store, job())
        self.overwrite(store, job(), "result.json", "{")
        assert publish(store, job(), text="healed").file("data.txt").read_text() == "healed"
