"""A preparation is numbers about the training data, never the data."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.tiny import TinyProblem, tiny_model
from torch import nn

from oneshui.data.images import LabelledImages, make_images, normalise
from oneshui.errors import MethodError
from oneshui.preparation import refuse_pictures, statistics_bytes


@pytest.fixture(scope="module")
def train() -> LabelledImages:
    return TinyProblem("convnext").images("train")


MODEL = tiny_model("convnext")


def refused(prepared: torch.Tensor, train: LabelledImages) -> str:
    with pytest.raises(MethodError) as caught:
        refuse_pictures({"fine": torch.zeros(3), "kept": prepared}, "odd", train, MODEL)
    return str(caught.value)


@pytest.mark.parametrize(
    "form",
    [
        lambda raw: raw,
        lambda raw: raw[[5]],
        lambda raw: raw[3],
        lambda raw: raw.flip(0).flatten(1),
        lambda raw: raw.flatten(),
        lambda raw: raw.double(),
        lambda raw: raw.float() / 255,
        lambda raw: normalise(raw),
        lambda raw: normalise(raw).half(),
        lambda raw: torch.cat([torch.rand(1, *raw.shape[1:]), raw[:1] / 255]),
    ],
)
def test_pictures_are_known_in_whatever_form(train: LabelledImages, form: object) -> None:
    assert callable(form)
    text = refused(form(train.raw(slice(0, 8))), train)
    assert text == (
        "the preparation of method odd holds training pictures in kept: it must not keep what is "
        "deleted; keep numbers about them, or declare Access.FULL"
    )


def test_numbers_of_a_picture_s_shape_are_no_pictures(train: LabelledImages) -> None:
    shape = (4, *train.pixels.shape[1:])
    mean = train.raw().float().mean(dim=0)
    for fine in (torch.rand(shape), torch.zeros(shape), mean, torch.zeros(0), torch.ones(2, 2)):
        refuse_pictures({"fine": fine}, "odd", train, MODEL)
    # Somebody else's picture.
    refuse_pictures({"fine": train.raw(slice(6, 7))}, "odd", train.select(torch.arange(4)), MODEL)


def test_pictures_of_one_colour_and_such_with_equal_middles_are_told_apart() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 16, 16), dtype=np.uint8)
    pixels[0] = 0
    pixels[1, 1] = pixels[2, 1]
    some = make_images(pixels, np.zeros(3, int), np.zeros(3, int), np.arange(3))
    refuse_pictures({"zeros": torch.zeros(1, 3, 16, 16)}, "odd", some, MODEL)
    for row in (1, 2):
        refused(torch.from_numpy(pixels[row]), some)


def test_what_depends_on_the_model_alone_is_never_too_large(train: LabelledImages) -> None:
    one = train.select(torch.tensor([0]))
    weights = MODEL.state_dict()
    importance = {
        name: torch.rand_like(weight.float()).double() for name, weight in weights.items()
    }
    moments = {
        name: torch.rand(
            layer.groups if isinstance(layer, nn.Conv2d) else 1,
            *2 * [layer.weight[0].numel()],
            dtype=torch.float64,
        )
        for name, layer in MODEL.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d))
    }
    refuse_pictures(
        {**importance, **{f"{n}.moment": m for n, m in moments.items()}}, "odd", one, MODEL
    )


def test_what_is_as_large_as_the_pictures_and_no_statistics_is_refused() -> None:
    layer = nn.Linear(3, 2)
    # 8 weights, 9 second moments of inputs and 4 of outputs, each twice in float64.
    assert statistics_bytes(layer) == 2 * 8 * (8 + 9 + 4)
    assert statistics_bytes(nn.Conv2d(4, 6, 3, groups=2)) == 2 * 8 * (
        6 * 2 * 9 + 6 + 2 * (18**2 + 3**2)
    )
    pixels = np.random.default_rng(0).integers(0, 256, (10, 3, 6, 6), dtype=np.uint8)
    train = make_images(pixels, np.zeros(10, int), np.zeros(10, int), np.arange(10))
    limit = math.prod(pixels.shape)
    refuse_pictures({"x": torch.zeros(limit - 1, dtype=torch.uint8)}, "odd", train, layer)
    with pytest.raises(MethodError, match=rf"has {limit + 1} bytes, no fewer than the {limit} of"):
        refuse_pictures({"x": torch.zeros(limit + 1, dtype=torch.uint8)}, "odd", train, layer)
    few = train.select(torch.tensor([0]))
    refuse_pictures({"x": torch.zeros(336, dtype=torch.uint8)}, "odd", few, layer)
    with pytest.raises(MethodError, match="more than the 336 that statistics of this model"):
        refuse_pictures({"x": torch.zeros(337, dtype=torch.uint8)}, "odd", few, layer)
