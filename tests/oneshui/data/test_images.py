from __future__ import annotations

import numpy as np
import pytest
import torch

from oneshui.accelerator import EXACT
from oneshui.data.crops import Augmentation
from oneshui.data.images import augment, make_images, normalise

CPU = torch.device("cpu")


def pictures(count: int = 6, size: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def test_normalise_maps_bytes_to_minus_one_to_one() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    values = normalise(levels)
    assert values.dtype == torch.float32
    assert values[[0, 255]].tolist() == [-1.0, 1.0]
    assert torch.equal(values, (levels.float() / 255.0 - 0.5) / 0.5)
    between = torch.linspace(0, 255, 10_001)
    assert torch.equal(normalise(between.clone()), (between / 255.0 - 0.5) / 0.5)


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
    results = [augment(images, rows, kind, size=16, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(results[0], results[1])
    assert results[0].shape == images.shape
    assert results[0].dtype == torch.float32
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(results[0], results[2]) == (kind == "none")
    alone = augment(images[[4]], rows[[4]], kind, size=16, seed=1)
    assert torch.equal(alone[0], results[0][4])


def test_a_flip_mirrors_about_half_of_the_pictures() -> None:
    images = pictures(400, 4)
    flipped = augment(images, np.arange(400), "flip", size=4, seed=0)
    mirrored = (flipped == normalise(images.flip(-1))).flatten(1).all(dim=1)
    kept = (flipped == normalise(images)).flatten(1).all(dim=1)
    assert (mirrored | kept).all()
    assert 150 < int(mirrored.sum()) < 250


def test_a_crop_of_a_smooth_picture_stays_within_its_values() -> None:
    ramp = torch.arange(32, dtype=torch.uint8).repeat(3, 32, 1)[None] * 8
    crop = augment(ramp, np.arange(1), "crop", size=32, seed=3)
    assert crop.min() >= normalise(ramp).min()
    assert crop.max() <= normalise(ramp).max()
    assert not torch.equal(crop, normalise(ramp))


def test_random_crops_alone_are_cut_from_the_larger_pictures() -> None:
    small, large = pictures(size=16), pictures(size=40)
    label, people, rows = np.zeros((6, 2), dtype=np.uint8), np.arange(6), np.array([5, 0, 2])
    data = make_images(small.numpy(), label, people, rows, detail=large.numpy())
    chosen = data.select(torch.tensor([2, 0]))
    assert torch.equal(chosen.raw(), small[[2, 5]])
    assert torch.equal(chosen.inputs(), normalise(small[[2, 5]]))
    order = torch.tensor([1, 0])
    sources: dict[Augmentation, torch.Tensor] = {"none": small, "flip": small, "crop": large}
    for kind, source in sources.items():
        expected = augment(source[[5, 2]], np.array([5, 2]), kind, size=16, seed=7)
        assert expected.shape == (2, 3, 16, 16)
        assert torch.equal(chosen.augmented(order, kind, device=CPU, seed=7), expected)
        batches = chosen.augmented_batches(order, 1, kind, device=CPU, policy=EXACT, seed=7)
        assert torch.equal(torch.cat([inputs for inputs, _ in batches]), expected)
