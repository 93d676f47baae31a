"""Drawn chests and characters show what their labels say, and who they are of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from oneshui.data.loaders.chestxray14 import FINDINGS
from oneshui.data.loaders.femnist import CLASSES
from oneshui.faces import chests
from oneshui.faces.chests import draw_patient, findings, render_chest
from oneshui.faces.handwriting import (
    MISSHAPEN,
    draw_writer,
    picture_character,
    render_character,
)

each_world = pytest.mark.parametrize("render", [render_chest, render_character])


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=float)


@each_world
def test_a_picture_is_grey_and_has_little_noise_of_its_own_size(
    render: Callable[[int, int, int, int], Image.Image],
) -> None:
    small, large = render(0, 3, 1, 32), render(0, 3, 1, 96)
    assert (small.mode, small.size, large.size) == ("L", (32, 32), (96, 96))
    shrunk = pixels(large.resize((32, 32), Image.Resampling.BOX))
    assert np.abs(shrunk - pixels(small)).mean() < 8


@each_world
def test_other_seeds_people_and_pictures_are_other_pictures(
    render: Callable[[int, int, int, int], Image.Image],
) -> None:
    one = pixels(render(0, 1, 1, 48))
    assert np.array_equal(pixels(render(0, 1, 1, 48)), one)
    for other in ((1, 1, 1), (0, 2, 1), (0, 1, 2)):
        assert np.abs(pixels(render(*other, 48)) - one).mean() > 1


def test_most_lasting_findings_are_reported_and_few_others() -> None:
    lasting = np.array([draw_patient(0, i).lasting for i in range(200)])
    named = np.array([[n in findings(0, i, 0) for n in FINDINGS] for i in range(200)])
    assert 0.1 < lasting.mean() < 0.2
    assert named[lasting].mean() > 0.8
    assert named[~lasting].mean() < 0.06


@pytest.mark.parametrize("place", range(len(FINDINGS)), ids=FINDINGS)
def test_a_finding_can_be_seen_but_with_those_whom_only_reports_name(
    place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[bool, list[float]] = {}
    for person in range(40):
        patient = draw_patient(0, person)
        images = []
        for named in ((), (FINDINGS[place],)):
            monkeypatch.setattr(chests, "findings", lambda *_, named=named: named)
            images.append(pixels(render_chest(0, person, 0, 48)))
        changes.setdefault(bool(patient.unseen[place]), []).append(
            np.abs(images[0] - images[1]).max()
        )
    assert max(changes[True]) == 0
    assert np.median(changes[False]) > 20


def test_half_of_the_characters_are_digits_and_all_occur() -> None:
    drawn = [picture_character(0, person, n) for person in range(100) for n in range(20)]
    assert set(drawn) == set(range(len(CLASSES)))
    assert 0.45 < np.mean(np.array(drawn) < 10) < 0.55


def test_a_writer_writes_some_characters_in_the_shape_of_others() -> None:
    shapes = np.array([draw_writer(0, person).shapes for person in range(50)])
    assert all(sorted(row) == list(range(62)) for row in shapes.tolist())
    assert ((shapes != np.arange(62)).sum(1) == MISSHAPEN).all()
    assert len({tuple(row) for row in shapes.tolist()}) == 50
