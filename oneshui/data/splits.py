"""Who is trained on, who is forgotten, and which one picture of each remains.

The protocol of the 1-SHUI benchmark (arXiv 2407.12069, Section 4): train, validation and test
sets share no identity; the forget identities are drawn from the training identities; one image
of each is set aside as the support set and is never trained on. Pure functions of the identity
of every image and of seeds; no pictures are read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from oneshui.errors import InputError
from oneshui.seeding import python_random
from oneshui.spec import Walk, images_needed

SetName = Literal["retain", "forget", "test", "val", "support"]
SET_NAMES: tuple[SetName, ...] = get_args(SetName)
SHARES: Mapping[Literal["val", "test", "train"], float] = {"val": 0.2, "test": 0.2, "train": 0.6}
"""Of the images, for which the sets are meant."""
UNEVEN = 0.15
"""How far a share may be off before somebody is told."""
TUNE_ON_FEWER = "report fewer sweep.seeds, lower sweep.forget_sizes, say tuning.cells=own"
"""What helps where too few people are left to be forgotten in a cell that only tunes."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """One identity-disjoint split with its forget request.

    Attributes:
        train: Training identities, in the order of the shuffle; so are ``val`` and ``test``.
        val: Validation identities.
        test: Test identities.
        forget: Identities that ask to be forgotten, in the order in which they were chosen.
        retain: The other training identities.
        support: One image (row of the image table) per forget identity, in ``forget``'s order.
        identity_of_image: Identity of every image of the dataset, int64 [images].
        reserved: Identities of the dataset whom other requests forget, so that neither this one nor
            one that is simulated for it may; those of them who are trained on are retained.
        withheld: Further images that are in no set: the support images of whoever was drawn with
            the people who ask here, and asks before or after them.
    """

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]
    forget: tuple[int, ...]
    retain: tuple[int, ...]
    support: tuple[int, ...]
    identity_of_image: npt.NDArray[np.int64]
    reserved: tuple[int, ...] = ()
    withheld: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        assert not set(self.train) & set(self.val)
        assert not set(self.train) & set(self.test)
        assert not set(self.val) & set(self.test)
        assert sorted(self.forget + self.retain) == sorted(self.train)
        assert not set(self.forget) & set(self.reserved)
        assert [int(self.identity_of_image[i]) for i in self.support] == list(self.forget)

    def images(self, name: SetName | Literal["train"]) -> npt.NDArray[np.int64]:
        """Rows of one set, int64 [n], ascending; the support set in the order of ``forget``.

        The support images belong to no other set, those that are withheld to none.
        """
        support = np.asarray(self.support, dtype=np.int64)
        if name == "support":
            return support
        identities = np.asarray(getattr(self, name), dtype=np.int64)
        rows = np.flatnonzero(np.isin(self.identity_of_image, identities))
        return np.setdiff1d(rows, (*self.support, *self.withheld)).astype(np.int64)

    def request(self, number: int, num_forget: int) -> Split:
        """One of several requests of so many people that this one was drawn for.

        The people of the other requests are in no set: the pretrained model was trained on them,
        the retrained one was not.

        Args:
            number: From 0 on.
            num_forget: Identities in each request.

        Raises:
            InputError: There is no such request.
        """
        own = slice(number * num_forget, (number + 1) * num_forget)
        forget = self.forget[own]
        if len(forget) != num_forget:
            raise InputError(
                f"request {number} of {num_forget} identities is not among {len(self.forget)}"
            )
        members = {*forget, *self.retain}
        return dataclasses.replace(
            self,
            train=tuple(identity for identity in self.train if identity in members),
            forget=forget,
            support=self.support[own],
        )

    def part(self, asking: Collection[int], gone: Collection[int] = ()) -> Split:
        """The split at the time when some of the people ask, of those whom this one was drawn for.

        Whoever asks later is retained, whoever asked before is in no set any more; nobody's support
        image is trained on at any time.

        Args:
            asking: Identities of ``forget`` that ask now, in any order.
            gone: Those that asked before.

        Raises:
            InputError: Nobody asks, or one who does is not among ``forget`` or has asked before.
        """
        now, before = set(asking), set(gone)
        if not now or not now | before <= set(self.forget) or now & before:
            raise InputError(
                f"{sorted(now)} cannot ask after {sorted(before)}: each of the {len(self.forget)} "
                "people of the split asks once"
            )
        kept = dict(zip(self.forget, self.support, strict=True))
        return dataclasses.replace(
            self,
            train=tuple(identity for identity in self.train if identity not in before),
            forget=tuple(identity for identity in self.forget if identity in now),
            retain=(*self.retain, *(one for one in self.forget if one not in now | before)),
            support=tuple(kept[identity] for identity in self.forget if identity in now),
            withheld=tuple(image for identity, image in kept.items() if identity not in now),
        )

    @property
    def uneven(self) -> str:
        """The shares of val, test and train in words if one is far off; "" if none is."""
        held = {
            name: float(np.isin(self.identity_of_image, getattr(self, name)).mean())
            for name in SHARES
        }
        if all(abs(held[name] - share) <= UNEVEN for name, share in SHARES.items()):
            return ""
        told = ", ".join(f"{name} {100 * share:.0f}" for name, share in held.items())
        return (
            f"the sets hold {told} % of the images instead of 20, 20 and 60, because some people "
            "have very many of them; fewer images of these people, or another seed, come nearer"
        )

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change with any identity list or support image."""
        digest = hashlib.sha256()
        parts = (self.train, self.val, self.test, self.forget, self.retain, self.support)
        # Splits that reserve and withhold nothing have the fingerprint that they always had.
        for part in (*parts, *filter(None, [self.reserved, self.withheld])):
            digest.update(np.asarray(part, dtype="<i8").tobytes() + b"|")
        return digest.hexdigest()[:16]


def images_by_identity(
    identity_of_image: npt.NDArray[np.int64], order: Sequence[int]
) -> dict[int, list[int]]:
    """Rows of every identity, ascending, for all identities of ``order`` (maybe none)."""
    images: dict[int, list[int]] = {identity: [] for identity in order}
    for row, identity in enumerate(identity_of_image.tolist()):
        images[identity].append(row)
    return images


def _take(
    queue: list[int], share: float, count: Mapping[int, int], walk: Walk
) -> tuple[list[int], list[int]]:
    """The first identities of the queue that hold about ``share`` of its images, and the rest.

    The reference moves the boundary left by subtracting the images of the identity that is still
    inside; ``walk="corrected"`` subtracts those of the one that was removed
    (docs/benchmark.md, D1).

    Raises:
        IndexError: The walk leaves the queue without having found a boundary.
    """
    target = share * sum(count[identity] for identity in queue)
    limit = int(share * len(queue))
    images = sum(count[identity] for identity in queue[:limit])
    if images > target:
        while images > target:
            limit -= 1
            if limit == 0:
                raise IndexError("nobody is left on this side of the boundary")
            images -= count[queue[limit - 1 if walk == "reference" else limit]]
    else:
        while images <= target:
            limit += 1
            images += count[queue[limit - 1]]
    return queue[:limit], queue[limit:]


def _parted(queue: list[int], count: Mapping[int, int], walk: Walk) -> list[list[int]]:
    """The queue as val, test and training identities: 20, 20 and 60 % of the images.

    Raises:
        InputError: Fewer than three identities have images, or the reference's walk gets lost.
    """
    people = sum(count[identity] > 0 for identity in queue)
    if people < 3:
        raise InputError(
            f"{people} identities with images are too few for a train, a val and a test set"
        )
    parts: list[list[int]] = [[], [], []]
    with contextlib.suppress(IndexError):
        inside, train = _take(queue, 0.4, count, walk)
        parts = [*_take(inside, 0.5, count, walk), train]
    if walk == "corrected" and _off(parts, count) > UNEVEN:
        return _nearest(queue, count)
    if not all(_images(part, count) for part in parts):
        raise InputError(
            "the authors' walk finds no boundary between the sets, because some people have very "
            "many of the images; say walk=corrected (datasets.<name>.walk in a sweep)"
        )
    return parts


def _images(identities: Sequence[int], count: Mapping[int, int]) -> int:
    return sum(count[identity] for identity in identities)


def _off(parts: Sequence[Sequence[int]], count: Mapping[int, int]) -> float:
    """How far the shares of val, test and train are off at most, in 0..1.

    Infinity if a part has no image, or is above its share by more than one identity's images.
    """
    held = [_images(part, count) for part in parts]
    wanted = [share * sum(held) for share in SHARES.values()]
    for part, images, share in zip(parts, held, wanted, strict=True):
        if not images or images - max(count[identity] for identity in part) > share:
            return math.inf
    return max(abs(images - share) for images, share in zip(held, wanted, strict=True)) / sum(held)


def _nearest(queue: list[int], count: Mapping[int, int]) -> list[list[int]]:
    """The queue in three parts that are balanced and as near to their shares as can be.

    There always are such parts: a boundary just behind the identity with which a share is reached
    makes the part before it balanced, and where that leaves a part without images, one with a
    single identity is.
    """
    held = np.cumsum([count[identity] for identity in queue])
    # Boundaries stand behind people with images; who has none goes with the part that follows.
    places = np.flatnonzero(np.diff(held, prepend=0)) + 1
    last = len(places) - 1

    def near(share: float) -> set[int]:
        reached = int(np.searchsorted(held[places - 1], share * held[-1]))
        return {min(max(number, 0), last) for number in range(reached - 2, reached + 3)}

    options: list[list[list[int]]] = []
    for first in near(0.2):
        for second in {*near(0.4), min(first + 1, last)}:
            if first < second < last:
                a, b = int(places[first]), int(places[second])
                options.append([queue[:a], queue[a:b], queue[b:]])
    return min(options, key=lambda parts: _off(parts, count))


def make_split(
    identity_of_image: npt.NDArray[np.int64],
    identity_order: Sequence[int],
    *,
    num_forget: int,
    seed: int,
    support_seed: int | None = None,
    walk: Walk = "reference",
    min_images: int = 2,
    reserved: Collection[int] = (),
    among: Sequence[int] | None = None,
) -> Split:
    """Draw the split, the forget identities and their support images.

    Source: arXiv 2407.12069 and its code; golden numbers fix every draw. 60/20/20 by images.

    Args:
        identity_of_image: Identity of every image, int64 [images].
        identity_order: All identities in the dataset's order; identities without images take
            part in the shuffle and can never be chosen.
        num_forget: Identities that ask to be forgotten.
        seed: Of the split and of the choice of forget identities.
        support_seed: Of the choice of support images. None or ``seed`` draws them from the
            split's own stream, as the paper did.
        walk: How the boundary between the sets is found. With "corrected" no set is above its
            share by more than one identity's images.
        min_images: Images that an identity needs in order to be forgotten (6 when a single
            identity is forgotten, as in the paper).
        reserved: Identities that must not be chosen to be forgotten.
        among: Those who alone may be, first come those who are to be; whoever of them is trained on
            here. None for everybody, in the order of a shuffle. Who is in which of the three sets
            does not depend on it.

    Raises:
        InputError: ``num_forget`` is below 1, or fewer training identities have enough images;
            or there are too few identities to fill three sets, or the reference's walk cannot.
    """
    if num_forget < 1:
        raise InputError(f"forget size {num_forget} is not possible: it must be at least 1")
    images = images_by_identity(identity_of_image, identity_order)
    count = {identity: len(rows) for identity, rows in images.items()}
    stream = python_random(seed)
    queue = list(identity_order)
    stream.shuffle(queue)
    val, test, train = _parted(queue, count, walk)
    order = list(identity_order)
    stream.shuffle(order)
    chooser = stream if support_seed in (None, seed) else python_random(support_seed)
    needed = max(min_images, images_needed(1)) if num_forget == 1 else min_images
    members, others = set(train), set(reserved)
    forget: list[int] = []
    retain: list[int] = []
    support: list[int] = []
    may = members if among is None else members.intersection(among)
    first = () if among is None else tuple(among)
    for identity in dict.fromkeys((*first, *order)):
        if identity not in members:
            continue
        free = count[identity] >= needed and identity not in others and identity in may
        if free and len(forget) < num_forget:
            support += chooser.sample(images[identity], 1)
            forget.append(identity)
        else:
            retain.append(identity)
    able = [identity for identity in train if count[identity] >= needed and identity in may]
    if among is not None and len(forget) < num_forget:
        raise InputError(
            f"forget size {num_forget} is too large where people are chosen by memorisation: of "
            f"the {len(among)} of the pool only {len(able)} are in this seed's training set with "
            f"the {needed} images that forgetting needs; raise sweep.audit.pool, or lower "
            "sweep.forget_sizes"
        )
    if len(forget) < num_forget <= len(able):
        raise InputError(
            f"forget size {num_forget} is too large for a cell that only tunes: of the {len(able)} "
            f"training identities that could be forgotten, {len(others.intersection(able))} are "
            f"kept out, because reported cells forget them; {TUNE_ON_FEWER} or use profile=paper"
        )
    if len(forget) < num_forget or not any(count[identity] for identity in retain):
        smaller = "choose a smaller forget size" if able else "bring more pictures of each person"
        raise InputError(
            f"forget size {num_forget} is too large: of {len(train)} training identities "
            f"{len(able)} have the {needed} images that forgetting "
            f"needs, and some must be left to retain; {smaller}"
        )
    return Split(
        train=tuple(train),
        val=tuple(val),
        test=tuple(test),
        forget=tuple(forget),
        retain=tuple(retain),
        support=tuple(support),
        identity_of_image=identity_of_image,
        reserved=tuple(sorted(others)),
    )


def require_shared_labels(
    split: Split, label: npt.NDArray[np.uint8] | npt.NDArray[np.int64]
) -> None:
    """Check that what a model learns can be seen on the people whom it was not trained on.

    Args:
        split: Who is in which set.
        label: Of all images, uint8 [N, C] of 0/1 or int64 [N] class index.

    Raises:
        InputError: No class, or no attribute that an image has, is both in the training set and in
            the validation or test set.
    """

    def occurring(name: Literal["train", "val", "test"]) -> set[int]:
        rows = label[split.images(name)]
        return set(np.flatnonzero(rows.any(axis=0)) if rows.ndim == 2 else rows.tolist())

    for name in ("val", "test"):
        if not occurring("train") & occurring(name):
            what = "attribute that an image has" if label.ndim == 2 else "class"
            raise InputError(
                f"no {what} of the {name} set occurs in the training set, so nothing that is "
                "learned can be measured there; labels must be what different people share"
            )


def most_requests(num_identities: int, num_forget: int, *, is_reserving: bool = False) -> int:
    """How many simulated requests there can be without an identity in two of them.

    Args:
        num_identities: Training identities with a usable image, those of the real request left out.
        num_forget: Identities per request.
        is_reserving: Whether those whom reported cells forget are left out as well.

    Raises:
        InputError: Not even one that leaves anybody.
    """
    most = (num_identities - 1) // num_forget
    if most < 1:
        requests, remedy = "the real request", "lower sweep.forget_sizes"
        if is_reserving:
            requests, remedy = "the real request and those of reported cells", TUNE_ON_FEWER
        raise InputError(
            f"tuning simulates requests of {num_forget} people, but only {num_identities} training "
            f"people are left beside {requests}; {remedy} or use profile=paper"
        )
    return most
