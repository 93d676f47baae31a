"""What is drawn: the looks of an identity, and the shot, which is what changes between pictures.

Every number comes from a generator of its own, seeded by (dataset seed, purpose, identity,
picture): a picture can be drawn alone, in any order and in any process, with equal bytes.
Lengths are in units of the head: half the height of a middling head is 1, the origin lies between
the eyes' and the nose's middle, x points right and y points down. Imports numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar

import numpy as np
from numpy.random import Generator

from oneshui.faces.colours import FRAME, IRIS, LIPSTICK, Colour, from_hsv, shade

T = TypeVar("T")

#: Purposes of random numbers; a stream of one purpose tells nothing about another's.
LOOKS: Final = 0
SHOT: Final = 1
HIDDEN_LABELS: Final = 2
LABEL_NOISE: Final = 3
IMAGE_ORDER: Final = 4

#: Styles that are long enough to be called straight or wavy.
STRAIGHT_STYLES: Final = frozenset({"short", "side", "bob", "long", "pony"})
WAVY_STYLES: Final = frozenset({"curly", "wavy", "waves"})

_STYLES_MALE: Final = {
    "bald": 0.12,
    "buzz": 0.14,
    "short": 0.22,
    "side": 0.18,
    "quiff": 0.12,
    "curly": 0.11,
    "waves": 0.07,
    "bob": 0.04,
}
_STYLES_FEMALE: Final = {
    "short": 0.05,
    "side": 0.04,
    "curly": 0.12,
    "bob": 0.19,
    "long": 0.2,
    "wavy": 0.22,
    "bun": 0.09,
    "pony": 0.09,
}
_BEARDS: Final = {"none": 0.45, "stubble": 0.13, "moustache": 0.14, "goatee": 0.14, "full": 0.14}
_HATS: Final = {"beanie": 0.35, "cap": 0.3, "brim": 0.35}
_GLASSES: Final = {"round": 0.3, "square": 0.35, "cat": 0.15, "sun": 0.2}


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What stays the same in all pictures of an identity.

    Shares and probabilities are in 0..1, angles in radians, lengths in units of the head. `grey`
    is the share of hair that has turned grey, whatever the colour `hair` is.
    """

    male: bool
    age: float
    skin: float
    warmth: float
    face_width: float
    face_height: float
    jaw: float
    chin: float
    cheek: float
    eye_distance: float
    eye_y: float
    eye_size: float
    eye_opening: float
    eye_tilt: float
    eye_colour: Colour
    brow_thickness: float
    brow_arch: float
    brow_tilt: float
    brow_gap: float
    nose_length: float
    nose_width: float
    mouth_drop: float
    mouth_width: float
    lip_thickness: float
    ear_size: float
    hair: str
    hair_shade: float
    style: str
    volume: float
    hairline: float
    recession: float
    parting: float
    bangs: bool
    beard: str
    sideburns: bool
    freckles: tuple[tuple[float, float], ...]
    mole: tuple[float, float] | None
    shirt_hue: float
    p_glasses: float
    p_hat: float
    p_earrings: float
    p_makeup: float
    p_lipstick: float
    p_smile: float
    p_tie: float
    p_necklace: float
    grey: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A soft shape of the background: centre and radii in units of the head."""

    centre: tuple[float, float]
    radii: tuple[float, float]
    colour: Colour


@dataclass(frozen=True, kw_only=True)
class Shot:
    """What changes from picture to picture of an identity.

    Angles are in radians; `smile`, `mouth_open`, `squint`, `blur` and `noise` run from 0 (none)
    to 1 (most); None means that the thing is not there.
    """

    yaw: float
    pitch: float
    roll: float
    scale: float
    shift: tuple[float, float]
    gaze: float
    smile: float
    mouth_open: float
    squint: float
    unshaven: bool
    glasses: str | None
    frame: Colour
    hat: str | None
    hat_colour: Colour
    earrings: str | None
    lipstick: Colour | None
    makeup: bool
    rosy: bool
    necklace: str | None
    tie: Colour | None
    clothes: str
    clothes_colour: Colour
    backdrop: str
    backdrop_colours: tuple[Colour, Colour]
    blobs: tuple[Blob, ...]
    light: tuple[float, float]
    temperature: float
    gain: float
    contrast: float
    blur: float
    noise: float


def generator(seed: int, purpose: int, *key: int) -> Generator:
    """The generator of one purpose.

    Args:
        seed: The seed of the set, >= 0.
        purpose: One of the purposes above.
        key: What it is for, for example identity and picture; each >= 0.
    """
    # spawn_key keeps (1, 2) and (1, 2, 0) apart; a plain list of integers would not.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, *key)))


def _pick(rng: Generator, weights: dict[T, float]) -> T:
    """One key of `weights`, drawn in proportion to its weight."""
    left = rng.random() * sum(weights.values())
    for key, weight in weights.items():
        left -= weight
        if left < 0:
            return key
    return next(reversed(weights))


def _chance(rng: Generator, probability: float) -> bool:
    return bool(rng.random() < probability)


def _between(rng: Generator, low: float, high: float) -> float:
    return float(low + (high - low) * rng.random())


def _bell(rng: Generator, low: float, high: float) -> float:
    """A draw from low..high that favours the middle, though less than a normal one would."""
    return float(low + (high - low) * (rng.random() + rng.random()) / 2)


def _habit(rng: Generator, often: float, rarely: float, share: float) -> float:
    """How often an identity does something: `often` for a `share` of the identities."""
    return often if _chance(rng, share) else rarely


def _hair_colour(rng: Generator, age: float, skin: float) -> str:
    if _chance(rng, min(0.85, max(0.0, (age - 42) / 40))):
        return "gray"
    if skin > 0.55:
        return _pick(rng, {"black": 0.68, "brown": 0.22, "blond": 0.07, "red": 0.03})
    return _pick(rng, {"black": 0.24, "brown": 0.32, "blond": 0.28, "red": 0.16})


def _eye_colour(rng: Generator, skin: float) -> Colour:
    dark = [0.5, 0.32, 0.1, 0.05, 0.02, 0.01]
    pale = [0.12, 0.18, 0.15, 0.2, 0.25, 0.1]
    return IRIS[_pick(rng, dict(enumerate(dark if skin > 0.5 else pale)))]


def _freckles(rng: Generator, present: bool) -> tuple[tuple[float, float], ...]:
    if not present:
        return ()
    side = np.where(rng.random(26) < 0.5, -1.0, 1.0)
    x = side * np.clip(rng.normal(0.3, 0.12, 26), 0.02, 0.6)
    y = np.clip(rng.normal(0.24, 0.09, 26), 0.08, 0.46)
    return tuple(zip(x.tolist(), y.tolist(), strict=True))


@lru_cache(maxsize=4096)
def draw_looks(seed: int, identity: int) -> Looks:
    """The looks of identity number `identity` (>= 0) in the set with this seed (>= 0)."""
    rng = generator(seed, LOOKS, identity)
    male = _chance(rng, 0.45)
    age = _bell(rng, 18, 80)
    skin = _between(rng, 0, 1) ** 1.15
    style = _pick(rng, _STYLES_MALE if male else _STYLES_FEMALE)
    beard = _pick(rng, _BEARDS) if male else "none"
    return Looks(
        male=male,
        age=age,
        skin=skin,
        warmth=_between(rng, -1, 1),
        face_width=_between(rng, 0.62, 0.9),
        face_height=_between(rng, 0.9, 1.08),
        jaw=_between(rng, 0.7, 0.98) if male else _between(rng, 0.64, 0.92),
        chin=_bell(rng, 0.3, 0.6) if male else _bell(rng, 0.2, 0.46),
        cheek=_bell(rng, 0.93, 1.03),
        eye_distance=_between(rng, 0.28, 0.39),
        eye_y=_between(rng, -0.1, 0.08),
        eye_size=_between(rng, 0.145, 0.225),
        eye_opening=_between(rng, 0.24, 0.78),
        eye_tilt=_between(rng, -0.22, 0.22),
        eye_colour=_eye_colour(rng, skin),
        brow_thickness=_between(rng, 0.03, 0.15) if male else _between(rng, 0.025, 0.12),
        brow_arch=_between(rng, -0.02, 0.16) if male else _between(rng, 0, 0.2),
        brow_tilt=_between(rng, -0.28, 0.2),
        brow_gap=_bell(rng, 0.13, 0.27),
        nose_length=_between(rng, 0.32, 0.52),
        nose_width=_between(rng, 0.09, 0.28),
        mouth_drop=_bell(rng, 0.3, 0.46),
        mouth_width=_between(rng, 0.23, 0.4),
        lip_thickness=_between(rng, 0.025, 0.145),
        ear_size=_between(rng, 0.13, 0.25),
        hair=_hair_colour(rng, age, skin),
        hair_shade=_between(rng, 0, 1),
        style=style,
        volume=_between(rng, 0.6, 1.5),
        hairline=_bell(rng, -0.78, -0.54),
        recession=_between(rng, 0.55, 1) if male and _chance(rng, 0.07 + age / 300) else 0.0,
        parting=_between(rng, -0.45, 0.45),
        bangs=_chance(rng, 0.15 if male else 0.4),
        beard=beard,
        sideburns=male and (beard == "full" or _chance(rng, 0.2)),
        freckles=_freckles(rng, skin < 0.55 and _chance(rng, 0.25)),
        mole=(
            (_between(rng, 0.2, 0.45) * (1 if _chance(rng, 0.5) else -1), _between(rng, 0.2, 0.78))
            if _chance(rng, 0.22)
            else None
        ),
        shirt_hue=_between(rng, 0, 1),
        p_glasses=_habit(rng, 0.75, 0.06, 0.22),
        p_hat=_habit(rng, 0.4, 0.04, 0.15),
        p_earrings=_habit(rng, 0.8, 0.05, 0.08 if male else 0.45),
        p_makeup=0.0 if male else _habit(rng, 0.75, 0.12, 0.35),
        p_lipstick=0.0 if male else _habit(rng, 0.85, 0.2, 0.5),
        p_smile=_habit(rng, 0.8, 0.25, 0.5),
        p_tie=_habit(rng, 0.65, 0.12, 0.3) if male else 0.02,
        p_necklace=0.05 if male else _habit(rng, 0.7, 0.12, 0.35),
    )


def _backdrop_colour(rng: Generator) -> Colour:
    return from_hsv(_between(rng, 0, 1), _between(rng, 0.08, 0.6), _between(rng, 0.22, 0.92))


def _blobs(rng: Generator, base: Colour) -> tuple[Blob, ...]:
    made = []
    for _ in range(int(rng.integers(0, 5))):
        radius = _between(rng, 0.25, 0.9)
        factor = _between(rng, 0.6, 1.5)
        made.append(
            Blob(
                centre=(_between(rng, -1.5, 1.5), _between(rng, -1.5, 1.3)),
                radii=(radius, radius * _between(rng, 0.5, 1.6)),
                colour=shade(base, factor),
            )
        )
    return tuple(made)


def draw_shot(rng: Generator, looks: Looks) -> Shot:
    """One picture's own parameters, drawn from `rng`, for an identity that looks like `looks`."""
    smiling = _chance(rng, looks.p_smile)
    opened = _chance(rng, 0.6 if smiling else 0.2)
    makeup = _chance(rng, looks.p_makeup)
    painted = makeup or _chance(rng, looks.p_lipstick)
    # Shirts come in any colour, with a leaning to the hue that the identity likes.
    hue = looks.shirt_hue + rng.normal(0, 0.12)
    tie = _chance(rng, looks.p_tie)
    backdrop = (_backdrop_colour(rng), _backdrop_colour(rng))
    angle = _between(rng, 0, 2 * np.pi)
    strength = _between(rng, 0.04, 0.28)
    return Shot(
        yaw=float(np.clip(rng.normal(0, 0.11), -0.3, 0.3)),
        pitch=float(np.clip(rng.normal(0, 0.05), -0.13, 0.13)),
        roll=float(np.clip(rng.normal(0, 0.03), -0.09, 0.09)),
        scale=_bell(rng, 0.96, 1.04),
        shift=(_bell(rng, -0.04, 0.04), _bell(rng, -0.04, 0.04)),
        gaze=_bell(rng, -1, 1),
        smile=_between(rng, 0.6, 1) if smiling else _between(rng, -0.35, 0.1),
        mouth_open=_between(rng, 0.45, 1) if opened else 0.0,
        squint=_between(rng, 0.5, 0.8) if _chance(rng, 0.08) else 0.0,
        unshaven=looks.male and looks.beard == "none" and _chance(rng, 0.12),
        glasses=_pick(rng, _GLASSES) if _chance(rng, looks.p_glasses) else None,
        frame=FRAME[int(rng.integers(len(FRAME)))],
        hat=_pick(rng, _HATS) if _chance(rng, looks.p_hat) else None,
        hat_colour=from_hsv(_between(rng, 0, 1), _between(rng, 0.1, 0.75), _between(rng, 0.2, 0.9)),
        earrings=(
            _pick(rng, {"stud": 0.3, "drop": 0.35, "hoop": 0.35})
            if _chance(rng, looks.p_earrings)
            else None
        ),
        lipstick=LIPSTICK[int(rng.integers(len(LIPSTICK)))] if painted else None,
        makeup=makeup,
        rosy=_chance(rng, 0.5 if makeup else 0.06),
        necklace=(
            _pick(rng, {"chain": 0.5, "beads": 0.5})
            if not tie and _chance(rng, looks.p_necklace)
            else None
        ),
        tie=(
            from_hsv(_between(rng, 0, 1), _between(rng, 0.5, 0.9), _between(rng, 0.25, 0.75))
            if tie
            else None
        ),
        clothes="suit" if tie else _pick(rng, {"crew": 0.4, "vee": 0.35, "collar": 0.25}),
        clothes_colour=from_hsv(hue % 1.0, _between(rng, 0.15, 0.75), _between(rng, 0.2, 0.9)),
        backdrop=_pick(rng, {"linear": 0.4, "radial": 0.35, "split": 0.25}),
        backdrop_colours=backdrop,
        blobs=_blobs(rng, backdrop[0]),
        light=(strength * float(np.cos(angle)), strength * float(np.sin(angle)) - 0.1),
        temperature=_bell(rng, -0.06, 0.08),
        gain=_bell(rng, 0.84, 1.12),
        contrast=_bell(rng, 0.9, 1.1),
        blur=_between(rng, 0.5, 1) if _chance(rng, 0.06) else 0.0,
        noise=_between(rng, 0, 1),
    )
