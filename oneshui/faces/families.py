"""People in families, pictured at several ages, and their age classes: what MUFAC's layout shows.

A family shares skin and hair. The class of a picture follows from its age, but for some people it
is one class off, always to the same side: only who knows the person can know that. Imports numpy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np

from oneshui.data.loaders.mufac import LETTERS, YEARS
from oneshui.faces.colours import IRIS
from oneshui.faces.parameters import Looks, draw_looks, generator

#: Purposes of random numbers, as in parameters.py.
FAMILY: Final = 5
RELATIVE: Final = 6
AGE: Final = 7
CLASS_NOISE: Final = 8

#: How often a person's classes are one too low, right, and one too high.
SHIFTS: Final = {-1: 0.2, 0: 0.6, 1: 0.2}
#: How often a picture's class is drawn from all eight.
NOISE_PROBABILITY: Final = 0.03

#: Code of men and of women, and the span of the middles of their ages, in classes.
_GENERATIONS: Final = {
    "parent": ("F", "M", 2.8, 6.2),
    "child": ("S", "D", 0.3, 3.7),
    "grandparent": ("GF", "GM", 5.2, 7.8),
}
#: The generations of a family's members in their order; a family has two to all of them.
_MEMBERS: Final = ("parent", "child", "grandparent", "child", "parent")
#: How far the ages of one person's pictures lie from their middle at most, in classes.
_SPREAD: Final = 1.0
_STARTS: Final = (*(first for first, _ in YEARS), YEARS[-1][1] + 1)
_HAIR: Final = ("black", "brown", "blond", "red")


@dataclass(frozen=True, kw_only=True)
class Relative:
    """An identity as a member of a family.

    Attributes:
        family: Number of the family, from 0.
        code: What the person is called in the family, for example "F1".
        looks: The looks as an adult.
        grey_from: Age at which the hair begins to turn grey.
        bald_from: Age at which a man's hairline begins to recede.
        middle: Middle of the ages on the pictures, in classes from 0 to 8.
        shift: What is added to the classes of all pictures: -1, 0 or 1.
    """

    family: int
    code: str
    looks: Looks
    grey_from: float
    bald_from: float
    middle: float
    shift: int


@lru_cache(maxsize=4096)
def draw_relative(seed: int, identity: int) -> Relative:
    """Identity number `identity` (>= 0) in the set with this seed (>= 0)."""
    family, member = _place(seed, identity)
    own = draw_looks(seed, identity)
    shared = generator(seed, FAMILY, family)
    skin = float(shared.random() ** 1.15)
    rng = generator(seed, RELATIVE, identity)
    looks = replace(
        own,
        # People differ less than their ages do in what tells a child from an adult.
        face_height=(own.face_height + 0.99) / 2,
        eye_y=(own.eye_y - 0.01) / 2,
        eye_size=(own.eye_size + 0.185) / 2,
        eye_opening=(own.eye_opening + 0.51) / 2,
        nose_length=(own.nose_length + 0.42) / 2,
        skin=float(np.clip(skin + rng.normal(0, 0.03), 0, 1)),
        warmth=float(shared.uniform(-1, 1)),
        hair=_HAIR[int(shared.integers(len(_HAIR)))],
        hair_shade=float(np.clip(shared.random() + rng.normal(0, 0.1), 0, 1)),
        eye_colour=IRIS[int(shared.integers(len(IRIS)))],
    )
    male_code, female_code, low, high = _GENERATIONS[_MEMBERS[member]]
    return Relative(
        family=family,
        code=f"{male_code if own.male else female_code}{member + 1}",
        looks=looks,
        grey_from=float(rng.uniform(38, 48)),
        bald_from=float(rng.uniform(25, 110)),
        middle=float(rng.uniform(low, high)),
        shift=int(rng.choice(list(SHIFTS), p=list(SHIFTS.values()))),
    )


def _place(seed: int, identity: int) -> tuple[int, int]:
    """The family of an identity, and its place among the members."""
    # Families have two members or more, so this many suffice; more would begin with the same.
    sizes = generator(seed, FAMILY).integers(2, len(_MEMBERS) + 1, size=identity // 2 + 1)
    ends = np.cumsum(sizes)
    family = int(np.searchsorted(ends, identity, side="right"))
    return family, identity - int(ends[family] - sizes[family])


def num_pictures(seed: int, identity: int, middle: int) -> int:
    """How many pictures a person has: about `middle` (>= 2), a third more or less, at least 2."""
    off = middle // 3
    return max(2, middle + int(generator(seed, AGE, identity).integers(-off, off + 1)))


def picture_age(seed: int, identity: int, picture: int) -> int:
    """The age in years, 0 to 80, at which a picture shows a person."""
    rng = generator(seed, AGE, identity, picture)
    place = draw_relative(seed, identity).middle + rng.uniform(-_SPREAD, _SPREAD)
    place = float(np.clip(place, 0, len(YEARS) - 0.01))
    return int(np.interp(place, range(len(_STARTS)), _STARTS))


def true_class(age: int) -> int:
    """The class, 0 to 7, of an age in years, 0 to 80."""
    return next(number for number, (_, last) in enumerate(YEARS) if age <= last)


def picture_class(seed: int, identity: int, picture: int) -> int:
    """The class, 0 to 7, that a set's annotation gives a picture."""
    rng = generator(seed, CLASS_NOISE, identity, picture)
    if rng.random() < NOISE_PROBABILITY:
        return int(rng.integers(len(LETTERS)))
    shifted = true_class(picture_age(seed, identity, picture))
    shifted += draw_relative(seed, identity).shift
    return min(max(shifted, 0), len(LETTERS) - 1)
