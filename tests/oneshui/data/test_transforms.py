"""Resizing against the reference's numbers, and against slow formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from support.golden import load_json, load_tensors

from oneshui.data.cache import decode
from oneshui.data.crops import Crops, cut
from oneshui.data.images import normalise
from oneshui.data.transforms import Pixels, resize, rounded

TOLERANCE = 3e-6
PICTURES = ["down3", "celeba_like", "odd"]


def stored(values: torch.Tensor, case: dict[str, Any]) -> torch.Tensor:
    """What of a result the golden file holds."""
    return values if case["stored"] == "full" else values[..., ::4, ::4]


def noise(height: int, width: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("kind", ["test_antialias", "test_faithful"])
def test_resizing_gives_the_golden_values_before_rounding(name: str, kind: str) -> None:
    tensors = load_tensors("transforms", f"{name}.")
    case = load_json("transforms")[name]
    image = tensors["image"].numpy()
    ours = resize(image, case["size"], antialias=kind == "test_antialias")
    assert ours.dtype == np.float32
    values = stored(torch.from_numpy((ours / 255 - 0.5) / 0.5), case)
    assert (values - tensors[kind]).abs().max().item() <= TOLERANCE


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", PICTURES)
def test_a_training_crop_is_within_a_level_of_the_golden_values(name: str, seed: int) -> None:
    tensors = load_tensors("transforms", f"{name}.")
    cases = load_json("transforms")
    view = next(v for v in cases["train"] if (v["name"], v["torch_seed"]) == (name, seed))
    box = [[view[key] for key in ("top", "left", "height", "width")]]
    crops = Crops(boxes=torch.tensor(box), flips=torch.tensor([view["flip"]]))
    picture = tensors["image"][None]
    expected = tensors[f"train_seed{seed}"]
    for way in (picture, picture.float()):
        values = stored(normalise(cut(way, crops, view["size"]))[0], cases[name])
        # Of the last level Pillow, which made the golden values, has its own opinion.
        assert (values - expected).abs().max().item() <= 2 / 255 + TOLERANCE
        assert (values - expected).abs().mean().item() <= 0.5 * 2 / 255


@pytest.mark.parametrize(("height", "width", "size"), [(9, 31, 7), (5, 4, 11), (8, 8, 8)])
@pytest.mark.parametrize("antialias", [True, False])
def test_resizing_is_the_textbook_formula(
    height: int, width: int, size: int, antialias: bool
) -> None:
    image = noise(height, width)
    expected = np.einsum(
        "yi,cij,xj->cyx",
        weights(height, size, antialias),
        image.astype(float),
        weights(width, size, antialias),
    )
    assert np.allclose(resize(image, size, antialias=antialias), expected, atol=1e-3)


def weights(old: int, new: int, antialias: bool) -> npt.NDArray[np.float64]:
    """What each old pixel contributes to each new one: a triangle around its middle."""
    reach = max(old / new, 1.0) if antialias else 1.0
    made = np.zeros((new, old))
    for target in range(new):
        middle = (target + 0.5) * old / new - 0.5
        middle = middle if antialias else min(max(middle, 0), old - 1)
        for source in range(old):
            made[target, source] = max(0.0, 1 - abs(source - middle) / reach)
        made[target] /= made[target].sum()
    return made


def test_rounding_goes_to_the_nearest_byte() -> None:
    assert rounded(np.array([-0.2, 0.4, 0.6, 254.6, 255.1], dtype=np.float32)).tolist() == [
        0,
        0,
        1,
        255,
        255,
    ]


def test_decoding_rounds_what_resizing_computes(tmp_path: Path) -> None:
    path = tmp_path / "noise.png"
    image = noise(60, 44)
    Image.fromarray(image.transpose(1, 2, 0)).save(path)
    faithful = decode(path.read_bytes(), 16, "reference")
    assert np.array_equal(faithful, rounded(resize(image, 16, antialias=False)))
    corrected = decode(path.read_bytes(), 16).astype(int)
    assert np.abs(corrected - resize(image, 16, antialias=True)).max() < 1.1
    assert np.abs(corrected - faithful).mean() > 10  # sampling noise differs from averaging it
    assert np.array_equal(decode(path.read_bytes(), 16, "corrected"), decode(path.read_bytes(), 16))
