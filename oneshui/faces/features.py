"""The features of the face: ears, head, cheeks, nose, mouth, eyes, brows, wrinkles, freckles.

Each function draws one part onto the canvas. Imports numpy only.
"""

from __future__ import annotations

import numpy as np

from oneshui.faces.anatomy import Anatomy
from oneshui.faces.canvas import Canvas, Points, ellipse, points
from oneshui.faces.colours import BLACK, WHITE, mix, shade, tint
from oneshui.faces.parameters import Looks, Shot

_SIDES = (-1.0, 1.0)


def draw_ears(canvas: Canvas, looks: Looks, anatomy: Anatomy) -> None:
    """Both ears, which lie behind the head."""
    size = looks.ear_size
    for side in _SIDES:
        centre = (side * (anatomy.width * 0.99 + 0.2 * size), anatomy.eye[1] + 0.1)
        canvas.disc(centre, (0.52 * size, size), shade(anatomy.skin, 0.93), -0.15)
        inner = (centre[0] + side * 0.05 * size, centre[1])
        canvas.disc(inner, (0.28 * size, 0.66 * size), anatomy.shadow, -0.15, 0.7)


def draw_head(canvas: Canvas, anatomy: Anatomy) -> None:
    """The head's skin with its soft forms: temples, eye sockets, cheekbones, chin."""
    canvas.blot(anatomy.outline, anatomy.skin, 0.0)
    w, h = anatomy.width, anatomy.height
    for side in _SIDES:
        x, y = side * anatomy.eye[0], anatomy.eye[1]
        canvas.spot((x, y - 0.05), (0.34, 0.24), anatomy.shadow, 0.42)
        canvas.spot((side * 0.66 * w, y + 0.4), (0.16, 0.36), anatomy.shadow, 0.3, 0.1)
        canvas.spot((side * 0.5 * w, y + 0.26), (0.22, 0.16), anatomy.light, 0.45)
    canvas.spot((0, -0.52 * h), (0.5, 0.3), anatomy.light, 0.4)
    canvas.spot((0, 0.88 * h), (0.2, 0.12), anatomy.light, 0.4)
    canvas.spot((0, anatomy.mouth + 0.17), (0.24, 0.07), anatomy.shadow, 0.4)


def draw_skin_marks(canvas: Canvas, looks: Looks, shot: Shot, anatomy: Anatomy) -> None:
    """Blush, freckles, the mole, and the wrinkles of age."""
    if shot.rosy:
        blush = mix(anatomy.skin, (226, 66, 84), 0.75)
        for side in _SIDES:
            canvas.spot((side * 0.53 * anatomy.width, 0.3), (0.22, 0.19), blush, 0.8)
    freckle = tint(anatomy.skin, (0.72, 0.55, 0.42))
    for place in looks.freckles:
        canvas.disc(place, (0.016, 0.016), freckle, alpha=0.75)
    if looks.mole is not None:
        canvas.disc(looks.mole, (0.032, 0.03), tint(anatomy.skin, (0.34, 0.24, 0.22)))
    wear = min(1.0, max(0.0, (looks.age - 46) / 26))
    if wear > 0:
        _draw_wrinkles(canvas, anatomy, wear)


def _draw_wrinkles(canvas: Canvas, anatomy: Anatomy, wear: float) -> None:
    alpha = 0.75 * wear
    for row in range(3):
        y = anatomy.eye[1] - 0.37 - 0.09 * row
        x = 0.34 - 0.05 * row
        canvas.stroke(points((-x, y), (0, y - 0.03), (x, y)), anatomy.shadow, 0.018, alpha=alpha)
    for side in _SIDES:
        x, y = anatomy.eye
        for k in (-1, 0, 1):
            tail = points((side * (x + 0.21), y + 0.03 * k), (side * (x + 0.32), y + 0.075 * k))
            canvas.stroke(tail, anatomy.shadow, (0.018, 0.004), alpha=alpha)
        fold = points(
            (side * 0.17, anatomy.nose_base - 0.02),
            (side * 0.3, anatomy.nose_base + 0.1),
            (side * 0.35, anatomy.mouth + 0.04),
        )
        canvas.stroke(fold, anatomy.shadow, (0.01, 0.03, 0.01), alpha=alpha)


def draw_nose(canvas: Canvas, looks: Looks, shot: Shot, anatomy: Anatomy) -> None:
    """The nose; the side away from the light is in shadow."""
    top, base, wide = anatomy.eye[1], anatomy.nose_base, looks.nose_width
    dark = -1.0 if shot.light[0] > 0 else 1.0
    flank = points(
        (dark * 0.06, top - 0.04),
        (dark * 0.075, (top + base) / 2),
        (dark * wide * 1.02, base - 0.07),
        (dark * wide * 0.9, base + 0.01),
        (dark * 0.02, base - 0.05),
    )
    canvas.blot(flank, anatomy.shadow, 0.75, 0.42)
    canvas.spot((0, base - 0.03), (wide * 1.15, 0.11), anatomy.skin, 0.9, 0.8)
    canvas.spot((-dark * 0.02, (top + base) / 2), (0.055, 0.22), anatomy.light, 0.75, 0.78)
    canvas.spot((-dark * 0.03, base - 0.06), (0.07, 0.06), anatomy.light, 0.9, 0.85)
    line = mix(anatomy.shadow, BLACK, 0.22)
    for side in _SIDES:
        wing = points(
            (side * wide * 0.93, base - 0.11),
            (side * wide * 1.06, base - 0.04),
            (side * wide * 0.9, base + 0.015),
            (side * wide * 0.62, base + 0.005),
        )
        canvas.stroke(wing, line, (0.008, 0.03, 0.028, 0.01), 0.75, 0.85)
        hole = (side * wide * 0.43, base + 0.012)
        canvas.disc(hole, (wide * 0.25, 0.021), shade(line, 0.55), 0.77, 0.85)
    tip = points((-0.5 * wide, base + 0.02), (0, base + 0.05), (0.5 * wide, base + 0.02))
    canvas.stroke(tip, line, (0.006, 0.022, 0.006), 0.8, 0.7)


def draw_mouth(canvas: Canvas, looks: Looks, shot: Shot, anatomy: Anatomy) -> None:
    """Lips, and teeth and tongue when the mouth is open."""
    smile = shot.smile
    half = looks.mouth_width * (1 + 0.2 * max(smile, 0.0)) * (1 - 0.12 * shot.mouth_open)
    u = np.linspace(-1, 1, 21)
    x = u * half
    arch = 1 - u**2
    gap = 0.19 * shot.mouth_open * arch**0.8
    rest = anatomy.mouth + 0.055 * smile - 0.17 * smile * np.abs(u) ** 1.8
    thick = looks.lip_thickness
    bow = 1 - 0.3 * np.exp(-((u / 0.16) ** 2))
    upper = rest - 0.95 * thick * arch**0.75 * bow - 0.006
    lower = rest + gap + 1.2 * thick * arch**0.8 + 0.006
    colour = shot.lipstick if shot.lipstick is not None else anatomy.lip
    canvas.fill(_band(x, upper, rest), shade(colour, 0.86))
    canvas.fill(_band(x, rest + gap, lower), colour)
    if shot.mouth_open > 0:
        canvas.fill(_band(x, rest - 0.004, rest + gap), (66, 18, 24))
        canvas.fill(_band(x[4:-4], (rest + gap * 0.66)[4:-4], (rest + gap)[4:-4]), (178, 78, 84))
        bite = np.minimum(gap * 0.55, 0.078)
        canvas.fill(_band(x[2:-2], rest[2:-2], (rest + bite)[2:-2]), (250, 247, 240))
    else:
        canvas.stroke(np.stack([x, rest], axis=1)[::2], shade(colour, 0.42), (0.014, 0.026, 0.014))
    middle = float(rest[10] + gap[10]) + 0.6 * thick
    canvas.spot((0, middle), (half * 0.5, thick * 0.45 + 0.01), mix(colour, WHITE, 0.5), 0.6)
    for side in _SIDES:
        corner = (side * half, float(rest[0]))
        canvas.spot(corner, (0.06, 0.05), anatomy.shadow, 0.7)
        if smile > 0.3:
            crease = points(
                (side * (half + 0.02), float(rest[0]) - 0.14),
                (side * (half + 0.08), float(rest[0]) - 0.04),
                (side * (half + 0.06), float(rest[0]) + 0.07),
            )
            canvas.stroke(crease, anatomy.shadow, (0.006, 0.024, 0.006), alpha=0.6 * smile)


def _band(x: Points, above: Points, below: Points) -> Points:
    """The polygon between two lines y(x)."""
    return np.concatenate([np.stack([x, above], axis=1), np.stack([x, below], axis=1)[::-1]])


def draw_eyes(canvas: Canvas, looks: Looks, shot: Shot, anatomy: Anatomy) -> None:
    """Both eyes with lids and lashes, and eye shadow when made up."""
    half = looks.eye_size
    tall = half * looks.eye_opening * (1 - 0.5 * shot.squint) * (1 - 0.12 * max(shot.smile, 0))
    for side in _SIDES:
        _draw_eye(canvas, looks, shot, anatomy, side, half, tall)


def _draw_eye(
    canvas: Canvas,
    looks: Looks,
    shot: Shot,
    anatomy: Anatomy,
    side: float,
    half: float,
    tall: float,
) -> None:
    cos, sin = np.cos(looks.eye_tilt), np.sin(looks.eye_tilt)

    def on_face(local: Points) -> Points:
        """From the eye's own axes (x outwards, units of the head) to the face."""
        out = local[:, 0] * cos + local[:, 1] * sin
        down = local[:, 1] * cos - local[:, 0] * sin
        return np.stack([side * (anatomy.eye[0] + out), anatomy.eye[1] + down], axis=1)

    u = np.linspace(-1, 1, 17)
    x = u * half
    upper = -1.05 * tall * (1 - np.abs(u - 0.12 * (1 - u**2)) ** 2.2)
    lower = 0.72 * tall * (1 - u**2)
    if shot.makeup:
        lid = np.stack([x * 1.15, upper - 0.07 * (1 - u**2) - 0.05], axis=1)
        rim = np.stack([x * 1.15, upper], axis=1)
        canvas.fill(on_face(np.concatenate([lid, rim[::-1]])), (112, 62, 128), alpha=0.6)
    canvas.fill(on_face(_band(x, upper, lower)), (244, 240, 236))

    radius = 0.56 * half
    aim = 0.16 * half * shot.gaze * side
    for share, colour in (
        (1.0, shade(looks.eye_colour, 0.5)),
        (0.86, looks.eye_colour),
        (0.46, (14, 12, 14)),
    ):
        ring = ellipse((aim, -0.14 * tall), (radius * share, radius * share), 28)
        ring[:, 1] = np.clip(
            ring[:, 1], np.interp(ring[:, 0], x, upper), np.interp(ring[:, 0], x, lower)
        )
        canvas.fill(on_face(ring), colour)
    if tall > 0.035:
        glint = (aim * side + 0.2 * radius, -0.5 * tall)
        canvas.fill(on_face(ellipse((side * glint[0], glint[1]), (0.02, 0.02), 10)), WHITE)

    lash = mix(anatomy.hair_shadow, (20, 14, 14), 0.7)
    edge = on_face(np.stack([x, upper], axis=1))
    thick = 0.062 if shot.makeup else (0.032 if looks.male else 0.044)
    canvas.stroke(edge[::2], lash, (0.4 * thick, thick, thick, 0.8 * thick))
    if not looks.male:
        wing = points((half * 0.9, -0.15 * tall), (half * 1.24, -0.45 * tall - 0.02))
        canvas.stroke(on_face(wing), lash, (thick, 0.006))
    canvas.stroke(
        on_face(np.stack([x, lower], axis=1)[::2]),
        anatomy.shadow,
        (0.01, 0.022 if not shot.makeup else 0.036, 0.016),
        alpha=0.9,
    )
    crease = np.stack([x * 1.05, upper - 0.035 - 0.03 * (1 - u**2)], axis=1)
    canvas.stroke(on_face(crease[1:-1:2]), anatomy.shadow, (0.008, 0.022, 0.012), alpha=0.85)


def draw_brows(canvas: Canvas, looks: Looks, anatomy: Anatomy) -> None:
    """Both brows; thick ones are rough."""
    thick, half = looks.brow_thickness, looks.eye_size * 1.32
    colour = mix(anatomy.hair_shadow, (34, 26, 22), 0.3 if looks.hair != "gray" else 0.1)
    base = anatomy.eye[1] - looks.brow_gap - 0.04
    u = np.linspace(-1, 1, 7)
    rise = looks.brow_arch * (1 - 0.6 * (u - 0.25) ** 2) + looks.brow_tilt * 0.3 * u
    for side in _SIDES:
        line = np.stack([side * (anatomy.eye[0] + half * u), base - rise], axis=1)
        canvas.stroke(line, colour, (0.85 * thick, 1.05 * thick, thick, 0.75 * thick, 0.012))
        if thick > 0.095:
            for k in range(6):
                foot = line[k] + (0.0, 0.4 * thick)
                tip = line[k] + (side * 0.05, -0.75 * thick)
                canvas.stroke(np.stack([foot, tip]), colour, (0.03, 0.006))
