"""What is checked of a dataset before anything is computed."""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from oneshui.data.table import ImageTable
from oneshui.errors import InputError
from sweeps.cli.datasets import check_requests, folder_of, is_current, prepare_datasets
from sweeps.config import load
from sweeps.graph.cells import index_job
from sweeps.graph.launch import Places
from sweeps.graph.spec import SweepSpec
from sweeps.store import LocalStore
from sweeps.store.datasets import RemoteFolder

SWEEP = ("sweep=smoke", "sweep.datasets=[synthetic_tiny]", "sweep.seeds=[0,3]")


def table_of(people: int, each: int = 4) -> ImageTable:
    count = people * each
    return ImageTable(
        dataset="celebahq",
        task="multilabel",
        class_names=("a", "b"),
        root=Path("/nowhere"),
        paths=tuple(f"{number}.jpg" for number in range(count)),
        identity=np.repeat(np.arange(people, dtype=np.int64), each),
        label=np.ones((count, 2), dtype=np.uint8),
        identity_order=tuple(range(people)),
        sizes=np.full(count, 7, dtype=np.int64),
    )


def said(table: ImageTable, sweep: SweepSpec, dataset: str = "synthetic_tiny") -> str:
    stream = io.StringIO()
    check_requests(table, sweep, dataset, Console(file=stream))
    return stream.getvalue()


def test_an_index_is_current_while_it_is_whole_and_describes_the_files(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    job = index_job(load(SWEEP).sweep.datasets["synthetic_tiny"])
    assert is_current(store, job, "f1") is None
    with store.work(job) as work:
        (work.folder / "images.parquet").write_text("pictures")
        made = work.publish({"fingerprint": "f1"}, {}, {})
    assert is_current(store, job, "f1") == made
    assert is_current(store, job, "f2") is None
    (made.folder / "images.parquet").write_text("other pictures")
    assert is_current(store, job, "f1") is None


def test_a_request_that_a_dataset_cannot_serve_is_named_with_its_seed() -> None:
    sweep = load([*SWEEP, "sweep.forget_sizes=[4]"]).sweep
    assert said(table_of(40), sweep) == ""
    with pytest.raises(InputError, match=r"^dataset synthetic_tiny, seed 0: "):
        said(table_of(4), sweep)
    # Another dataset's requests are another's matter.
    assert said(table_of(4), sweep, "elsewhere") == ""


def test_requests_need_people_enough_for_all_of_them_together() -> None:
    def check(people: int, each: int, *overrides: str) -> str:
        return said(table_of(people, each), load([*SWEEP, *overrides]).sweep)

    assert check(40, 4, "sweep.forget_sizes=[4]", "sweep.requests=3") == ""
    with pytest.raises(
        InputError,
        match=r"^dataset synthetic_tiny, seed 0, 8 requests of 4 people each \(lower "
        r"sweep\.requests for fewer\): forget size 32 is too large: ",
    ):
        check(40, 4, "sweep.forget_sizes=[4]", "sweep.requests=8")
    alone = ("sweep.forget_sizes=[1]", "sweep.requests=3")
    assert check(40, 6, *alone) == ""
    with pytest.raises(InputError, match=r"3 requests of 1 person each .* 0 have the 6 images"):
        check(40, 5, *alone)


def test_a_pool_needs_people_who_can_be_spared_and_enough_for_who_is_chosen_from_it() -> None:
    def check(people: int, pool: int, *overrides: str, each: int = 4) -> str:
        audit = f"++sweep.audit={{pool: {pool}, models: 8}}"
        few = ("sweep.forget_sizes=[4]", audit, *overrides)
        return said(table_of(people, each), load([*SWEEP, *few]).sweep)

    assert check(40, 8) == ""
    with pytest.raises(
        InputError,
        match=r"^dataset synthetic_tiny, a pool of 32 people, .* \(lower sweep\.audit\.pool for "
        r"fewer\): forget size 32 is too ",
    ):
        check(40, 32)
    assert check(40, 16, "++sweep.choose=memorised") == ""
    # Of 8 people of the pool some 5 are in a seed's training set, and of one seed's fewer than 4.
    with pytest.raises(
        InputError,
        match=r"^dataset synthetic_tiny, seed \d+, sweep\.choose=memorised: .*of the 8 of the pool",
    ):
        check(40, 8, "++sweep.choose=memorised", "sweep.seeds=[0,1,2,3,4,5,6,7,8,9]")
    # Where one person asks a cell stands for requests of its own number.
    alone = ("sweep.forget_sizes=[1]", "sweep.requests_alone=8", "sweep.seeds=[0]")
    with pytest.raises(InputError, match=r"sweep\.choose=memorised: .*of the 8 of the pool"):
        check(40, 8, "++sweep.choose=memorised", *alone, each=7)
    # Its number is what to lower, and not that of the cells with more people.
    with pytest.raises(
        InputError, match=r"8 requests of 1 person each \(lower sweep\.requests_alone"
    ):
        check(40, 8, *alone)


def test_a_study_tries_on_a_single_request_whatever_a_cell_stands_for() -> None:
    def check(*overrides: str) -> None:
        few = ("sweep.forget_sizes=[4]", "sweep.methods=[ssd]", "sweep.seeds=[0]", *overrides)
        said(table_of(30), load([*SWEEP, *few, "sweep.requests=4"]).sweep)

    # 18 people, 16 of whom ask: the study of another cell has 14 left to simulate requests with.
    check("profile=paper")
    check("profile=tuned", "tuning.seeds=[5]")
    check("profile=tuned", "tuning.cells=own")


def test_the_cells_of_a_study_need_people_to_simulate_requests_with() -> None:
    def check(*overrides: str) -> None:
        few = ("sweep.forget_sizes=[8]", "sweep.methods=[ssd]", "sweep.seeds=[0]", *overrides)
        said(table_of(16), load([*SWEEP, *few]).sweep)

    check("profile=paper")
    with pytest.raises(InputError, match=r"^dataset synthetic_tiny, seed 5: "):
        check("profile=tuned", "tuning.seeds=[5]")


def test_a_cell_that_only_tunes_needs_people_whom_no_reported_cell_forgets() -> None:
    def check(people: int, *overrides: str) -> None:
        few = ("sweep.forget_sizes=[4]", "sweep.methods=[ssd]", "profile=tuned", *overrides)
        said(table_of(people), load([*SWEEP, *few]).sweep)

    check(60, "sweep.seeds=[0,1,2]")
    check(16, "sweep.seeds=[0]", "tuning.cells=own")
    for overrides in (
        ["sweep.seeds=[0,1,2,3,4,5]"],
        ["sweep.seeds=[0]", "tuning.reserved_seeds=[1,2,3,4,5]"],
    ):
        with pytest.raises(InputError, match=r"^dataset synthetic_tiny, seed 1000: ") as error:
            check(16, *overrides)
        assert "report fewer sweep.seeds, lower sweep.forget_sizes, say tuning.cells=own" in str(
            error.value
        )
        assert "\n" not in str(error.value)
        check(16, overrides[0], "tuning.cells=own")


def test_sets_that_share_no_label_are_refused_with_the_reason() -> None:
    sweep = load([*SWEEP, "sweep.forget_sizes=[4]"]).sweep
    table = table_of(40)
    alone = dataclasses.replace(table, task="multiclass", label=table.identity)
    with pytest.raises(InputError, match=r"seed 0: no class of the val set occurs in the training"):
        said(alone, sweep)
    nobody = dataclasses.replace(table, label=np.zeros_like(table.label))
    with pytest.raises(InputError, match=r"seed 0: no attribute that an image has of the val set"):
        said(nobody, sweep)


def test_a_skewed_dataset_is_split_as_its_walk_says_and_named() -> None:
    counts = [4] * 29 + [100]
    table = table_of(54)
    skewed = dataclasses.replace(
        table, identity=np.repeat(np.arange(30), counts), identity_order=tuple(range(30))
    )
    command = [*SWEEP, "sweep.forget_sizes=[2]", "sweep.seeds=[0,1,2,3,4,5]"]
    with pytest.raises(InputError, match=r"^dataset synthetic_tiny, seed \d: .*say walk=corrected"):
        said(skewed, load(command).sweep)
    told = said(skewed, load([*command, "datasets.synthetic_tiny.walk=corrected"]).sweep)
    lines = told.splitlines()
    assert lines
    assert all(": the sets hold val " in line and "split seed" in line for line in lines)


def test_a_table_in_a_bucket_is_in_the_folder_that_holds_it() -> None:
    def found(path: str) -> RemoteFolder:
        own = f"datasets.pets={{layout: table, path: '{path}', forget_sizes: [1]}}"
        spec = load([own, "sweep.datasets=[pets]", "data_dir=s3://bucket/all"])
        place = folder_of(spec.sweep.datasets["pets"], spec.places)
        assert isinstance(place, RemoteFolder)
        return place

    table = RemoteFolder(uri="s3://bucket/all/mine", name="", table="pets.csv")
    assert found("mine/pets.csv") == table
    assert found("mine") == RemoteFolder(uri="s3://bucket/all/mine", name="")
    assert found("mine").folder == table.folder, "one copy for both ways to name it"


def test_faces_of_another_recipe_are_drawn_into_another_folder(tmp_path: Path) -> None:
    places = Places(output_dir=str(tmp_path))
    one, other, same = (
        folder_of(load([*SWEEP, *more]).sweep.datasets["synthetic_tiny"], places)
        for more in ((), ("datasets.synthetic_tiny.generate.seed=9",), ("sweep.seeds=[1]",))
    )
    assert one == same != other


def test_only_what_counts_makes_another_index(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    generator = np.random.default_rng(0)
    rows = []
    for number in range(80):
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.bmp")
        rows.append(f"{number}.bmp,{number // 4},{number % 2}")
    table = folder / "images.csv"
    table.write_text("\n".join(["path,identity,hat", *rows]))
    command = [
        "+datasets.own={layout: table, path: own, forget_sizes: [2]}",
        *("sweep=smoke", "sweep.datasets=[own]", "sweep.seeds=[0]"),
        *(f"data_dir={tmp_path}", f"output_dir={tmp_path / 'out'}"),
    ]
    spec = load(command)
    (tmp_path / "out").mkdir()
    store = LocalStore(tmp_path / "store")
    job = index_job(spec.sweep.datasets["own"])

    def content() -> str:
        console = Console(file=io.StringIO())
        prepare_datasets(spec.sweep, spec.places, store, tmp_path, console)
        entry = store.find("index", job.key)
        assert entry is not None
        return entry.content

    seen = {content()}
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    table.write_text("\r\n".join(["path, identity,hat", *rows, ""]))
    seen.add(content())
    assert len(seen) == 1
    one, other = folder / "7.bmp", folder / "50.bmp"
    pictures = one.read_bytes(), other.read_bytes()
    one.write_bytes(pictures[1])
    other.write_bytes(pictures[0])
    seen.add(content())
    table.write_text("\n".join(["path,identity,cap", *rows]))
    seen.add(content())
    table.write_text("\n".join(["path,identity,cap", *rows[1:], rows[0]]))
    seen.add(content())
    table.write_text("\n".join(["path,identity,cap", *rows[1:], rows[0][:-1] + "1"]))
    seen.add(content())
    assert len(seen) == 5
    assert {path.suffix for path in folder.iterdir()} == {".bmp", ".csv"}
