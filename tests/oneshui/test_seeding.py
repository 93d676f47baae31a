from __future__ import annotations

import hashlib
import random

import pytest
import torch

from oneshui.seeding import derive_seed, python_random, torch_generator


@pytest.mark.parametrize(
    ("parts", "text"),
    [((3, "training", 0), '[3,"training",0]'), (("view", 12), '["view",12]'), ((), "[]")],
)
def test_a_seed_is_the_upper_63_bits_of_a_digest(parts: tuple[str | int, ...], text: str) -> None:
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert derive_seed(*parts) == int(digest[:16], 16) // 2


def test_a_seed_depends_on_every_part_and_on_their_order() -> None:
    parts: list[tuple[str | int, ...]] = [
        (),
        (1,),
        (2,),
        ("1",),
        (1, 2),
        (2, 1),
        (12,),
        (1, "2"),
        ("a", "b"),
        ("b", "a"),
    ]
    assert len({derive_seed(*some) for some in parts}) == len(parts)


def test_seeds_fit_into_what_generators_take() -> None:
    assert all(0 <= derive_seed(number) < 2**63 for number in range(200))


def test_generators_are_seeded_by_what_they_are_for_and_leave_the_global_ones_alone() -> None:
    before = torch.get_rng_state(), random.getstate()
    expected = torch.Generator().manual_seed(derive_seed(5, "noise"))
    assert torch.equal(torch_generator(5, "noise").get_state(), expected.get_state())
    assert python_random(5).random() == random.Random(5).random()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
