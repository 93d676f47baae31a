"""A canvas on which shapes are placed in units of the head, at a depth, under a shot's pose.

It draws at SUPERSAMPLING times the asked size with Pillow's polygons; `reduced` gives the
antialiased picture. Imports numpy and Pillow only.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from oneshui.faces.colours import Colour
from oneshui.faces.parameters import Shot

Points = NDArray[np.float64]

SUPERSAMPLING: Final = 3
#: Half the height of a middling head, as a share of the picture's shorter side.
HEAD_SHARE: Final = 0.355
#: How far down the picture the head's origin lies, as a share of its height.
HEAD_DROP: Final = 0.465

_SPOT_SIDE: Final = 48
#: Weights of the four neighbouring control points, for each power 0..3 of the place in a span.
_CATMULL_ROM: Final = np.array(
    [[0.0, 1.0, 0.0, 0.0], [-0.5, 0.0, 0.5, 0.0], [1.0, -2.5, 2.0, -0.5], [-0.5, 1.5, -1.5, 0.5]]
)


def points(*pairs: tuple[float, float]) -> Points:
    """An (N, 2) array of points from pairs (x, y)."""
    return np.array(pairs, dtype=np.float64)


def mirrored(right: Points) -> Points:
    """A closed outline from its right half, both ends of which lie on the middle line."""
    left = right[-2:0:-1] * (-1.0, 1.0)
    return np.concatenate([right, left])


@lru_cache(maxsize=256)
def _spline_basis(count: int, closed: bool, steps: int) -> tuple[Points, Points]:
    """Two matrices that turn `count` control points into points and slopes of a spline.

    The spline is Catmull-Rom's, which passes through its control points.
    """
    spans = count if closed else count - 1
    total = spans * steps + (0 if closed else 1)
    place = np.arange(total) / steps
    span = np.minimum(place.astype(int), spans - 1)
    t = (place - span)[:, None]
    powers = np.concatenate([t**0, t, t**2, t**3], axis=1)
    slopes = np.concatenate([0 * t, t**0, 2 * t, 3 * t**2], axis=1)
    taps = span[:, None] + np.arange(-1, 3)
    taps = taps % count if closed else np.clip(taps, 0, count - 1)
    rows = np.broadcast_to(np.arange(total)[:, None], taps.shape)
    value, slope = np.zeros((total, count)), np.zeros((total, count))
    np.add.at(value, (rows, taps), powers @ _CATMULL_ROM)
    np.add.at(slope, (rows, taps), slopes @ _CATMULL_ROM)
    return value, slope


@lru_cache(maxsize=64)
def _spot(opacity: int) -> Image.Image:
    """The mask of a soft round spot: `opacity` (0..255) in the middle, nothing at the rim."""
    axis = (np.arange(_SPOT_SIDE) + 0.5) / _SPOT_SIDE * 2 - 1
    square = np.clip(1 - axis[:, None] ** 2 - axis[None, :] ** 2, 0, 1)
    return Image.fromarray((opacity * square**1.5).astype(np.uint8))


class Canvas:
    """A picture in the making.

    Every drawing method takes points in units of the head and a depth: how far in front of the
    head's middle they lie. A depth of None puts points on the rounded front of the face.
    """

    def __init__(self, size: tuple[int, int], shot: Shot) -> None:
        """Starts a black picture.

        Args:
            size: Width and height of the finished picture in pixels, each >= 1.
            shot: Gives the pose.
        """
        width, height = (side * SUPERSAMPLING for side in size)
        self.image = Image.new("RGB", (width, height))
        self._draw = ImageDraw.Draw(self.image, "RGBA")
        self.unit = HEAD_SHARE * min(width, height) * shot.scale
        self._steps = min(max(round(self.unit / 18), 4), 14)
        self._origin = (
            width / 2 + shot.shift[0] * self.unit,
            height * HEAD_DROP + shot.shift[1] * self.unit,
        )
        self._turn = (math.sin(shot.yaw), math.cos(shot.yaw))
        self._nod = (math.sin(shot.pitch), math.cos(shot.pitch))
        cos, sin = self.unit * math.cos(shot.roll), self.unit * math.sin(shot.roll)
        self._roll = np.array([[cos, sin], [-sin, cos]])

    def smooth(self, control: Points, *, closed: bool = True) -> Points:
        """The points of a smooth curve through control points (N, 2)."""
        return _spline_basis(len(control), closed, self._steps)[0] @ control

    def place(self, shape: Points, depth: float | None) -> Points:
        """Where points (N, 2) in units of the head fall on the picture, in its pixels."""
        x, y = shape[:, 0], shape[:, 1]
        z = 0.62 - 0.5 * x * x - 0.2 * y * y if depth is None else depth
        turned = np.empty_like(shape)
        turned[:, 0] = x * self._turn[1] + z * self._turn[0]
        turned[:, 1] = y * self._nod[1] + z * self._nod[0]
        placed: Points = turned @ self._roll + self._origin
        return placed

    def fill(
        self, shape: Points, colour: Colour, depth: float | None = None, alpha: float = 1.0
    ) -> None:
        """Fills a polygon (N, 2); `alpha` runs from 0 (nothing) to 1 (opaque)."""
        flat = self.place(shape, depth).ravel().tolist()
        self._draw.polygon(flat, fill=(*colour, round(255 * alpha)))

    def blot(
        self, control: Points, colour: Colour, depth: float | None = None, alpha: float = 1.0
    ) -> None:
        """Fills the smooth closed curve through control points (N, 2)."""
        self.fill(self.smooth(control), colour, depth, alpha)

    def disc(
        self,
        centre: tuple[float, float],
        radii: tuple[float, float],
        colour: Colour,
        depth: float | None = None,
        alpha: float = 1.0,
    ) -> None:
        """Fills an ellipse."""
        self.fill(ellipse(centre, radii, 5 * self._steps), colour, depth, alpha)

    def stroke(
        self,
        control: Points,
        colour: Colour,
        width: float | tuple[float, ...],
        depth: float | None = None,
        alpha: float = 1.0,
    ) -> None:
        """Draws a smooth open line of a width in units of the head.

        Several widths run from the line's start to its end in equal steps.
        """
        value, slope = _spline_basis(len(control), False, self._steps)
        line, along = value @ control, slope @ control
        length = np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)
        half = _half_widths(width, len(line)) / length
        normal = np.empty_like(line)
        normal[:, 0] = -along[:, 1] * half
        normal[:, 1] = along[:, 0] * half
        self.fill(np.concatenate([line + normal, (line - normal)[::-1]]), colour, depth, alpha)

    def spot(
        self,
        centre: tuple[float, float],
        radii: tuple[float, float],
        colour: Colour,
        alpha: float,
        depth: float | None = None,
    ) -> None:
        """Lays on a soft spot that fades out towards its rim."""
        x, y = self.place(points(centre), depth)[0].tolist()
        width, height = (max(2, round(2 * radius * self.unit)) for radius in radii)
        mask = _spot(round(255 * alpha)).resize((width, height), Image.Resampling.BILINEAR)
        self.image.paste(colour, (round(x - width / 2), round(y - height / 2)), mask)

    def reduced(self) -> Image.Image:
        """The picture at its asked size."""
        return self.image.reduce(SUPERSAMPLING)

    def in_head_units(self) -> tuple[Points, Points]:
        """The coordinates (x, y) of the reduced picture's pixels in units of the head.

        The pose's roll is left out; each array has the picture's shape (height, width).
        """
        width, height = (side // SUPERSAMPLING for side in self.image.size)
        x = ((np.arange(width) + 0.5) * SUPERSAMPLING - self._origin[0]) / self.unit
        y = ((np.arange(height) + 0.5) * SUPERSAMPLING - self._origin[1]) / self.unit
        return np.broadcast_to(x[None, :], (height, width)), np.broadcast_to(
            y[:, None], (height, width)
        )


def ellipse(centre: tuple[float, float], radii: tuple[float, float], corners: int) -> Points:
    """An ellipse as a polygon (corners, 2)."""
    return _circle(corners) * radii + centre


@lru_cache(maxsize=16)
def _circle(corners: int) -> Points:
    angle = np.arange(corners) * (2 * np.pi / corners)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


@lru_cache(maxsize=512)
def _half_widths(width: float | tuple[float, ...], count: int) -> Points:
    given = np.atleast_1d(np.asarray(width, dtype=np.float64)) / 2
    return np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(given)), given)
