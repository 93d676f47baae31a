"""What is behind and below the head, and the light that falls on the finished picture.

Imports numpy and Pillow only.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from oneshui.faces.anatomy import Anatomy
from oneshui.faces.canvas import Canvas, Points, mirrored, points
from oneshui.faces.colours import GOLD, WHITE, Colour, mix, shade
from oneshui.faces.parameters import Shot

_BACKDROP_SIDE = 24
_BODY_DEPTH = -0.25


def draw_backdrop(canvas: Canvas, shot: Shot) -> None:
    """The background: one of three gradients, with soft shapes on it."""
    axis = np.linspace(-1, 1, _BACKDROP_SIDE)
    x, y = axis[None, :], axis[:, None]
    lean = shot.light[0] * 3
    if shot.backdrop == "linear":
        share = (1 + y + lean * x) / 2
    elif shot.backdrop == "radial":
        share = np.sqrt((x - lean / 2) ** 2 + (y + 0.2) ** 2) / 1.4
    else:
        share = 1 / (1 + np.exp(-9 * (x + y * lean + 0.3)))
    first, second = (np.array(colour, dtype=np.float64) for colour in shot.backdrop_colours)
    field = first + (second - first) * np.clip(share, 0, 1)[:, :, None]
    small = Image.fromarray(field.astype(np.uint8))
    canvas.image.paste(small.resize(canvas.image.size, Image.Resampling.BILINEAR))
    for blob in shot.blobs:
        canvas.spot(blob.centre, blob.radii, blob.colour, 0.75, -1.2)


def draw_body(canvas: Canvas, shot: Shot, anatomy: Anatomy) -> None:
    """Neck, shoulders, clothes, and what is worn on them."""
    neck, chin = anatomy.neck, anatomy.height
    trunk = points(
        (0, 0.4), (neck * 0.96, 0.5), (neck, chin + 0.08), (neck * 1.3, chin + 0.34), (0, 2.4)
    )
    canvas.blot(mirrored(trunk), shade(anatomy.skin, 0.93), _BODY_DEPTH)
    canvas.spot((0, chin + 0.02), (neck * 1.04, 0.34), anatomy.shadow, 0.95, _BODY_DEPTH)
    cloth = shot.clothes_colour
    neckline = chin + {"crew": 0.33, "vee": 0.36, "collar": 0.2, "suit": 0.17}[shot.clothes]
    shoulder = 1.15 + 0.5 * neck
    dip = {"crew": 0.14, "vee": 0.5, "collar": 0.36, "suit": 0.5}[shot.clothes]
    right = points(
        (0, neckline + dip),
        (neck * (0.75 if shot.clothes == "crew" else 0.4), neckline + 0.45 * dip),
        (neck * 1.16, neckline - 0.14),
        (shoulder * 0.62, neckline + 0.0),
        (shoulder * 0.93, neckline + 0.16),
        (shoulder * 1.1, neckline + 0.6),
        (shoulder * 1.15, 4.0),
        (0, 4.0),
    )
    canvas.blot(mirrored(right), cloth, _BODY_DEPTH)
    for side in (-1.0, 1.0):
        canvas.spot(
            (side * shoulder * 0.95, chin + 0.9), (0.5, 0.6), shade(cloth, 0.6), 0.6, _BODY_DEPTH
        )
    if shot.clothes == "crew":
        rim = points(
            (-neck * 1.16, neckline - 0.12),
            (-neck * 0.75, neckline + 0.07),
            (0, neckline + 0.15),
            (neck * 0.75, neckline + 0.07),
            (neck * 1.16, neckline - 0.12),
        )
        canvas.stroke(rim, shade(cloth, 0.75), 0.045, _BODY_DEPTH)
    elif shot.clothes == "collar":
        _draw_collar(canvas, anatomy, neckline, mix(cloth, WHITE, 0.35))
    elif shot.clothes == "suit":
        _draw_suit(canvas, shot, anatomy, neckline)
    if shot.necklace is not None:
        _draw_necklace(canvas, shot.necklace, anatomy)


def _draw_collar(canvas: Canvas, anatomy: Anatomy, top: float, colour: Colour) -> None:
    neck = anatomy.neck
    for side in (-1.0, 1.0):
        flap = points(
            (side * neck * 1.12, top - 0.2),
            (side * neck * 1.3, top - 0.02),
            (side * neck * 0.72, top + 0.36),
            (side * 0.03, top + 0.2),
        )
        canvas.fill(flap, colour, _BODY_DEPTH)
        canvas.stroke(flap[1:], shade(colour, 0.7), 0.018, _BODY_DEPTH)


def _draw_suit(canvas: Canvas, shot: Shot, anatomy: Anatomy, top: float) -> None:
    neck = anatomy.neck
    shirt = points((-neck * 1.1, top - 0.15), (neck * 1.1, top - 0.15), (0.1, 2.4), (-0.1, 2.4))
    canvas.fill(shirt, (238, 238, 240), _BODY_DEPTH)
    for side in (-1.0, 1.0):
        lapel = points(
            (side * neck * 1.12, top - 0.14),
            (side * neck * 1.75, top + 0.1),
            (side * neck * 1.25, top + 0.5),
            (side * 0.12, 2.2),
        )
        canvas.fill(lapel, shade(shot.clothes_colour, 0.72), _BODY_DEPTH)
    if shot.tie is not None:
        knot = points(
            (-0.1, top + 0.06), (0.1, top + 0.06), (0.065, top + 0.22), (-0.065, top + 0.22)
        )
        blade = points((-0.06, top + 0.22), (0.06, top + 0.22), (0.17, 2.3), (-0.17, 2.3))
        canvas.fill(blade, shot.tie, _BODY_DEPTH)
        canvas.fill(knot, shade(shot.tie, 0.78), _BODY_DEPTH)
    _draw_collar(canvas, anatomy, top - 0.02, (248, 248, 250))


def _draw_necklace(canvas: Canvas, kind: str, anatomy: Anatomy) -> None:
    reach, top = anatomy.neck * 1.04, anatomy.height + 0.13
    u = np.linspace(-1, 1, 13)
    arc: Points = np.stack([reach * u, top + 0.2 * (1 - u**2)], axis=1)
    if kind == "chain":
        canvas.stroke(arc, GOLD, 0.055, _BODY_DEPTH)
        canvas.disc((0, top + 0.25), (0.09, 0.1), shade(GOLD, 0.95), _BODY_DEPTH)
    else:
        for place in arc:
            bead = (float(place[0]), float(place[1]))
            canvas.disc(bead, (0.065, 0.065), (242, 238, 234), _BODY_DEPTH)


def develop(canvas: Canvas, shot: Shot, rng: Generator) -> Image.Image:
    """The finished picture at its asked size: lit, coloured, blurred and with its noise.

    Args:
        canvas: What was drawn.
        shot: Gives light, temperature, gain, contrast, blur and noise.
        rng: Draws the noise.
    """
    picture = canvas.reduced()
    if shot.blur > 0:
        radius = (0.8 + 0.5 * shot.blur) * 0.03 * min(picture.size)
        picture = picture.filter(ImageFilter.GaussianBlur(radius))
    x, y = canvas.in_head_units()
    # The head is lit as an ellipsoid; it fades out towards the edge, so that no mask is needed.
    inside = np.clip(1 - (x / 0.8) ** 2 - (y / 1.1) ** 2, 0, 1)
    relief = (shot.light[0] * x * 1.5 + shot.light[1] * y) * np.minimum(1, 2 * inside)
    wash = 0.35 * (shot.light[0] * x + shot.light[1] * y)
    factor = 1 + relief + wash + 0.22 * inside - 0.1
    balance = np.array([1 + shot.temperature, 1.0, 1 - shot.temperature], dtype=np.float32)
    pixels = np.asarray(picture, dtype=np.float32)
    pixels = pixels * (shot.gain * factor).astype(np.float32)[:, :, None] * balance
    pixels = 118 + (pixels - 118) * np.float32(shot.contrast)
    grain = rng.standard_normal(pixels.shape, dtype=np.float32)
    pixels += (1 + 3 * np.float32(shot.noise)) * grain
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
