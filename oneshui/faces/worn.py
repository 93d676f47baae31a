"""What is worn on the head: glasses, hats, earrings.

Imports numpy only.
"""

from __future__ import annotations

import numpy as np

from oneshui.faces.anatomy import Anatomy
from oneshui.faces.canvas import Canvas, Points, ellipse, mirrored, points
from oneshui.faces.colours import GOLD, WHITE, shade
from oneshui.faces.parameters import Looks, Shot

_SIDES = (-1.0, 1.0)
_GLASSES_DEPTH = 0.66
_HAT_DEPTH = 0.12


def draw_earrings(canvas: Canvas, looks: Looks, shot: Shot, anatomy: Anatomy) -> None:
    """Studs, drops or hoops below the ears."""
    for side in _SIDES:
        x = side * (anatomy.width * 1.0 + 0.22 * looks.ear_size)
        y = anatomy.eye[1] + 0.1 + looks.ear_size
        if shot.earrings == "stud":
            canvas.disc((x, y), (0.055, 0.055), GOLD, 0.0)
        elif shot.earrings == "drop":
            canvas.disc((x, y), (0.04, 0.04), GOLD, 0.0)
            canvas.disc((x, y + 0.16), (0.065, 0.13), shade(GOLD, 0.92), 0.0)
        elif shot.earrings == "hoop":
            ring = ellipse((x, y + 0.12), (0.1, 0.13), 13)
            canvas.stroke(ring, GOLD, 0.045, 0.0)


def draw_glasses(canvas: Canvas, looks: Looks, shot: Shot, anatomy: Anatomy) -> None:
    """Glasses; sunglasses hide the eyes."""
    if shot.glasses is None:
        return
    x, y = anatomy.eye
    wide = min(max(looks.eye_size * 1.55, 0.22), x - 0.035)
    tall = wide * {"round": 0.95, "square": 0.72, "cat": 0.72, "sun": 0.82}[shot.glasses]
    frame = shot.frame
    for side in _SIDES:
        lens = _lens(shot.glasses, side, wide, tall) + points((side * x, y + 0.02))
        if shot.glasses == "sun":
            canvas.fill(lens, (26, 24, 28), _GLASSES_DEPTH, 0.93)
            canvas.spot((side * x - 0.07, y - 0.06), (0.1, 0.07), (150, 156, 170), 0.5)
        else:
            canvas.fill(lens, WHITE, _GLASSES_DEPTH, 0.13)
        canvas.stroke(np.concatenate([lens, lens[:1]]), frame, 0.055, _GLASSES_DEPTH)
        arm = points((side * (x + wide), y - 0.03), (side * anatomy.width * 1.02, y - 0.05))
        canvas.stroke(arm, frame, 0.055, 0.4)
    bridge = points((-(x - wide), y), (0, y - 0.045), (x - wide, y))
    canvas.stroke(bridge, frame, 0.055, _GLASSES_DEPTH + 0.08)


def _lens(kind: str, side: float, wide: float, tall: float) -> Points:
    """The outline of a lens around (0, 0)."""
    if kind == "round":
        return ellipse((0, 0), (wide, tall), 20)
    turn = np.arange(24) * (2 * np.pi / 24)
    # A superellipse: the higher the power, the squarer the lens.
    power = 0.45 if kind == "square" else 0.65
    x = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power * wide
    y = np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power * tall
    if kind == "cat":
        y -= 0.3 * tall * np.clip(side * x / wide, 0, 1) * np.where(y < 0, 1.0, 0.35)
    elif kind == "sun":
        x *= np.where(y > 0, 1 - 0.12 * y / tall, 1.0)
    return np.stack([x, y], axis=1)


def draw_hat(canvas: Canvas, shot: Shot, anatomy: Anatomy) -> None:
    """A beanie, a cap with a peak, or a hat with a brim."""
    if shot.hat is None:
        return
    colour, dark = shot.hat_colour, shade(shot.hat_colour, 0.68)
    w, h = anatomy.width + 0.11, anatomy.height
    base = -0.42 * h
    if shot.hat == "brim":
        _draw_brimmed(canvas, shot, w, h)
        return
    tall = h + (0.3 if shot.hat == "beanie" else 0.2)
    dome = points(
        (0, -tall),
        (0.55 * w, -tall + 0.07),
        (0.92 * w, -0.78 * h),
        (1.02 * w, base),
        (0.6 * w, base - 0.04),
        (0, base - 0.06),
    )
    canvas.blot(mirrored(dome), colour, _HAT_DEPTH)
    canvas.spot((0.1, -0.95 * h), (0.5, 0.2), shade(colour, 1.25), 0.6, _HAT_DEPTH)
    if shot.hat == "beanie":
        cuff = points((-1.04 * w, base - 0.04), (0, base - 0.13), (1.04 * w, base - 0.04))
        canvas.stroke(cuff, dark, (0.24, 0.26, 0.24), _HAT_DEPTH)
        for k in range(-4, 5):
            x = 0.23 * k * w
            rib = points((x * 1.02, base + 0.02), (x, base - 0.16 - 0.008 * (16 - k * k)))
            canvas.stroke(rib, shade(dark, 0.8), 0.022, _HAT_DEPTH)
    else:
        for side in _SIDES:
            seam = points((0, -tall), (side * 0.4 * w, -0.85 * h), (side * 0.5 * w, base - 0.06))
            canvas.stroke(seam, dark, 0.022, _HAT_DEPTH)
        peak = points(
            (0, base - 0.16),
            (0.6 * w, base - 0.12),
            (1.04 * w, base - 0.0),
            (0.7 * w, base + 0.1),
            (0, base + 0.13),
        )
        canvas.blot(mirrored(peak), dark, 0.45)


def _draw_brimmed(canvas: Canvas, shot: Shot, w: float, h: float) -> None:
    colour, dark = shot.hat_colour, shade(shot.hat_colour, 0.62)
    base = -0.5 * h
    canvas.disc((0, base + 0.02), (1.5 * w, 0.17), dark, _HAT_DEPTH)
    crown = points(
        (0, -h - 0.26),
        (0.5 * w, -h - 0.3),
        (0.82 * w, -h - 0.12),
        (0.98 * w, base),
        (0.5 * w, base + 0.06),
        (0, base + 0.08),
    )
    canvas.blot(mirrored(crown), colour, _HAT_DEPTH)
    band = points((-0.95 * w, base - 0.07), (0, base - 0.01), (0.95 * w, base - 0.07))
    canvas.stroke(band, shade(colour, 0.45), 0.15, _HAT_DEPTH)
    canvas.disc((0, base + 0.09), (1.42 * w, 0.09), shade(colour, 0.92), _HAT_DEPTH)
