"""What years do to a face: a child's proportions, grey hair, lost hair, wrinkles, a beard, habits.

Imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import replace

from oneshui.faces.parameters import Looks, Shot

_GROWN = 20.0
_SHAVES = 19.0
_DRESSES_UP = 16.0
#: Years from the first grey hair to the last dark one.
_GREYING = 16.0
#: Age of the first wrinkles, and years until all are there.
_WRINKLES = (30.0, 42.0)


def aged(looks: Looks, age: float, grey_from: float, bald_from: float) -> Looks:
    """An identity's looks at an age.

    Args:
        looks: The looks as an adult.
        age: In years, >= 0.
        grey_from: Age at which the hair begins to turn grey.
        bald_from: Age at which the hairline of men begins to recede.
    """
    child = max(0.0, 1 - age / _GROWN)
    old = min(1.0, max(0.0, (age - _GROWN) / 60))
    worn = (age - _WRINKLES[0]) / _WRINKLES[1]
    lost = min(1.0, max(0.0, (age - bald_from) / 25)) if looks.male else 0.0
    shaves, dresses_up = age >= _SHAVES, age >= _DRESSES_UP
    return replace(
        looks,
        # Only wrinkles follow from it, and begin later at the ages of the other layouts' people.
        age=46 + 26 * worn,
        face_width=looks.face_width * (1 + 0.06 * child),
        face_height=looks.face_height * (1 - 0.2 * child) * (1 + 0.05 * old),
        jaw=looks.jaw + (0.88 - looks.jaw) * (0.7 * child + 0.3 * old),
        chin=looks.chin * (1 - 0.25 * child),
        cheek=looks.cheek + 0.05 * child,
        eye_y=looks.eye_y + 0.24 * child,
        eye_size=looks.eye_size * (1 + 0.35 * child) * (1 - 0.2 * old),
        eye_opening=looks.eye_opening * (1 - 0.45 * old) + (0.8 - looks.eye_opening) * 0.6 * child,
        brow_thickness=looks.brow_thickness * (1 - 0.6 * child),
        nose_length=looks.nose_length * (1 - 0.5 * child) * (1 + 0.08 * old),
        nose_width=looks.nose_width * (1 - 0.25 * child) * (1 + 0.2 * old),
        mouth_drop=looks.mouth_drop + 0.12 * child,
        mouth_width=looks.mouth_width * (1 - 0.2 * child),
        lip_thickness=looks.lip_thickness * (1 - 0.45 * old) * (1 - 0.4 * child),
        ear_size=looks.ear_size * (1 + 0.2 * old),
        style=_style(looks, age, lost),
        volume=looks.volume * (1 - 0.4 * child) * (1 - 0.25 * old),
        recession=0.55 + 0.45 * lost if lost > 0 else 0.0,
        grey=min(1.0, max(0.0, (age - grey_from) / _GREYING)),
        beard=looks.beard if shaves else "none",
        sideburns=looks.sideburns and shaves,
        p_glasses=max(looks.p_glasses, 0.6 * old) * (1 - child),
        p_makeup=looks.p_makeup * dresses_up,
        p_lipstick=looks.p_lipstick * dresses_up,
        p_earrings=looks.p_earrings * dresses_up,
        p_tie=looks.p_tie * dresses_up,
        p_necklace=looks.p_necklace * dresses_up,
    )


def _style(looks: Looks, age: float, lost: float) -> str:
    """The hair style: a baby's, a child's, one's own as an adult, a handy one in old age."""
    if age < 3:
        return "buzz"
    if age < 13:
        return "short" if looks.male else "pony"
    if lost >= 1:
        return "bald"
    own = "short" if looks.style == "bald" else looks.style
    return "curly" if age >= 60 and not looks.male else own


def aged_shot(shot: Shot, age: float) -> Shot:
    """A picture's own parameters at an age: children have small heads and are not unshaven."""
    child = max(0.0, 1 - age / _GROWN)
    scale = shot.scale * (1 - 0.28 * child)
    return replace(shot, scale=scale, unshaven=shot.unshaven and age >= _SHAVES)
