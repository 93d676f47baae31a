"""The whole picture: parameters are drawn, the parts are painted from back to front, and lit.

Imports numpy and Pillow only.
"""

from __future__ import annotations

from numpy.random import Generator
from PIL import Image

from oneshui.faces.ageing import aged, aged_shot
from oneshui.faces.anatomy import anatomy_of
from oneshui.faces.canvas import Canvas
from oneshui.faces.families import draw_relative, picture_age
from oneshui.faces.features import (
    draw_brows,
    draw_ears,
    draw_eyes,
    draw_head,
    draw_mouth,
    draw_nose,
    draw_skin_marks,
)
from oneshui.faces.hair import draw_back_hair, draw_beard, draw_front_hair
from oneshui.faces.parameters import SHOT, Looks, Shot, draw_looks, draw_shot, generator
from oneshui.faces.scene import develop, draw_backdrop, draw_body
from oneshui.faces.worn import draw_earrings, draw_glasses, draw_hat


def render(seed: int, identity: int, picture: int, size: tuple[int, int]) -> Image.Image:
    """One picture of one identity, the same whenever and wherever it is drawn.

    Args:
        seed: The seed of the set, >= 0.
        identity: Whose picture, >= 0.
        picture: Which picture of that identity, >= 0.
        size: Width and height in pixels; the head is as large as the shorter side allows.

    Returns:
        An RGB picture of that size.
    """
    looks = draw_looks(seed, identity)
    rng = generator(seed, SHOT, identity, picture)
    return _paint(looks, draw_shot(rng, looks), rng, size)


def render_relative(seed: int, identity: int, picture: int, size: tuple[int, int]) -> Image.Image:
    """One picture of one identity as a member of a family, at the age of that picture.

    Args:
        seed: The seed of the set, >= 0.
        identity: Whose picture, >= 0.
        picture: Which picture of that identity, >= 0.
        size: Width and height in pixels.

    Returns:
        An RGB picture of that size.
    """
    person = draw_relative(seed, identity)
    age = float(picture_age(seed, identity, picture))
    looks = aged(person.looks, age, person.grey_from, person.bald_from)
    rng = generator(seed, SHOT, identity, picture)
    return _paint(looks, aged_shot(draw_shot(rng, looks), age), rng, size)


def _paint(looks: Looks, shot: Shot, rng: Generator, size: tuple[int, int]) -> Image.Image:
    """The picture of these parameters; `rng` draws its noise."""
    anatomy = anatomy_of(looks, shot)
    canvas = Canvas(size, shot)
    draw_backdrop(canvas, shot)
    draw_back_hair(canvas, looks, shot, anatomy)
    draw_body(canvas, shot, anatomy)
    draw_ears(canvas, looks, anatomy)
    draw_head(canvas, anatomy)
    draw_skin_marks(canvas, looks, shot, anatomy)
    draw_beard(canvas, looks, shot, anatomy)
    draw_mouth(canvas, looks, shot, anatomy)
    draw_eyes(canvas, looks, shot, anatomy)
    draw_nose(canvas, looks, shot, anatomy)
    draw_brows(canvas, looks, anatomy)
    draw_front_hair(canvas, looks, shot, anatomy)
    draw_earrings(canvas, looks, shot, anatomy)
    draw_glasses(canvas, looks, shot, anatomy)
    draw_hat(canvas, shot, anatomy)
    return develop(canvas, shot, rng)
