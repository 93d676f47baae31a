"""Re-identification: does a model still recognise the people it was to forget?

The deployer keeps one picture of everybody who asked. Somebody who has it and the model can look at
the features that enter the classifier: are the person's other pictures nearer to it than to those
of strangers? Networks tell people apart who they never saw, so a rate says nothing by itself; what
counts is the difference to the retrained model on the same pictures. After "closed-set" and
verification protocols of face recognition (ISO/IEC 19795-1; LFW, University of Massachusetts
Technical Report 07-49).

Every person counts alike, however many pictures there are. Must not import torch.

Shapes: N pictures, D features, G pictures of the gallery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from oneshui.errors import InputError
from oneshui.metrics.scores import ArrayLike, as_logits, as_numpy
from oneshui.seeding import derive_seed

FALSE_ACCEPTS = 0.01
"""Share of pairs of different people that are taken for one person."""
FEWEST_FALSE_ACCEPTS = 10
"""As in ``oneshui.attacks.roc``: a rate that rests upon fewer is not given."""
FEWEST_OTHERS = 20
"""Strangers and retained people at least, where there are so many: of one forgotten person beside
one stranger half would be recognised by chance."""
MOST_PICTURES = 10
"""Of a retained person; everybody who stays has many, and they are only compared."""


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """Who is recognised by one model, person by person.

    Attributes:
        people: Identities whose pictures were shown, ascending.
        pictures: How many of each.
        first: Share in [0, 1] of each person's pictures that are nearer to the person's picture in
            the gallery than to any other.
        accepted: Share of each person's pictures that are accepted as the person where 1 % of pairs
            of different people are; None where there are too few such pairs.
        pairs: Pairs of different people.
    """

    people: tuple[int, ...]
    pictures: tuple[int, ...]
    first: tuple[float, ...]
    accepted: tuple[float, ...] | None
    pairs: int

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "people": list(self.people),
            "pictures": list(self.pictures),
            "first": list(self.first),
            "accepted": None if self.accepted is None else list(self.accepted),
            "pairs": self.pairs,
        }


def recognise(
    gallery: ArrayLike,
    gallery_identities: ArrayLike,
    probes: ArrayLike,
    probe_identities: ArrayLike,
) -> Recognition:
    """Compare pictures with a gallery by the cosine between features.

    Rank 1 goes to nobody where two pictures of the gallery are equally near: features that are all
    alike recognise no one. At the threshold at most 1 % of the pairs of different people are
    accepted, never more.

    Args:
        gallery: One picture of each person, [G, D].
        gallery_identities: Whose, int [G], each once.
        probes: Further pictures of some of them, [N, D].
        probe_identities: Whose, int [N].

    Raises:
        InputError: Nobody is shown, somebody is in the gallery twice or not at all, or a feature is
            not finite.
    """
    known, shown = as_numpy(gallery_identities), as_numpy(probe_identities)
    if len(shown) == 0 or len(np.unique(known)) < len(known) or not np.isin(shown, known).all():
        raise InputError(
            f"{len(shown)} pictures of {len(np.unique(shown))} people cannot be recognised among "
            f"{len(known)}: each of them needs one picture in the gallery, and nobody two"
        )
    near = _directions(probes) @ _directions(gallery).T
    is_own = shown[:, None] == known[None, :]
    genuine, others = near[is_own], near[~is_own]
    best = np.where(is_own, -np.inf, near).max(axis=1)
    first = genuine > best
    accepted = None
    allowed = int(FALSE_ACCEPTS * len(others))
    if allowed >= FEWEST_FALSE_ACCEPTS:
        threshold = np.partition(others, -(allowed + 1))[-(allowed + 1)]
        accepted = genuine > threshold
    people, person = np.unique(shown, return_inverse=True)
    counts = np.bincount(person)

    def by_person(hits: npt.NDArray[np.bool_]) -> tuple[float, ...]:
        return tuple((np.bincount(person, weights=hits) / counts).tolist())

    return Recognition(
        people=tuple(people.tolist()),
        pictures=tuple(counts.tolist()),
        first=by_person(first),
        accepted=None if accepted is None else by_person(accepted),
        pairs=len(others),
    )


def _directions(features: ArrayLike) -> npt.NDArray[np.float64]:
    """Features of length 1; one without any direction stays 0, and is near to nobody."""
    values = as_logits(features)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    found: npt.NDArray[np.float64] = values / np.where(lengths > 0, lengths, 1.0)
    return found


@dataclass(frozen=True, kw_only=True)
class Looked:
    """Which pictures are shown to every model of a cell, rows of the dataset.

    Attributes:
        strangers: One picture each of people whom no model was trained on.
        retained: One picture each of people who stay.
        probes: Further pictures of those who stay.
    """

    strangers: npt.NDArray[np.int64]
    retained: npt.NDArray[np.int64]
    probes: npt.NDArray[np.int64]


def looked_at(
    identity_of_image: npt.NDArray[np.int64],
    retain: npt.NDArray[np.int64],
    test: npt.NDArray[np.int64],
    *,
    num_forget: int,
    seed: int,
) -> Looked:
    """Draw strangers and retained people, as many as are forgotten but ``FEWEST_OTHERS`` at least.

    Args:
        identity_of_image: Identity of every image of the dataset, int64 [images].
        retain: Rows of the retain set, int64 [n].
        test: Rows of the test set, int64 [m].
        num_forget: People forgotten.
        seed: Of the draw.
    """
    number = max(num_forget, FEWEST_OTHERS)
    strangers = [
        rows[:1] for rows in _people(identity_of_image, test, "strangers", seed, 1)[:number]
    ]
    staying = _people(identity_of_image, retain, "retained", seed, 2)[:number]
    return Looked(
        strangers=_joined(strangers),
        retained=_joined([rows[:1] for rows in staying]),
        probes=_joined([rows[1 : 1 + MOST_PICTURES] for rows in staying]),
    )


def _people(
    identity_of_image: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    name: str,
    seed: int,
    fewest: int,
) -> list[npt.NDArray[np.int64]]:
    """Pictures of everybody who has enough, in random order; the people in random order too."""
    generator = np.random.default_rng(derive_seed(seed, "reidentify", name))
    of_rows = identity_of_image[rows]
    people, counts = np.unique(of_rows, return_counts=True)
    able = generator.permutation(people[counts >= fewest])
    return [generator.permutation(rows[of_rows == person]) for person in able]


def _joined(parts: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, dtype=np.int64)
