"""Colours of the drawn faces: palettes and the few operations on colours that the drawing needs.

A colour is a triple of integers in 0..255 (red, green, blue). Imports nothing of oneshui.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Final

Colour = tuple[int, int, int]

SKIN: Final[tuple[Colour, ...]] = (
    (247, 217, 198),
    (238, 202, 176),
    (222, 176, 140),
    (201, 148, 108),
    (156, 104, 70),
    (108, 70, 48),
    (74, 47, 34),
)
HAIR: Final[dict[str, tuple[Colour, Colour]]] = {
    "black": ((18, 16, 20), (44, 36, 36)),
    "brown": ((64, 38, 22), (122, 80, 48)),
    "blond": ((196, 152, 78), (240, 212, 140)),
    "red": ((128, 46, 20), (190, 92, 40)),
    "gray": ((138, 138, 142), (222, 222, 226)),
}
IRIS: Final[tuple[Colour, ...]] = (
    (58, 36, 22),
    (98, 62, 30),
    (128, 104, 48),
    (76, 122, 74),
    (66, 124, 176),
    (120, 138, 150),
)
LIPSTICK: Final[tuple[Colour, ...]] = (
    (200, 24, 40),
    (214, 52, 110),
    (150, 20, 60),
    (122, 22, 40),
    (222, 84, 70),
)
FRAME: Final[tuple[Colour, ...]] = (
    (22, 22, 26),
    (86, 52, 30),
    (120, 24, 34),
    (40, 54, 96),
    (20, 70, 60),
)
WHITE: Final[Colour] = (255, 255, 255)
BLACK: Final[Colour] = (0, 0, 0)
GOLD: Final[Colour] = (232, 192, 88)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour `share` (0..1) of the way from `first` to `second`."""
    r, g, b = (round(x + (y - x) * share) for x, y in zip(first, second, strict=True))
    return r, g, b


def tint(colour: Colour, factors: tuple[float, float, float]) -> Colour:
    """`colour` with its channels multiplied by `factors` (each >= 0), cut at 255."""
    r, g, b = (min(255, round(x * f)) for x, f in zip(colour, factors, strict=True))
    return r, g, b


def shade(colour: Colour, factor: float) -> Colour:
    """`colour` made darker (`factor` below 1) or lighter (above 1), cut at 255."""
    return tint(colour, (factor, factor, factor))


def along(stops: Sequence[Colour], place: float) -> Colour:
    """The colour at `place` (0..1) of the palette that runs through `stops` in equal steps."""
    position = place * (len(stops) - 1)
    index = min(int(position), len(stops) - 2)
    return mix(stops[index], stops[index + 1], position - index)


def from_hsv(hue: float, saturation: float, value: float) -> Colour:
    """The colour of a hue, saturation and value, each in 0..1."""
    r, g, b = (round(255 * x) for x in colorsys.hsv_to_rgb(hue, saturation, value))
    return r, g, b
