"""Where the parts of a head are and which colours they have, worked out from an identity's looks.

Lengths are in units of the head, as in parameters.py. Imports numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

from oneshui.faces.canvas import Points, mirrored, points
from oneshui.faces.colours import HAIR, SKIN, Colour, along, mix, shade, tint
from oneshui.faces.parameters import Looks, Shot


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """The places and colours that several parts of the drawing share.

    Attributes:
        width: Half the width of the head at the temples.
        height: Half the height of the head: crown at -height, chin at height.
        outline: Control points of the head's closed outline, (N, 2).
        eye: Place of the right-hand eye's middle; the other one mirrors it.
        nose_base: How far down the nose ends.
        mouth: How far down the mouth is.
        neck: Half the width of the neck.
        skin: Colour of the skin, with `shadow` and `light` made from it.
        lip: Colour of the bare lips.
        hair: Colour of the hair, with `hair_shadow` and `hair_light` made from it.
    """

    width: float
    height: float
    outline: Points
    eye: tuple[float, float]
    nose_base: float
    mouth: float
    neck: float
    skin: Colour
    shadow: Colour
    light: Colour
    lip: Colour
    hair: Colour
    hair_shadow: Colour
    hair_light: Colour


def anatomy_of(looks: Looks, shot: Shot) -> Anatomy:
    """The anatomy of an identity; the shot only drops the jaw of an open mouth."""
    w, h = looks.face_width, looks.face_height
    jaw_drop = 0.06 * shot.mouth_open
    right = points(
        (0, -h),
        (0.42 * w, -0.95 * h),
        (0.8 * w, -0.68 * h),
        (0.985 * w, -0.25 * h),
        (0.975 * w * looks.cheek, 0.2 * h),
        (0.93 * w * looks.jaw, 0.56 * h),
        (0.55 * w * (looks.jaw + 0.08), 0.84 * h + 0.7 * jaw_drop),
        (0.6 * looks.chin * w, 0.97 * h + jaw_drop),
        (0, h + jaw_drop),
    )
    skin = tint(along(SKIN, looks.skin), (1 + 0.025 * looks.warmth, 1, 1 - 0.05 * looks.warmth))
    nose_base = looks.eye_y + looks.nose_length
    hair = mix(mix(*HAIR[looks.hair], looks.hair_shade), mix(*HAIR["gray"], 0.6), looks.grey)
    return Anatomy(
        width=w,
        height=h,
        outline=mirrored(right),
        eye=(looks.eye_distance * w / 0.76, looks.eye_y),
        nose_base=nose_base,
        mouth=nose_base + (h - nose_base) * looks.mouth_drop,
        neck=w * (0.62 if looks.male else 0.5),
        skin=skin,
        shadow=tint(skin, (0.74, 0.64, 0.6)),
        light=mix(skin, (255, 246, 232), 0.45),
        lip=mix(tint(skin, (0.86, 0.62, 0.6)), (176, 74, 78), 0.35),
        hair=hair,
        hair_shadow=shade(hair, 0.68),
        hair_light=mix(hair, (255, 244, 224), 0.24),
    )
