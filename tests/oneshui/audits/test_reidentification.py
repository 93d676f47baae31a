"""Who is recognised: by hand, at the edges, and that nobody else is looked at than is said."""

from __future__ import annotations

import numpy as np
import pytest
from reference.probes import rank_one, true_accepts

from oneshui.audits.reidentification import (
    FALSE_ACCEPTS,
    FEWEST_FALSE_ACCEPTS,
    MOST_PICTURES,
    looked_at,
    recognise,
)
from oneshui.errors import InputError


def crowd(
    people: int, pictures: int, strangers: int, *, noise: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features of a gallery with strangers and of further pictures, and whose they are."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(people + strangers, 6))
    gallery = centres + noise * generator.normal(size=centres.shape)
    owners = np.repeat(np.arange(people), pictures)
    probes = centres[owners] + noise * generator.normal(size=(len(owners), 6))
    return gallery, np.arange(people + strangers), probes, owners


@pytest.mark.parametrize("seed", range(5))
def test_rates_are_those_of_comparing_every_picture_with_every_other(seed: int) -> None:
    shown = crowd(7, 6, 23, noise=0.5, seed=seed)
    found = recognise(*shown)
    gallery, known, probes, owners = (each.tolist() for each in shown)
    by_hand = rank_one(gallery, known, probes, owners)
    assert dict(zip(found.people, found.first, strict=True)) == pytest.approx(by_hand)
    assert found.pairs == 42 * 29
    assert found.accepted is not None
    rate = true_accepts(gallery, known, probes, owners, FALSE_ACCEPTS)
    # Everybody has as many pictures, so the mean over people is that over pairs.
    assert np.mean(found.accepted) == pytest.approx(rate)
    assert 0 < rate < 1


def test_every_person_counts_alike_however_many_pictures_there_are() -> None:
    gallery = np.array([[1.0, 0.0], [0.0, 1.0]])
    probes = np.array([[1.0, 0.1]] * 9 + [[1.0, 0.2]])
    found = recognise(gallery, [3, 5], probes, [3] * 9 + [5])
    assert found.people == (3, 5)
    assert found.pictures == (9, 1)
    assert found.first == (1.0, 0.0)


def test_no_rate_is_given_that_fewer_than_ten_false_accepts_decide() -> None:
    needed = round(FEWEST_FALSE_ACCEPTS / FALSE_ACCEPTS)
    few = crowd(9, 3, 28)
    assert recognise(*few).pairs == 27 * 36 < needed
    assert recognise(*few).accepted is None
    enough = crowd(9, 3, 29)
    assert recognise(*enough).pairs == 27 * 37 < needed
    many = crowd(10, 4, 16)
    assert recognise(*many).pairs == 40 * 25 == needed
    assert recognise(*many).accepted is not None


def test_features_that_are_all_alike_recognise_nobody() -> None:
    gallery, known, probes, owners = crowd(10, 4, 20)
    found = recognise(np.ones_like(gallery), known, np.ones_like(probes), owners)
    assert set(found.first) == {0.0}
    assert found.accepted is not None
    assert set(found.accepted) == {0.0}


def test_features_without_a_direction_are_near_to_nobody() -> None:
    gallery, known, probes, owners = crowd(3, 2, 4)
    found = recognise(gallery, known, np.zeros_like(probes), owners)
    assert found.first == (0.0, 0.0, 0.0)


def test_lengths_of_features_do_not_matter() -> None:
    gallery, known, probes, owners = crowd(5, 4, 10, noise=0.5)
    lengths = np.linspace(0.1, 50, len(probes))[:, None]
    assert recognise(gallery, known, lengths * probes, owners) == recognise(
        gallery, known, probes, owners
    )


@pytest.mark.parametrize(
    ("known", "owners"), [([0, 0], [0]), ([0, 1], [2]), ([0, 1], [])], ids=["twice", "no", "nobody"]
)
def test_a_gallery_that_cannot_be_is_refused(known: list[int], owners: list[int]) -> None:
    with pytest.raises(InputError, match="needs one picture in the gallery"):
        recognise(np.ones((2, 3)), known, np.ones((len(owners), 3)), owners)


def test_features_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        recognise(np.full((2, 3), np.nan), [0, 1], np.ones((1, 3)), [0])


IDENTITY = np.repeat(np.arange(60), 15)
RETAIN, TEST = np.flatnonzero(IDENTITY < 30), np.flatnonzero(IDENTITY >= 35)


def test_strangers_were_never_trained_on_and_those_who_stay_are_shown_by_other_pictures() -> None:
    looked = looked_at(IDENTITY, RETAIN, TEST, num_forget=22, seed=1)
    assert set(looked.strangers) <= set(TEST)
    assert set(looked.retained) | set(looked.probes) <= set(RETAIN)
    assert not set(looked.retained) & set(looked.probes)
    for rows in (looked.strangers, looked.retained):
        assert len(rows) == len(np.unique(IDENTITY[rows])) == 22
    people, pictures = np.unique(IDENTITY[looked.probes], return_counts=True)
    assert people.tolist() == sorted(IDENTITY[looked.retained])
    assert set(pictures) == {MOST_PICTURES}


def test_a_single_forgotten_person_is_looked_for_among_more_than_one_stranger() -> None:
    looked = looked_at(IDENTITY, RETAIN, TEST, num_forget=1, seed=1)
    assert len(looked.strangers) == len(looked.retained) == 20


def test_who_has_one_picture_alone_can_be_a_stranger_and_is_not_looked_for() -> None:
    identity = np.arange(8)
    looked = looked_at(identity, np.arange(4), np.arange(4, 8), num_forget=2, seed=0)
    assert sorted(looked.strangers) == [4, 5, 6, 7]
    assert len(looked.retained) == len(looked.probes) == 0


def test_who_is_looked_at_depends_on_the_seed_and_on_nothing_else() -> None:
    first, same, other = (
        looked_at(IDENTITY, RETAIN, TEST, num_forget=5, seed=seed) for seed in (1, 1, 2)
    )
    assert all(np.array_equal(getattr(first, name), getattr(same, name)) for name in vars(first))
    assert not np.array_equal(first.strangers, other.strangers)
    assert not np.array_equal(first.retained, other.retained)
