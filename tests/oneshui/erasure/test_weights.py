"""A file of weights that knows its requests, and one that only says so."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from oneshui.erasure.weights import (
    Described,
    Step,
    count_outputs,
    hash_of,
    read_weights,
    require_fit,
    write_weights,
)
from oneshui.errors import InputError
from oneshui.spec import ModelSpec
from oneshui.training.models import make_model

SPEC = ModelSpec(
    name="vit_tiny_patch16_224",
    image_size=32,
    weights="random",
    options={"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
)
DESCRIBED = Described(model=SPEC, task="multiclass", outputs=("happy", "sad", "neither"))


def _step(before: str, after: str) -> Step:
    return Step(
        number=1,
        date="2031-01-01",
        method="ssd",
        hyperparameters={"alpha": 0.1},
        people=2,
        before=before,
        after=after,
    )


def test_what_was_written_is_read(tmp_path: Path) -> None:
    model = make_model(SPEC, 3, 0)
    tensors = model.state_dict()
    steps = (_step("first", "second"), _step("second", hash_of(tensors)))
    write_weights(tensors, tmp_path / "w.safetensors", DESCRIBED, steps)
    found = read_weights(tmp_path / "w.safetensors")
    assert (found.description, found.steps, found.first) == (DESCRIBED, steps, "first")
    require_fit(found, model)
    assert count_outputs(found, SPEC) == 3
    with pytest.raises(InputError, match="do not fit the model"):
        require_fit(found, make_model(SPEC, 4, 0))


def test_a_chain_with_a_gap_is_found_out(tmp_path: Path) -> None:
    tensors = {"w": torch.ones(2)}
    for steps in (
        (_step("first", "second"), _step("third", hash_of(tensors))),
        (_step("first", "second"),),
    ):
        write_weights(tensors, tmp_path / "w.safetensors", DESCRIBED, steps)
        with pytest.raises(InputError, match="have changed since their last request"):
            read_weights(tmp_path / "w.safetensors")


def test_the_hash_is_of_the_tensors_alone(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(2, 3), "b": torch.zeros((), dtype=torch.int64)}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"whose": "ours"})
    save_file(dict(reversed(tensors.items())), tmp_path / "b.safetensors")
    one, other = (read_weights(tmp_path / f"{name}.safetensors") for name in "ab")
    assert one.tensors == other.tensors == hash_of(load_file(tmp_path / "a.safetensors"))
    assert one.sha256 != other.sha256
    assert (one.description, one.steps, one.first) == (None, (), one.tensors)
    for changed in (
        {**tensors, "a": torch.ones(3, 2)},
        {**tensors, "a": torch.ones(2, 3, dtype=torch.float64)},
        {"a": tensors["a"], "c": tensors["b"]},
    ):
        assert hash_of(changed) != one.tensors


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = make_model(SPEC, 3, 0)
    tensors = {**model.state_dict(), "head.bias": torch.full((3,), float("nan"))}
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"head\.bias is not finite everywhere"):
        require_fit(read_weights(tmp_path / "w.safetensors"), model)


def test_a_model_is_the_same_whatever_way_it_is_written_down() -> None:
    own = dataclasses.replace(SPEC, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3))
    one = dataclasses.replace(DESCRIBED, model=own)
    assert one.same_as(Described.from_json(one.to_json()))
    assert not one.same_as(DESCRIBED)
    assert not one.same_as(dataclasses.replace(one, outputs=("sad", "happy", "neither")))
