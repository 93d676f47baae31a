"""Batched crops against torchvision, and what a cache does to the distribution of crops."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2 import functional as reference

from oneshui.data.cache import decode
from oneshui.data.crops import Crops, cut, draw_crops

Boxes = npt.NDArray[np.float64]
DRAWS = 20_000


def noise(count: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(("height", "width", "size"), [(40, 40, 40), (90, 60, 24), (20, 33, 48)])
def test_cutting_is_torchvision_s_resized_crop(height: int, width: int, size: int) -> None:
    images = noise(12, height, width)
    crops = draw_crops(np.arange(12), "crop", seed=1, height=height, width=width)
    ours = cut(images.float(), crops, size)
    as_bytes = cut(images, crops, size)
    assert (as_bytes - ours).abs().max() < 1.6
    assert torch.equal(as_bytes, as_bytes.round())
    assert ours.dtype == as_bytes.dtype == torch.float32
    for image, (top, left, tall, wide), flip, mine in zip(
        images, crops.boxes.tolist(), crops.flips, ours, strict=True
    ):
        expected = reference.resized_crop(
            image.float(),
            top=top,
            left=left,
            height=tall,
            width=wide,
            size=[size, size],
            interpolation=InterpolationMode.BILINEAR,
            antialias=True,
        )
        expected = expected.flip(-1) if flip else expected
        assert (mine - expected).abs().max().item() < 1e-2
    assert 0 < int(crops.flips.sum()) < 12


@pytest.mark.parametrize(("side", "size"), [(48, 48), (224, 224), (300, 224)])
def test_bytes_are_cut_within_two_levels_of_pillow(side: int, size: int) -> None:
    images = noise(12, side, side)
    crops = draw_crops(np.arange(12), "crop", seed=0, height=side, width=side)
    for image, (top, left, tall, wide), flip, ours in zip(
        images, crops.boxes.tolist(), crops.flips, cut(images, crops, size), strict=True
    ):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        part = picture.crop((left, top, left + wide, top + tall))
        theirs = np.asarray(part.resize((size, size), Image.Resampling.BILINEAR))
        levels = (ours.flip(-1) if flip else ours).permute(1, 2, 0).numpy()
        apart = np.abs(levels - theirs)
        assert apart.max() <= 2
        assert apart.mean() < 0.3


DIGEST_OF_CROPS = """
import hashlib, numpy, torch
from oneshui.data.crops import cut, draw_crops
generator = torch.Generator().manual_seed(0)
images = torch.randint(0, 256, (8, 3, 90, 90), dtype=torch.uint8, generator=generator)
crops = draw_crops(numpy.arange(8), "crop", seed=0, height=90, width=90)
print(torch.backends.cpu.get_cpu_capability())
print(hashlib.sha256(cut(images, crops, 64).numpy().tobytes()).hexdigest())
"""


def test_bytes_do_not_depend_on_what_the_processor_can_do() -> None:
    digests = set()
    for capability in ("default", "avx2"):
        done = subprocess.run(
            [sys.executable, "-c", DIGEST_OF_CROPS],
            env={**os.environ, "ATEN_CPU_CAPABILITY": capability},
            capture_output=True,
            text=True,
            check=True,
        )
        used, digest = done.stdout.split()
        assert used == "DEFAULT" or capability != "default"
        digests.add(digest)
    assert len(digests) == 1


def test_a_crop_of_the_whole_picture_is_the_picture() -> None:
    images = noise(2, 12, 12)
    whole = torch.tensor([[0, 0, 12, 12]] * 2)
    crops = Crops(boxes=whole, flips=torch.tensor([False, True]))
    assert torch.equal(cut(images, crops, 12)[0], images[0].float())
    assert torch.equal(cut(images, crops, 12)[1], images[1].flip(-1).float())


def test_cutting_keeps_its_digits_where_bfloat16_is_on() -> None:
    images = noise(4, 32, 32).float()
    crops = draw_crops(np.arange(4), "crop", seed=0, height=32, width=32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = cut(images, crops, 32)
    assert torch.equal(inside, cut(images, crops, 32))


def test_what_is_drawn_for_a_picture_depends_on_it_and_the_seed_alone() -> None:
    rows = np.array([7, 1, 900, 4], dtype=np.int64)
    whole = draw_crops(rows, "crop", seed=3, height=64, width=64)
    part = draw_crops(rows[[2, 0]], "crop", seed=3, height=64, width=64)
    assert torch.equal(part.boxes, whole.boxes[[2, 0]])
    assert torch.equal(part.flips, whole.flips[[2, 0]])
    other = draw_crops(rows, "crop", seed=4, height=64, width=64)
    assert not torch.equal(other.boxes, whole.boxes)
    assert len(set(map(tuple, whole.boxes.tolist()))) == 4


def test_a_flip_leaves_the_picture_whole() -> None:
    images = noise(200, 8, 8)
    crops = draw_crops(np.arange(200), "flip", seed=0, height=8, width=8)
    expected = torch.where(crops.flips[:, None, None, None], images.flip(-1), images)
    assert torch.equal(cut(images, crops, 8), expected.float())
    assert 70 < int(crops.flips.sum()) < 130
    assert not draw_crops(np.arange(200), "none", seed=0, height=8, width=8).flips.any()


def shares(boxes: npt.NDArray[np.int64], height: int, width: int) -> dict[str, Boxes]:
    """Boxes as shares of the picture, so that pictures of different size can be compared."""
    top, left, tall, wide = boxes.astype(np.float64).T
    return {
        "area": tall * wide / (height * width),
        "middle_y": (top + tall / 2) / height,
        "middle_x": (left + wide / 2) / width,
        "log_ratio": np.log(wide / width) - np.log(tall / height),
    }


def original_boxes(height: int, width: int) -> npt.NDArray[np.int64]:
    image = torch.empty(1, height, width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [
            RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(DRAWS)
        ]
    return np.array(drawn)


def cached_boxes(size: int) -> npt.NDArray[np.int64]:
    return draw_crops(np.arange(DRAWS), "crop", seed=0, height=size, width=size).boxes.numpy()


@pytest.mark.parametrize("size", [64, 224, 512])
def test_crops_of_a_square_picture_are_distributed_as_at_its_own_resolution(size: int) -> None:
    cached, original = (
        shares(cached_boxes(size), size, size),
        shares(original_boxes(1024, 1024), 1024, 1024),
    )
    for name in cached:
        assert ks_2samp(cached[name], original[name]).statistic < 0.02 + 1 / size, name


def test_crops_of_a_squeezed_picture_keep_area_and_place_but_not_the_ratio_of_sides() -> None:
    cached, original = (
        shares(cached_boxes(224), 224, 224),
        shares(original_boxes(218, 178), 218, 178),
    )
    for name in ("area", "middle_y", "middle_x"):
        assert ks_2samp(cached[name], original[name]).statistic < 0.08, name
    shift = np.median(original["log_ratio"]) - np.median(cached["log_ratio"])
    assert 0.12 < shift < np.log(218 / 178) + 0.02


def face_like(size: int) -> npt.NDArray[np.uint8]:
    """A picture whose detail falls off as a photograph's does, its spectrum as one over f."""
    generator = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    frequency[0, 0] = 1
    phases = np.exp(2j * np.pi * generator.random((size, size)))
    plane = np.fft.ifft2(phases / frequency).real
    scaled = 128 + 40 * (plane - plane.mean()) / plane.std()
    return np.repeat(np.clip(scaled, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def test_a_larger_cache_keeps_more_of_the_detail_of_small_crops(tmp_path: Path) -> None:
    path = tmp_path / "face.png"
    Image.fromarray(face_like(512)).save(path)
    original = decode(path.read_bytes(), 512)
    errors = {}
    for share in (0.1, 1.0):
        for cached in (64, 128, 256):
            sides = {s: round(s * share**0.5) for s in (cached, 512)}
            crops = {
                s: Crops(boxes=torch.tensor([[0, 0, n, n]]), flips=torch.tensor([False]))
                for s, n in sides.items()
            }
            small = torch.from_numpy(decode(path.read_bytes(), cached))[None]
            ours = cut(small.float(), crops[cached], 64)
            exact = cut(torch.from_numpy(original)[None].float(), crops[512], 64)
            errors[share, cached] = (ours - exact).abs().mean().item()
    assert errors[0.1, 64] > errors[0.1, 128] > errors[0.1, 256]
    assert errors[0.1, 64] > 3 * errors[1.0, 64]
    assert errors[1.0, 64] < 1
