"""Simulated unlearning requests, drawn from training identities before deletion.

What MetaUnlearn learns from, and what tuning may try its points on: the protocol of the real
request, one image of each identity as support set and the others as forget set, played on people
whose images still exist (docs/benchmark.md, "Simulated requests").
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oneshui.errors import InputError
from oneshui.seeding import python_random


@dataclass(frozen=True, kw_only=True)
class SimulatedRequest:
    """One request; images are whatever numbers the caller knows them by.

    Attributes:
        identities: Who asks to be forgotten, distinct.
        support: One image of each, in the same order.
        forget: Their other images, identity by identity; of an identity with a single image that
            image, which then is in both sets (docs/benchmark.md, D7).
    """

    identities: tuple[int, ...]
    support: tuple[int, ...]
    forget: tuple[int, ...]


def simulate_requests(
    train: Sequence[int],
    images: Mapping[int, Sequence[int]],
    *,
    num_forget: int,
    seed: int,
    exclude: Collection[int] = (),
) -> list[SimulatedRequest]:
    """One pass over the training identities in groups of ``num_forget``, in random order.

    The last group is filled up with identities of the first. Identities without a usable image
    are left out. The draws are those of the reference for the same seed and image numbers.

    Args:
        train: Training identities in the split's order.
        images: Images of every identity.
        num_forget: Identities per request.
        seed: Of the order and of the support images.
        exclude: Images that must not be used: the real support set.

    Raises:
        InputError: ``num_forget`` is below 1, or does not leave any identity to retain.
    """
    excluded = set(exclude)
    usable = {}
    for identity in train:
        # The reference samples from the order of a set, which in CPython is fixed for ints but
        # depends on how the set was made.
        left = set(images[identity])
        left -= excluded
        usable[identity] = list(left)
    stream = python_random(seed)
    queue = list(train)
    stream.shuffle(queue)
    queue = [identity for identity in queue if usable[identity]]
    if not 1 <= num_forget < len(queue):
        raise InputError(
            f"simulated requests of {num_forget} identities are not possible: {len(queue)} "
            "training identities have images, and a request takes at least 1 and leaves some"
        )
    requests = []
    for start in range(0, len(queue), num_forget):
        group = queue[start : start + num_forget]
        group += queue[: num_forget - len(group)]
        support = [stream.sample(usable[identity], 1)[0] for identity in group]
        forget: list[int] = []
        for identity, chosen in zip(group, support, strict=True):
            others = [image for image in usable[identity] if image != chosen]
            forget += others or [chosen]
        requests.append(
            SimulatedRequest(identities=tuple(group), support=tuple(support), forget=tuple(forget))
        )
    return requests


def retained(
    identity_of_image: npt.NDArray[np.int64], request: SimulatedRequest
) -> npt.NDArray[np.int64]:
    """Positions of the images that the request leaves alone, int64, ascending.

    Args:
        identity_of_image: Identity of every usable training image, int64 [images].
        request: The request.
    """
    return np.flatnonzero(~np.isin(identity_of_image, request.identities)).astype(np.int64)
