from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from rich.console import Console
from support.object_server import ObjectServer
from support.processes import python

from oneshui.data.contents import fingerprint
from oneshui.data.registry import load_dataset
from oneshui.errors import DataError, InputError
from oneshui.faces.generate import FacesSpec, generate_celebahq
from sweeps.cli.datasets import folder_of, is_here, prepare_datasets
from sweeps.config import load
from sweeps.executor.worker import execute
from sweeps.graph.job import Job
from sweeps.graph.plan import expand
from sweeps.stages.context import WorkerEnvironment
from sweeps.store import LocalStore, datasets
from sweeps.store.datasets import RemoteFolder
from sweeps.store.objects import Bucket

NAMES = [f"pictures/{number}.jpg" for number in range(20)]


@pytest.fixture(autouse=True)
def _another_process() -> Iterator[None]:
    datasets._compared.clear()
    yield
    datasets._compared.clear()


@pytest.fixture
def pictures(bucket: Bucket) -> RemoteFolder:
    for name in NAMES:
        bucket.put(f"own/{name}", name.encode())
    bucket.put("other/large.bin", b"not wanted")
    return RemoteFolder(uri=bucket.uri, name="own")


def fetched(folder: RemoteFolder) -> dict[str, bytes]:
    datasets._compared.clear()
    root = folder.fetch()
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_what_is_there_is_fetched_once_and_then_compared(
    pictures: RemoteFolder, server: ObjectServer
) -> None:
    seen: list[tuple[int, int]] = []
    pictures.fetch(lambda done, total: seen.append((done, total)))
    assert seen == [(number, 20) for number in range(1, 21)]
    server.requests.clear()
    assert fetched(pictures) == {f"own/{name}": name.encode() for name in NAMES}
    assert server.requests == {"LIST": 1}
    server.requests.clear()
    pictures.fetch()
    assert server.requests == {}


def test_what_changed_is_fetched_again_and_what_is_gone_is_removed(
    pictures: RemoteFolder, bucket: Bucket, server: ObjectServer
) -> None:
    fetched(pictures)
    bucket.put(f"own/{NAMES[0]}", NAMES[0].upper().encode())
    bucket.remove([f"own/{NAMES[1]}"])
    (pictures.folder / "own" / NAMES[2]).write_text("cut")
    server.requests.clear()
    found = fetched(pictures)
    assert server.requests["GET"] == 2
    assert found[f"own/{NAMES[0]}"] == NAMES[0].upper().encode()
    assert found[f"own/{NAMES[2]}"] == NAMES[2].encode()
    assert len(found) == 19


def test_a_fetch_that_was_interrupted_goes_on(
    pictures: RemoteFolder, server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, _total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "THREADS", 2)
    with pytest.raises(KeyboardInterrupt):
        pictures.fetch(stop)
    assert not list(pictures.folder.rglob("*.partial"))
    there = len([path for path in pictures.folder.rglob("*") if path.is_file()])
    assert 5 <= there < 20
    server.requests.clear()
    assert len(fetched(pictures)) == 20
    assert server.requests["GET"] == 20 - there


def test_processes_of_one_machine_share_the_copy(
    pictures: RemoteFolder, server: ObjectServer
) -> None:
    code = (
        "import sys\n"
        "from sweeps.store.datasets import RemoteFolder\n"
        "root = RemoteFolder(uri=sys.argv[1], name='own').fetch()\n"
        "print(sum(path.is_file() for path in root.rglob('*')))\n"
    )
    server.requests.clear()
    readers = [python(code, pictures.uri) for _ in range(3)]
    assert [reader.communicate(timeout=60)[0] for reader in readers] == ["20\n"] * 3
    assert server.requests["GET"] == 20


def test_marks_of_folders_are_no_pictures(pictures: RemoteFolder, bucket: Bucket) -> None:
    bucket.put("own/pictures", b"")
    assert len(fetched(pictures)) == 20


def test_an_empty_place_is_bad_input(bucket: Bucket) -> None:
    with pytest.raises(DataError, match=r"nothing in s3://.*/celeba; .* set data_dir"):
        RemoteFolder(uri=bucket.uri, name="celeba").fetch()
    with pytest.raises(InputError, match=r"data_dir 'ftp://x/y' is not supported"):
        RemoteFolder(uri="ftp://x/y", name="celeba").fetch()


@pytest.mark.parametrize("place", ["mine/pets.csv", "mine", ""])
def test_a_table_in_a_bucket_is_named_as_one_on_disk(
    bucket: Bucket, tmp_path: Path, place: str
) -> None:
    name = place.partition("/")[2] or "images.csv"
    folder = tmp_path / "mine" if place else tmp_path
    (folder / "pictures").mkdir(parents=True)
    (folder / "pictures" / "a.png").write_bytes(b"not looked at")
    (folder / name).write_text("path,identity,label\npictures/a.png,ann,cat\n")
    for path in folder.rglob("*.*"):
        bucket.put(str(path.relative_to(tmp_path)), path)
    own = f"datasets.pets={{layout: table, path: '{place}', forget_sizes: [1]}}"
    asked = ["sweep.datasets=[pets]", "sweep.methods=[pretrain]", own]
    for data_dir in (bucket.uri, str(tmp_path)):
        spec = load([*asked, f"data_dir={data_dir}"])
        found = folder_of(spec.sweep.datasets["pets"], spec.places)
        assert is_here(spec.sweep.datasets["pets"], spec.places)
        read = found if isinstance(found, Path) else found.fetch()
        table = load_dataset("table", read)
        assert table.paths == ("pictures/a.png",)
        env = WorkerEnvironment(
            store=LocalStore(tmp_path / "store"), data_folders={"pets": found}, logs=tmp_path
        )
        assert table.root in env.protected


def test_an_object_that_shrinks_while_it_is_fetched_is_noticed(
    pictures: RemoteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> NoReturn:
        raise FileNotFoundError

    monkeypatch.setattr(Bucket, "download", gone)
    with pytest.raises(DataError, match="vanished while it was fetched"):
        pictures.fetch()


def test_a_sweep_reads_its_pictures_from_a_bucket(
    bucket: Bucket, tmp_path: Path, server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate_celebahq(FacesSpec(identities=40, pictures=4, size=16), tmp_path / "data")
    own = tmp_path / "data" / "CelebAMask-HQ"
    files = [path for path in own.rglob("*") if path.is_file()]
    for path in files:
        bucket.put(f"data/{path.relative_to(tmp_path / 'data')}", path)
    spec = load(
        [
            "sweep=full",
            "sweep.datasets=[celebahq]",
            "sweep.forget_sizes=[2]",
            "sweep.methods=[pretrain,retrain]",
            "profile=paper",
            f"data_dir={bucket.uri}/data",
            f"output_dir={tmp_path / 'out'}",
        ]
    )
    plan = expand(spec.sweep)
    store = LocalStore(tmp_path / "store")
    logs = tmp_path / "logs"
    console = Console(file=(tmp_path / "said.txt").open("w", encoding="utf-8"))
    with console.file:
        folders = prepare_datasets(spec.sweep, spec.places, store, logs, console)
    assert f"{len(files)}/{len(files)}" in (tmp_path / "said.txt").read_text()
    (index,) = [job for job in plan.jobs.values() if job.stage == "index"]
    entry = store.find("index", index.key)
    assert entry is not None
    here = load_dataset("celebahq", tmp_path / "data")
    assert entry.value["fingerprint"] == fingerprint(here)
    # Another machine decodes the pictures.
    datasets._compared.clear()
    monkeypatch.setenv("ONESHUI_CACHE", str(tmp_path / "cache of another"))
    env = WorkerEnvironment(store=store, data_folders=folders, logs=logs)
    (cache,) = [job for job in plan.jobs.values() if job.stage == "cache"]
    small = Job(stage="cache", spec={**cache.spec, "size": 16}, inputs=cache.inputs, label="small")
    server.requests.clear()
    outcome = execute(small, {**plan.jobs, small.key: small}, env)
    assert outcome.failure is None
    assert server.requests["GET"] == len(files)
    # What was fetched is what a one-shot method must not see.
    assert os.fspath(env.protected[0]).startswith(str(tmp_path / "cache of another"))


@pytest.mark.parametrize("text", [b"\xff", b"[" * 100_000, b"[]", None])
def test_where_the_record_is_damaged_all_is_fetched_again(
    pictures: RemoteFolder, bucket: Bucket, text: bytes | None
) -> None:
    fetched(pictures)
    record = pictures.folder.with_suffix(".json")
    if text is None:
        record.unlink()
        record.mkdir()
    else:
        record.write_bytes(text)
    # Of equal size: only the record could have told.
    bucket.put(f"own/{NAMES[3]}", NAMES[4].encode())
    found = fetched(pictures)
    assert found[f"own/{NAMES[3]}"] == NAMES[4].encode()
    assert record.is_file()
