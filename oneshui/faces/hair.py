"""Hair: what hangs behind the head, what lies on it, and the beard.

Imports numpy only.
"""

from __future__ import annotations

import numpy as np

from oneshui.faces.anatomy import Anatomy
from oneshui.faces.canvas import Canvas, Points, mirrored, points
from oneshui.faces.colours import mix, shade
from oneshui.faces.parameters import Looks, Shot

_SIDES = (-1.0, 1.0)
_BACK_DEPTH = -0.35
_CAP_DEPTH = 0.08
#: Styles whose hair parts over the forehead and runs down both sides of the face.
_CURTAINS = frozenset({"bob", "long", "wavy"})
#: How far the hair stands off the crown and off the temples, at volume 1.
_LIFT = {
    "buzz": (0.03, 0.012),
    "short": (0.13, 0.05),
    "side": (0.17, 0.06),
    "quiff": (0.3, 0.03),
    "curly": (0.2, 0.12),
    "waves": (0.22, 0.12),
    "bob": (0.15, 0.16),
    "long": (0.13, 0.13),
    "wavy": (0.17, 0.18),
    "bun": (0.07, 0.03),
    "pony": (0.1, 0.04),
}
#: How far the hair comes down beside the face, as a share of half the head's height.
_REACH = {"buzz": -0.12, "quiff": -0.12, "curly": -0.12, "bob": 0.62, "long": 1.75, "wavy": 1.6}


def _lift(looks: Looks, shot: Shot) -> tuple[float, float]:
    """How far the hair stands off crown and temples; a hat presses it down."""
    top, side = _LIFT[looks.style]
    top, side = top * looks.volume, side * looks.volume
    return (min(top, 0.05), min(side, 0.1)) if shot.hat is not None else (top, side)


def draw_back_hair(canvas: Canvas, looks: Looks, shot: Shot, anatomy: Anatomy) -> None:
    """The hair behind neck and shoulders."""
    if looks.style == "bald":
        return
    w, h = anatomy.width, anatomy.height
    top, side = _lift(looks, shot)
    colour = anatomy.hair_shadow
    if looks.style in _CURTAINS:
        end = h * _REACH[looks.style] + 0.12
        right = points(
            (0, -h - 0.6 * top),
            (0.7 * w, -0.85 * h),
            (w + side, -0.3 * h),
            (w + 1.15 * side, 0.3 * h),
            (w + 1.2 * side, max(end - 0.25, 0.45)),
            (0.75 * w, end),
            (0, end - 0.02),
        )
        canvas.blot(mirrored(right), colour, _BACK_DEPTH)
    elif looks.style == "bun" and shot.hat is None:
        size = 0.22 + 0.1 * looks.volume
        centre = (0.0, -h - 0.55 * size)
        canvas.disc(centre, (size, 0.85 * size), colour, _BACK_DEPTH)
        canvas.spot(centre, (0.7 * size, 0.6 * size), anatomy.hair_light, 0.6, _BACK_DEPTH)
    elif looks.style == "pony":
        lean = 1.0 if looks.parting > 0 else -1.0
        tail = points(
            (lean * 0.35, -0.8 * h),
            (lean * (w + 0.2), -0.55 * h),
            (lean * (w + 0.38), 0.1),
            (lean * (w + 0.3), 0.85),
            (lean * (w + 0.12), 1.05),
            (lean * (w + 0.02), 0.3),
        )
        canvas.blot(tail, colour, _BACK_DEPTH)
    elif looks.style == "curly":
        _draw_curls(canvas, looks, shot, anatomy, colour)


def _draw_curls(
    canvas: Canvas, looks: Looks, shot: Shot, anatomy: Anatomy, colour: tuple[int, int, int]
) -> None:
    """A crown of curls around the head, longer for the female-looking."""
    top, side = _lift(looks, shot)
    size = 0.15 + 0.05 * looks.volume
    start = -0.25 if looks.male else -0.75
    turns = np.linspace(start, np.pi - start, 13 if looks.male else 19)
    for k, turn in enumerate(turns.tolist()):
        x = np.cos(turn) * (anatomy.width + side)
        y = -np.sin(turn) * (anatomy.height + top) * 0.96
        if shot.hat is None or y > -0.4:
            radius = size * (1.0 + 0.18 * np.sin(2.4 * k + 9 * looks.parting))
            canvas.disc((x, y), (radius, radius), colour, -0.1)
            canvas.spot((x, y - 0.03), (0.7 * radius, 0.6 * radius), anatomy.hair, 0.9, -0.1)


def _outer(looks: Looks, shot: Shot, anatomy: Anatomy, reach: float) -> Points:
    """The outer edge of the hair on the head, from the right temple over the crown to the left."""
    w, h = anatomy.width, anatomy.height
    top, side = _lift(looks, shot)
    right = points(
        (w + 0.6 * side, reach),
        (w + side, -0.22 * h),
        (0.9 * w + side, -0.62 * h - 0.3 * top),
        (0.55 * w + 0.5 * side, -0.93 * h - 0.7 * top),
    )
    crown = points((0, -h - top))
    edge = np.concatenate([right, crown, right[::-1] * (-1.0, 1.0)])
    if shot.hat is None:
        lean = 1.0 if looks.parting > 0 else -1.0
        height = np.clip(-edge[:, 1] / h - 0.3, 0, 1)
        if looks.style == "side":
            edge[:, 1] += lean * 0.13 * looks.volume * edge[:, 0] / w * height
        elif looks.style == "quiff":
            edge[:, 1] += lean * 0.1 * looks.volume * edge[:, 0] / w * height
        elif looks.style == "waves":
            edge += edge * (0.06 * np.sin(2.1 * np.arange(len(edge)) + 5 * looks.parting))[:, None]
    return edge


def _inner(looks: Looks, anatomy: Anatomy, reach: float) -> Points:
    """The hairline, from the left temple over the forehead to the right."""
    w, h = anatomy.width, anatomy.height
    line = looks.hairline * h
    parting = looks.parting * w
    back = looks.recession
    if looks.style in _CURTAINS:
        low = anatomy.eye[1] - 0.16
        return points(
            (-1.0 * w, reach),
            (-0.93 * w, 0.3),
            (-0.86 * w, low),
            (-0.62 * w, (low + line) / 2 - 0.08),
            (parting, line),
            (0.62 * w, (low + line) / 2 - 0.08),
            (0.86 * w, low),
            (0.93 * w, 0.3),
            (1.0 * w, reach),
        )
    sweep = 0.0
    if looks.style == "side":
        sweep = 0.14 if looks.parting > 0 else -0.14
    left, right = -0.42 * w, 0.42 * w
    rise = min(0.26 * back, h + line - 0.08)
    return points(
        (-0.98 * w, reach),
        (-0.9 * w, -0.2 * h),
        (-0.82 * w, line + 0.2 - 0.1 * back),
        (left, line + 0.02 + sweep - rise),
        (0, line - 0.35 * rise),
        (right, line + 0.02 - sweep - rise),
        (0.82 * w, line + 0.2 - 0.1 * back),
        (0.9 * w, -0.2 * h),
        (0.98 * w, reach),
    )


def draw_front_hair(canvas: Canvas, looks: Looks, shot: Shot, anatomy: Anatomy) -> None:
    """The hair on the head with its shine and strands, and the bangs."""
    if looks.style == "bald":
        _draw_scalp_light(canvas, anatomy)
        return
    reach = _REACH.get(looks.style, 0.0) * anatomy.height
    outer = canvas.smooth(_outer(looks, shot, anatomy, reach), closed=False)
    inner = canvas.smooth(_inner(looks, anatomy, reach), closed=False)
    if looks.style == "wavy":
        for edge, size in ((outer, 0.09), (inner, 0.05)):
            edge[:, 0] += size * np.sin(8.5 * edge[:, 1]) * np.clip(edge[:, 1] + 0.5, 0, 1)
    shape = np.concatenate([outer, inner])
    if looks.style != "buzz":
        rim = slice(len(inner) // 5, -len(inner) // 5)
        canvas.stroke(inner[rim][::3], anatomy.shadow, (0.02, 0.15, 0.15, 0.02), _CAP_DEPTH, 0.5)
    alpha = 0.82 if looks.style == "buzz" else 1.0
    canvas.fill(shape, anatomy.hair, _CAP_DEPTH, alpha)
    if looks.style == "curly":
        _draw_front_curls(canvas, looks, shot, anatomy)
    elif looks.style != "buzz":
        _draw_strands(canvas, looks, anatomy, outer, inner[::-1])
    if looks.bangs:
        _draw_bangs(canvas, looks, anatomy)


def _draw_scalp_light(canvas: Canvas, anatomy: Anatomy) -> None:
    canvas.spot((0.2, -0.74 * anatomy.height), (0.34, 0.18), anatomy.light, 0.9, 0.5)


def _draw_strands(
    canvas: Canvas, looks: Looks, anatomy: Anatomy, outer: Points, inner: Points
) -> None:
    """Lines that follow the hair, between its outer edge and the hairline."""
    count = min(len(outer), len(inner))
    rim = outer[np.linspace(0, len(outer) - 1, count).round().astype(int)]
    line = inner[np.linspace(0, len(inner) - 1, count).round().astype(int)]
    for k, share in enumerate((0.18, 0.34, 0.5, 0.64, 0.8, 0.9)):
        strand = rim + (line - rim) * share
        dark = k % 2 == 0
        colour = anatomy.hair_shadow if dark else anatomy.hair_light
        begin = 0.06 if looks.parting > 0 else 0.0
        part = slice(round(begin * count), round((begin + 0.94) * count))
        canvas.stroke(
            strand[part][::2],
            colour,
            (0.01, 0.04 if dark else 0.055, 0.012, 0.05, 0.01),
            _CAP_DEPTH,
            0.5 if dark else 0.4,
        )


def _draw_front_curls(canvas: Canvas, looks: Looks, shot: Shot, anatomy: Anatomy) -> None:
    size = 0.13 + 0.04 * looks.volume
    for row, height in enumerate((-0.78, -0.98)):
        if shot.hat is not None:
            continue
        spread = np.linspace(-0.72, 0.72, 7 - row) * anatomy.width
        for k, x in enumerate(spread.tolist()):
            bend = 0.34 * (x / anatomy.width) ** 2
            y = (height + bend) * anatomy.height + 0.02 * np.sin(3.1 * k + 7 * looks.parting)
            canvas.disc((x, y), (size, size), anatomy.hair_shadow, _CAP_DEPTH + 0.1)
            canvas.disc((x - 0.01, y - 0.02), (0.86 * size, 0.86 * size), anatomy.hair, 0.18)
            canvas.spot((x, y - 0.05), (0.6 * size, 0.4 * size), anatomy.hair_light, 0.7, 0.18)


def _draw_bangs(canvas: Canvas, looks: Looks, anatomy: Anatomy) -> None:
    """A fringe of locks from the hairline to just above the brows."""
    w, h = anatomy.width, anatomy.height
    top = looks.hairline * h - 0.16
    bottom = anatomy.eye[1] - looks.brow_gap - 0.08
    edges = np.linspace(-0.86, 0.86, 8) * w
    for k in range(7):
        left, right = float(edges[k]), float(edges[k + 1])
        bend = 0.12 * ((left + right) / (2 * w)) ** 2
        tip = bottom + bend + 0.035 * np.sin(2.7 * k + 11 * looks.parting)
        lock = points(
            (left * 0.8, top),
            (right * 0.8, top),
            (right + 0.03, tip - 0.05),
            ((left + right) / 2 + 0.05 * looks.parting, tip + 0.03),
            (left - 0.03, tip - 0.05),
        )
        tone = mix(anatomy.hair, anatomy.hair_shadow if k % 2 else anatomy.hair_light, 0.22)
        canvas.blot(lock, tone, 0.35)


def draw_beard(canvas: Canvas, looks: Looks, shot: Shot, anatomy: Anatomy) -> None:
    """Stubble, goatee, full beard, moustache and sideburns; the mouth is drawn over it."""
    w, h = anatomy.width, anatomy.height
    colour = mix(anatomy.hair_shadow, anatomy.hair, 0.4)
    if looks.sideburns and looks.style != "bald":
        for side in _SIDES:
            burn = points(
                (side * w * 1.0, -0.2),
                (side * w * 1.0, 0.36 * h),
                (side * w * 0.84, 0.34 * h),
                (side * w * 0.87, -0.2),
            )
            canvas.fill(burn, colour, 0.05)
    if looks.beard == "stubble" or shot.unshaven:
        canvas.blot(_beard_shape(looks, shot, anatomy), shade(colour, 0.6), 0.12, 0.36)
    elif looks.beard == "full":
        canvas.blot(_beard_shape(looks, shot, anatomy), colour, 0.1)
    elif looks.beard == "goatee":
        _draw_goatee(canvas, looks, shot, anatomy, colour)
    if looks.beard in {"moustache", "full"}:
        _draw_moustache(canvas, looks, anatomy, colour)


def _beard_shape(looks: Looks, shot: Shot, anatomy: Anatomy) -> Points:
    w, h = anatomy.width, anatomy.height
    drop = 0.05 * shot.mouth_open + (0.05 if looks.beard == "full" else 0.0)
    right = points(
        (0, anatomy.nose_base + 0.06),
        (looks.mouth_width * 1.05, anatomy.mouth - 0.1),
        (0.74 * w, 0.42 * h),
        (0.9 * w, 0.1),
        (0.99 * w, 0.1),
        (0.97 * w * looks.cheek, 0.3 * h),
        (0.94 * w * looks.jaw, 0.58 * h + 0.4 * drop),
        (0.56 * w * (looks.jaw + 0.08), 0.86 * h + drop),
        (0.6 * looks.chin * w, 0.98 * h + drop),
        (0, h + drop),
    )
    return mirrored(right)


def _draw_goatee(
    canvas: Canvas, looks: Looks, shot: Shot, anatomy: Anatomy, colour: tuple[int, int, int]
) -> None:
    half, h = looks.mouth_width * 0.95, anatomy.height
    drop = 0.05 * shot.mouth_open
    right = points(
        (0, anatomy.mouth + 0.12 + drop),
        (half * 0.6, anatomy.mouth + 0.14 + drop),
        (half * 0.95, anatomy.mouth),
        (half * 1.12, anatomy.mouth + 0.06),
        (half * 0.95, 0.9 * h + drop),
        (half * 0.5, 1.04 * h + drop),
        (0, 1.08 * h + drop),
    )
    canvas.blot(mirrored(right), colour, 0.4)


def _draw_moustache(
    canvas: Canvas, looks: Looks, anatomy: Anatomy, colour: tuple[int, int, int]
) -> None:
    half = looks.mouth_width * 1.12
    top, lip = anatomy.nose_base + 0.05, anatomy.mouth
    right = points(
        (0, top + 0.01),
        (half * 0.45, top),
        (half * 0.98, lip - 0.05),
        (half * 1.08, lip + 0.01),
        (half * 0.6, lip - 0.02),
        (0, lip - 0.02),
    )
    canvas.blot(mirrored(right), shade(colour, 0.9), 0.6)
