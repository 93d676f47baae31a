"""What the keys of index, cache and split jobs depend on, one thing at a time."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from oneshui.errors import InputError
from oneshui.spec import RECIPE_VERSION, FacesSpec
from sweeps.config import load
from sweeps.graph import cells
from sweeps.graph.cells import index_job
from sweeps.graph.plan import expand
from sweeps.graph.spec import DatasetSpec

DRAWN = DatasetSpec(name="drawn", layout="celebahq", generate=FacesSpec())
BROUGHT = DatasetSpec(name="brought", layout="celebahq")
SMOKE = ("sweep=smoke", "sweep.datasets=[synthetic_tiny]", "sweep.seeds=[0]")


@pytest.mark.parametrize(
    "change", [{"identities": 401}, {"pictures": 9}, {"size": 65}, {"seed": 1}], ids=str
)
def test_faces_drawn_otherwise_are_another_dataset(change: dict[str, int]) -> None:
    other = dataclasses.replace(DRAWN, generate=FacesSpec(**change))
    assert index_job(other).key != index_job(DRAWN).key


def test_another_recipe_of_drawing_or_layout_is_another_dataset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = [index_job(dataset).key for dataset in (DRAWN, BROUGHT)]
    assert index_job(dataclasses.replace(DRAWN, layout="celeba")).key != before[0]
    assert index_job(dataclasses.replace(BROUGHT, layout="celeba")).key != before[1]
    monkeypatch.setattr(cells, "RECIPE_VERSION", RECIPE_VERSION + 1)
    drawn, brought = (index_job(dataset).key for dataset in (DRAWN, BROUGHT))
    assert drawn != before[0]
    assert brought == before[1], "nobody drew it"


def test_brought_datasets_are_told_apart_by_name_and_drawn_ones_by_their_recipe() -> None:
    for dataset in (BROUGHT, DRAWN):
        other = index_job(dataclasses.replace(dataset, name="renamed"))
        assert (other.key == index_job(dataset).key) == (dataset is DRAWN)


@pytest.mark.parametrize(
    "change",
    [{"path": "x"}, {"crop_size": 64}, {"forget_sizes": (3,)}, {"training": {"epochs": 1}}],
    ids=str,
)
def test_what_is_done_with_a_dataset_does_not_make_another(change: dict[str, Any]) -> None:
    assert index_job(dataclasses.replace(BROUGHT, **change)).key == index_job(BROUGHT).key


def keys(stage: str, *overrides: str) -> set[str]:
    jobs = expand(load([*SMOKE, "sweep.methods=[pretrain,ssd]", *overrides]).sweep).jobs
    return {key for key, job in jobs.items() if job.stage == stage}


@pytest.mark.parametrize(
    ("override", "changes"),
    [
        ("sweep.preprocessing=reference", True),
        ("sweep.model.image_size=32", True),
        ("datasets.synthetic_tiny.crop_size=48", False),
        ("sweep.forget_sizes=[3]", False),
    ],
)
def test_decoded_pictures_depend_on_how_they_are_resized(override: str, changes: bool) -> None:
    (before,) = keys("cache", "sweep.model.image_size=40")
    assert (before not in keys("cache", "sweep.model.image_size=40", override)) == changes
    # All that is computed from them changes with them.
    kept = keys("pretrain", "sweep.model.image_size=40") & keys(
        "pretrain", "sweep.model.image_size=40", override
    )
    assert not (changes and kept)


def test_the_walk_is_part_of_the_split_and_of_all_that_comes_of_it() -> None:
    other = "datasets.synthetic_tiny.walk=corrected"
    for stage, changes in (("index", False), ("cache", False), ("split", True), ("pretrain", True)):
        before = keys(stage)
        assert bool(before & keys(stage, other)) != changes, stage
        # The layout's own way, said aloud, is no other.
        assert keys(stage, "datasets.synthetic_tiny.walk=reference") == before


def test_a_dataset_of_ones_own_is_split_by_the_corrected_walk() -> None:
    own = DatasetSpec(name="own", layout="table")
    assert (own.split_walk, BROUGHT.split_walk) == ("corrected", "reference")
    assert dataclasses.replace(own, walk="reference").split_walk == "reference"
    with pytest.raises(InputError, match=r"datasets\.synthetic_tiny\.walk is 'other'"):
        load([*SMOKE, "datasets.synthetic_tiny.walk=other"])


def test_crops_are_cut_from_pictures_resized_as_the_reference_trains() -> None:
    larger = ("sweep.model.image_size=40", "datasets.synthetic_tiny.crop_size=48")
    both = [
        keys("cache", *larger, f"sweep.preprocessing={how}") for how in ("corrected", "reference")
    ]
    assert [len(found) for found in both] == [2, 2]
    assert len(both[0] & both[1]) == 1
