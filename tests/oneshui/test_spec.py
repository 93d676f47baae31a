"""Defaults as the paper's recipe has them, and values that are refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from oneshui.errors import InputError
from oneshui.spec import DATA_SEEN, Access, FacesSpec, ModelSpec, Range, TrainingSpec

BY_STEP: dict[str, Any] = {"schedule": "cosine_by_step"}


def test_the_defaults_are_the_published_recipe_and_model() -> None:
    assert TrainingSpec().to_json() == {
        "epochs": 30,
        "batch_size": 32,
        "optimizer": "sgd",
        "learning_rate": 1e-3,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "schedule": "cosine_by_epoch",
        "warmup_epochs": 2,
        "clip_norm": 0,
        "augmentation": "crop",
        "keep": "best",
    }
    assert dataclasses.asdict(ModelSpec()) == {
        "name": "vit_base_patch16_224",
        "image_size": 224,
        "weights": "imagenet",
        "options": {},
        "channels_last": False,
        "precision": "auto",
        "factory": "",
        "mean": None,
        "std": None,
    }
    assert dataclasses.asdict(FacesSpec()) == {
        "identities": 400,
        "pictures": 8,
        "size": 64,
        "seed": 0,
    }
    assert set(DATA_SEEN) == set(Access)


@pytest.mark.parametrize(
    ("spec", "fields", "named"),
    [
        *(
            (TrainingSpec, fields, f"training.{next(iter(fields))} is ")
            for fields in (
                {"epochs": 0},
                {"batch_size": 0},
                {"learning_rate": 0.0},
                {"momentum": -0.1},
                {"momentum": 1.0},
                {"weight_decay": -1e-9},
                {"clip_norm": -1.0},
                {"warmup_epochs": -1.0},
                {"warmup_epochs": 5.0, "epochs": 5},
                {"warmup_epochs": 5.0, "epochs": 5} | BY_STEP,
                {"warmup_epochs": 1.5},
                {"warmup_epochs": 1.5, "schedule": "linear"},
                {"amsgrad": True},
                {"decay": 0.0},
                {"decay": 1.1},
                {"decay_epochs": 0},
                {"cosine_epochs": -1},
                {"cosine_epochs": 31},
                {"milestones": (3,)},
                {"milestones": (), "schedule": "multistep"},
                {"milestones": (3, 3), "schedule": "multistep"},
                {"milestones": (0, 3), "schedule": "multistep"},
            )
        ),
        *(
            (ModelSpec, fields, f"model.{next(iter(fields))} is ")
            for fields in (
                {"name": ""},
                {"image_size": 7},
                {"image_size": 1025},
                {"weights": "none"},
                {"weights": "weights.pt"},
            )
        ),
        *(
            (FacesSpec, fields, f"{next(iter(fields))} must be an integer")
            for fields in (
                {"identities": 9},
                {"identities": True},
                {"identities": 20.0},
                {"pictures": 1},
                {"size": 15},
                {"size": 2049},
                {"seed": -1},
                {"seed": True},
            )
        ),
        (Range, {"low": 1.0, "high": 1.0}, "range 1 to 1 is empty"),
        (Range, {"low": 2.0, "high": 1.0}, "range 2 to 1 is empty"),
        (Range, {"low": 0.0, "high": 1.0, "log": True}, "range 0 to 1 must be above 0"),
    ],
)
def test_values_out_of_range_are_refused(
    spec: type[Any], fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        spec(**fields)


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        (TrainingSpec, {"epochs": 1, "warmup_epochs": 0, "batch_size": 1, "momentum": 0.0}),
        (TrainingSpec, {"weight_decay": 0.0, "clip_norm": 0.0, "warmup_epochs": 29.0}),
        (TrainingSpec, {"warmup_epochs": 1.5} | BY_STEP),
        (TrainingSpec, {"decay": 1.0, "decay_epochs": 1, "cosine_epochs": 30}),
        (TrainingSpec, {"milestones": (1, 2, 40), "schedule": "multistep"}),
        (TrainingSpec, {"amsgrad": True, "optimizer": "adam"}),
        (ModelSpec, {"image_size": 8, "weights": "random"}),
        (ModelSpec, {"image_size": 1024, "weights": "a/b.safetensors"}),
        (FacesSpec, {"identities": 10, "pictures": 2, "size": 16}),
        (FacesSpec, {"size": 2048}),
        (Range, {"low": 0.0, "high": 1.0}),
    ],
)
def test_values_at_the_ends_of_their_ranges_are_taken(
    spec: type[Any], fields: dict[str, Any]
) -> None:
    made = spec(**fields)
    assert {name: getattr(made, name) for name in fields} == fields


def test_what_is_younger_than_stores_is_in_a_recipe_s_identity_only_where_it_is_set() -> None:
    changes: dict[str, Any] = {
        "optimizer": "adam",
        "amsgrad": True,
        "schedule": "multistep",
        "cosine_epochs": 7,
        "decay": 0.5,
        "decay_epochs": 2,
        "milestones": (1, 4),
        "drop_last": True,
    }
    whole = TrainingSpec(**changes)
    assert whole.to_json() == TrainingSpec().to_json() | changes
    as_stored = {**whole.to_json(), "milestones": [1, 4]}
    assert TrainingSpec(**as_stored) == whole


def test_drawn_faces_are_as_many_as_identities_times_pictures() -> None:
    assert FacesSpec(identities=30, pictures=7).num_images == 210
