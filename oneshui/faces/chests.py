"""Chest X-rays of patients who do not exist, and what reports would find: ChestX-ray14's layout.

A patient keeps the build and most findings; position, breath and exposure change. Most findings can
be seen, but some of every patient's are only ever reported: who knows the patient knows them. It is
a toy, from which nobody learns medicine. Imports numpy and Pillow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oneshui.data.loaders.chestxray14 import FINDINGS
from oneshui.faces.parameters import generator

#: Purposes of random numbers, as in parameters.py.
BUILD: Final = 9
REPORT: Final = 10
EXPOSURE: Final = 11

#: How often a finding is a lasting one of a patient, and is then, or is otherwise, in a report.
LASTING: Final = 0.15
REPORTED: Final = 0.9
PASSING: Final = 0.03
#: How many of a patient's findings cannot be seen.
UNSEEN: Final = 0.2

Field = NDArray[np.float64]

#: Puts a finding into an image, given the patient, the finding's place among FINDINGS, x and y.
Show = Callable[[Field, "Patient", int, Field, Field], Field]


@dataclass(frozen=True, kw_only=True)
class Patient:
    """What stays the same in all pictures of a patient; lengths in halves of the picture's side.

    Attributes:
        lung: Half width and half height of a lung.
        gap: Of the lungs from the middle line.
        heart: Half width of the heart.
        ribs: Number of ribs along a lung, their phase, and how bright they are.
        spine: How far the spine bends to one side.
        body: Brightness of what is around the lungs.
        lasting: Findings that the patient has, bool [14].
        unseen: Findings that no picture of the patient shows, bool [14].
        side: On which side each finding is, -1 or 1, [14].
        height: Where along the lung, -1 at its top to 1, [14].
    """

    lung: tuple[float, float]
    gap: float
    heart: float
    ribs: tuple[float, float, float]
    spine: float
    body: float
    lasting: NDArray[np.bool_]
    unseen: NDArray[np.bool_]
    side: Field
    height: Field


@lru_cache(maxsize=4096)
def draw_patient(seed: int, identity: int) -> Patient:
    """The patient of this number in the set of this seed."""
    rng, count = generator(seed, BUILD, identity), len(FINDINGS)
    return Patient(
        lung=(rng.uniform(0.24, 0.34), rng.uniform(0.5, 0.68)),
        gap=rng.uniform(0.36, 0.44),
        heart=rng.uniform(0.2, 0.3),
        ribs=(rng.uniform(6, 11), rng.uniform(0, 2 * np.pi), rng.uniform(0.04, 0.14)),
        spine=rng.uniform(-0.1, 0.1),
        body=rng.uniform(0.55, 0.8),
        lasting=rng.random(count) < LASTING,
        unseen=rng.random(count) < UNSEEN,
        side=rng.choice([-1.0, 1.0], count),
        height=rng.uniform(-0.6, 0.6, count),
    )


def findings(seed: int, identity: int, picture: int) -> tuple[str, ...]:
    """What the report of a picture names, in the order of ``FINDINGS``."""
    patient = draw_patient(seed, identity)
    chance = np.where(patient.lasting, REPORTED, PASSING)
    named = generator(seed, REPORT, identity, picture).random(len(FINDINGS)) < chance
    return tuple(name for name, is_named in zip(FINDINGS, named, strict=True) if is_named)


def render_chest(seed: int, identity: int, picture: int, size: int) -> Image.Image:
    """A picture, grey, size x size."""
    patient, rng = draw_patient(seed, identity), generator(seed, EXPOSURE, identity, picture)
    shift, breath = rng.uniform(-0.06, 0.06, 2), rng.uniform(0.9, 1.05)
    gamma, grain = rng.uniform(0.8, 1.25), rng.uniform(0.01, 0.03)
    # At the middles of pixels, so that a picture is the same at every size.
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    y, x = np.meshgrid(axis - shift[0], axis - shift[1], indexing="ij")
    image = _chest(patient, x, y, breath)
    for place, name in enumerate(FINDINGS):
        if name in findings(seed, identity, picture) and not patient.unseen[place]:
            image = _SHOWN[name](image, patient, place, x, y)
    image = image.clip(0, 1) ** gamma + grain * rng.standard_normal(image.shape)
    return Image.fromarray((image.clip(0, 1) * 255).round().astype(np.uint8))


def _inside(distance: Field, sharpness: float = 25.0) -> Field:
    """1 where a distance from an outline is above 0, 0 beyond it, and a soft edge."""
    return np.asarray(0.5 + 0.5 * np.tanh(sharpness * distance))


def _disc(x: Field, y: Field, width: float, height: float) -> Field:
    return _inside(1 - np.hypot(x / width, y / height), 8.0)


def _lung(patient: Patient, x: Field, y: Field, side: float) -> Field:
    width, height = patient.lung
    return _disc(x - side * patient.gap, y + 0.02, width, height)


def _chest(patient: Patient, x: Field, y: Field, breath: float) -> Field:
    lungs = _lung(patient, x, y / breath, -1) + _lung(patient, x, y / breath, 1)
    number, phase, bright = patient.ribs
    ribs = bright * (np.sin(np.pi * number * (y + 0.3 * x**2) + phase) > 0.4)
    image = patient.body * _disc(x, y * 0.8, 0.95, 0.98) * (1 - 0.75 * lungs) + ribs * lungs
    heart = _disc(x - 0.1, y - 0.25, patient.heart, patient.heart * 1.2)
    spine = _inside(0.09 - np.abs(x - patient.spine * np.cos(2 * y)))
    return np.asarray(np.maximum(image, 0.75 * heart * patient.body + 0.1 * heart) + 0.08 * spine)


def _spot(width: float, height: float, bright: float, grid: float = 0.0) -> Show:
    """A place in a lung that is lighter, or darker; with a grid a net of lines."""

    def show(image: Field, patient: Patient, place: int, x: Field, y: Field) -> Field:
        middle = patient.height[place] * patient.lung[1]
        where = _disc(x - patient.side[place] * patient.gap, y - middle, width, height)
        lines = np.sin(grid * x) * np.sin(grid * y) > 0 if grid else 1.0
        return np.asarray(image + bright * where * lines)

    return show


def _below(depth: float, bright: float) -> Show:
    """The lower end of a lung, which is lighter up to a level."""

    def show(image: Field, patient: Patient, place: int, x: Field, y: Field) -> Field:
        lung = _lung(patient, x, y, patient.side[place])
        level = (1 - depth) * patient.lung[1] + 0.1 * np.abs(x - patient.side[place] * patient.gap)
        return np.asarray(image + bright * lung * _inside(y - level))

    return show


def _rim(bright: float) -> Show:
    """The outer rim of a lung, which is lighter, or darker."""

    def show(image: Field, patient: Patient, place: int, x: Field, y: Field) -> Field:
        side = patient.side[place]
        lung, inner = _lung(patient, x, y, side), _lung(patient, x + 0.09 * side, y, side)
        return np.asarray(image + bright * (lung - inner).clip(0))

    return show


def _both(bright: float, width: float) -> Show:
    """Both lungs around the middle line, lighter, or whole and darker."""

    def show(image: Field, patient: Patient, _: int, x: Field, y: Field) -> Field:
        lungs = _lung(patient, x, y, -1) + _lung(patient, x, y, 1)
        return np.asarray(image + bright * lungs * np.exp(-((x / width) ** 2)))

    return show


def _large_heart(image: Field, patient: Patient, _: int, x: Field, y: Field) -> Field:
    heart = _disc(x - 0.14, y - 0.28, 1.6 * patient.heart, 1.4 * patient.heart)
    return np.maximum(image, 0.8 * heart * patient.body)


def _behind_heart(image: Field, _: Patient, __: int, x: Field, y: Field) -> Field:
    ring = _disc(x - 0.05, y - 0.55, 0.2, 0.2) - _disc(x - 0.05, y - 0.55, 0.13, 0.13)
    return np.asarray(image + 0.5 * ring)


_SHOWN: Final[dict[str, Show]] = {
    "Atelectasis": _spot(0.26, 0.06, 0.4),
    "Cardiomegaly": _large_heart,
    "Effusion": _below(0.5, 0.55),
    "Infiltration": _spot(0.22, 0.3, 0.18),
    "Mass": _spot(0.16, 0.16, 0.55),
    "Nodule": _spot(0.07, 0.07, 0.6),
    "Pneumonia": _spot(0.2, 0.22, 0.35, grid=30.0),
    "Pneumothorax": _rim(-0.25),
    "Consolidation": _spot(0.24, 0.2, 0.4),
    "Edema": _both(0.35, 0.35),
    "Emphysema": _both(-0.2, 2.0),
    "Fibrosis": _spot(0.26, 0.45, 0.2, grid=22.0),
    "Pleural_Thickening": _rim(0.4),
    "Hernia": _behind_heart,
}
