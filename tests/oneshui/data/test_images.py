from __future__ import annotations

import numpy as np
import pytest
import torch

from oneshui.data.crops import Augmentation
from oneshui.data.images import augmented, make_images, normalise

CPU = torch.device("cpu")


def pictures(count: int = 6, size: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def test_normalise_maps_bytes_to_minus_one_to_one() -> None:
    values = normalise(torch.tensor([0, 127, 255], dtype=torch.uint8))
    assert values.dtype == torch.float32
    assert torch.allclose(values, torch.tensor([-1.0, 2 * 127 / 255 - 1, 1.0]))


def test_selecting_keeps_pixels_labels_and_identities_together() -> None:
    pixels = pictures().numpy()
    label = np.arange(12, dtype=np.uint8).reshape(6, 2) % 2
    data = make_images(pixels, label, np.arange(6) * 10, np.array([4, 1, 3]))
    part = data.select(torch.tensor([2, 0]))
    assert part.rows.tolist() == [3, 4]
    assert part.identities.tolist() == [30, 40]
    assert torch.equal(part.raw(), torch.from_numpy(pixels[[3, 4]]))
    assert torch.equal(data.raw(slice(1, 2)), torch.from_numpy(pixels[[1]]))
    batches = list(data.batches(2, torch.device("cpu")))
    assert [len(labels) for _, labels in batches] == [2, 1]
    assert torch.equal(torch.cat([x for x, _ in batches]), data.inputs())


@pytest.mark.parametrize("kind", ["none", "flip", "crop"])
def test_augmentation_follows_seed_and_picture_alone(kind: Augmentation) -> None:
    images, rows = pictures(), np.arange(6)
    state = torch.random.get_rng_state()
    results = [augmented(images, rows, kind, device=CPU, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(results[0], results[1])
    assert results[0].shape == images.shape
    assert results[0].dtype == torch.float32
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(results[0], results[2]) == (kind == "none")
    alone = augmented(images[[4]], rows[[4]], kind, device=CPU, seed=1)
    assert torch.equal(alone[0], results[0][4])


def test_a_flip_mirrors_about_half_of_the_pictures() -> None:
    images = pictures(400, 4)
    flipped = augmented(images, np.arange(400), "flip", device=CPU, seed=0)
    mirrored = (flipped == normalise(images.flip(-1))).flatten(1).all(dim=1)
    kept = (flipped == normalise(images)).flatten(1).all(dim=1)
    assert (mirrored | kept).all()
    assert 150 < int(mirrored.sum()) < 250


def test_a_crop_of_a_smooth_picture_stays_within_its_values() -> None:
    ramp = torch.arange(32, dtype=torch.uint8).repeat(3, 32, 1)[None] * 8
    crop = augmented(ramp, np.arange(1), "crop", device=CPU, seed=3)
    assert crop.min() >= normalise(ramp).min()
    assert crop.max() <= normalise(ramp).max()
    assert not torch.equal(crop, normalise(ramp))
