"""Characters written by people who do not exist: FEMNIST's layout.

A writer has a slant, a width, a pen and a tremor of their own, and writes some characters in the
shape of others: only who knows the writer can read those. The letters are those of Pillow's own
font. Imports numpy and Pillow.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from oneshui.data.loaders.femnist import CLASSES
from oneshui.faces.parameters import generator

#: Purposes of random numbers, as in parameters.py.
HAND: Final = 12
CHARACTER: Final = 13

#: How many of the characters are digits, as on NIST's forms.
DIGITS: Final = 0.5
#: How many of the characters a writer writes in the shape of others.
MISSHAPEN: Final = 10

_SIDE: Final = 96


@dataclass(frozen=True, kw_only=True)
class Writer:
    """What stays the same in all characters of a writer.

    Attributes:
        slant: Sideways shift for every step up.
        width: Of a character, as a share of its usual one.
        pen: Additional thickness of a stroke, in 96ths of the picture's side.
        tremor: Size in 96ths, and waves in a picture, of how lines go astray.
        ink: Darkness, 0 to 1.
        shapes: Which character's shape each is written in, int [62].
    """

    slant: float
    width: float
    pen: int
    tremor: tuple[float, float]
    ink: float
    shapes: NDArray[np.int64]


@lru_cache(maxsize=4096)
def draw_writer(seed: int, identity: int) -> Writer:
    """The writer of this number in the set of this seed."""
    rng = generator(seed, HAND, identity)
    shapes = np.arange(len(CLASSES))
    strange = rng.permutation(len(CLASSES))[:MISSHAPEN]
    shapes[strange] = np.roll(strange, 1)
    return Writer(
        slant=rng.uniform(-0.15, 0.45),
        width=rng.uniform(0.7, 1.15),
        pen=int(rng.integers(0, 5)),
        tremor=(rng.uniform(0, 3.5), rng.uniform(1, 4)),
        ink=rng.uniform(0.7, 1.0),
        shapes=shapes,
    )


def picture_character(seed: int, identity: int, picture: int) -> int:
    """Which of ``CLASSES`` a picture shows."""
    rng = generator(seed, CHARACTER, identity, picture)
    is_digit = rng.random() < DIGITS
    return int(rng.integers(10) if is_digit else 10 + rng.integers(len(CLASSES) - 10))


def render_character(seed: int, identity: int, picture: int, size: int) -> Image.Image:
    """A picture, dark on white, grey, size x size."""
    writer, rng = draw_writer(seed, identity), generator(seed, CHARACTER, identity, picture, 1)
    shape = CLASSES[writer.shapes[picture_character(seed, identity, picture)]]
    page = Image.new("L", (_SIDE, _SIDE), 0)
    ImageDraw.Draw(page).text(
        (_SIDE / 2, _SIDE / 2), shape, fill=255, font=_font(), anchor="mm", stroke_width=writer.pen
    )
    axis = np.arange(_SIDE, dtype=np.float64)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    far, waves = writer.tremor
    phase, turn = rng.uniform(0, 2 * np.pi, 2), rng.normal(0, 0.06)
    middle, wave = (_SIDE - 1) / 2, 2 * np.pi * waves / _SIDE
    right, down = x - middle - rng.uniform(-5, 5), y - middle - rng.uniform(-5, 5)
    # Where each pixel of the picture comes from on the page.
    across = (right + (writer.slant + turn) * down) / (writer.width * rng.uniform(0.93, 1.07))
    along = (down - turn * right) / rng.uniform(0.9, 1.05)
    columns = middle + across + far * np.sin(wave * y + phase[0])
    rows = middle + along + far * np.sin(wave * x + phase[1])
    places = [np.rint(place).astype(int).clip(0, _SIDE - 1) for place in (rows, columns)]
    ink = np.asarray(page)[places[0], places[1]] * (writer.ink / 255)
    image = Image.fromarray((255 * (1 - ink)).round().astype(np.uint8))
    return image.resize(
        (size, size), Image.Resampling.BOX if size < _SIDE else Image.Resampling.BILINEAR
    )


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(62)
