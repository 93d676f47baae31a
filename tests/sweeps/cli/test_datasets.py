"""What is checked of a dataset before anything is computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oneshui.data.table import ImageTable
from oneshui.errors import InputError
from sweeps.cli.datasets import check_requests, folder_of, is_current
from sweeps.config import load
from sweeps.graph.cells import index_job
from sweeps.graph.spec import Places
from sweeps.store import LocalStore

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
    check_requests(table_of(40), sweep, "synthetic_tiny")
    with pytest.raises(InputError, match=r"^dataset synthetic_tiny, seed 0: "):
        check_requests(table_of(4), sweep, "synthetic_tiny")
    # Another dataset's requests are another's matter.
    check_requests(table_of(4), sweep, "elsewhere")


def test_the_cells_of_a_study_need_people_to_simulate_requests_with() -> None:
    def check(*overrides: str) -> None:
        few = ("sweep.forget_sizes=[8]", "sweep.methods=[ssd]", "sweep.seeds=[0]", *overrides)
        check_requests(table_of(16), load([*SWEEP, *few]).sweep, "synthetic_tiny")

    check("profile=paper")
    with pytest.raises(InputError, match=r"^dataset synthetic_tiny, seed 5: "):
        check("profile=tuned", "tuning.seeds=[5]")


def test_faces_of_another_recipe_are_drawn_into_another_folder(tmp_path: Path) -> None:
    places = Places(output_dir=str(tmp_path))
    one, other, same = (
        folder_of(load([*SWEEP, *more]).sweep.datasets["synthetic_tiny"], places)
        for more in ((), ("datasets.synthetic_tiny.generate.seed=9",), ("sweep.seeds=[1]",))
    )
    assert one == same != other
