"""The drawn faces and their labels, without any file."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from oneshui.faces import ATTRIBUTES, HIDDEN, picture_labels, render
from oneshui.faces.labels import hidden_labels, true_labels, visible_labels
from oneshui.faces.parameters import SHOT, draw_looks, draw_shot, generator

IDENTITIES = 400
PICTURES = 8
HIDDEN_COLUMNS = [ATTRIBUTES.index(name) for name in HIDDEN]
VISIBLE_COLUMNS = [k for k in range(40) if k not in HIDDEN_COLUMNS]


@pytest.fixture(scope="module")
def true() -> NDArray[np.bool_]:
    return np.array(
        [[true_labels(0, i, k) for k in range(PICTURES)] for i in range(IDENTITIES)], dtype=bool
    )


@pytest.fixture(scope="module")
def given_labels() -> NDArray[np.bool_]:
    return np.array(
        [[picture_labels(0, i, k) for k in range(PICTURES)] for i in range(IDENTITIES)], dtype=bool
    )


def pixels(seed: int, identity: int, picture: int, side: int = 24) -> NDArray[np.float64]:
    return np.asarray(render(seed, identity, picture, (side, side)), dtype=np.float64)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**70),
    identity=st.integers(0, 10**6),
    picture=st.integers(0, 10**4),
    width=st.integers(16, 90),
    height=st.integers(16, 90),
)
def test_any_picture_can_be_drawn_at_any_size(
    seed: int, identity: int, picture: int, width: int, height: int
) -> None:
    image = render(seed, identity, picture, (width, height))
    assert (image.mode, image.size) == ("RGB", (width, height))
    assert image.tobytes() == render(seed, identity, picture, (width, height)).tobytes()
    assert np.asarray(image).std() > 4
    assert len(picture_labels(seed, identity, picture)) == 40


def test_every_style_and_accessory_gets_drawn() -> None:
    seen: dict[str, set[object]] = {}
    for identity in range(300):
        looks = draw_looks(1, identity)
        shot = draw_shot(generator(1, SHOT, identity, 0), looks)
        render(1, identity, 0, (16, 16))
        for part in (looks, shot):
            for name in ("style", "beard", "hair", "glasses", "hat", "earrings", "clothes"):
                seen.setdefault(name, set()).add(getattr(part, name, None))
    assert len(seen["style"] - {None}) == 12
    assert seen["beard"] >= {"none", "stubble", "moustache", "goatee", "full"}
    assert seen["hair"] >= {"black", "brown", "blond", "red", "gray"}
    assert seen["glasses"] >= {"round", "square", "cat", "sun"}
    assert seen["hat"] >= {"beanie", "cap", "brim"}
    assert seen["earrings"] >= {"stud", "drop", "hoop"}
    assert seen["clothes"] >= {"crew", "vee", "collar", "suit"}


def test_seed_identity_and_picture_each_change_the_picture() -> None:
    base = render(0, 0, 0, (32, 32)).tobytes()
    for key in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        assert render(*key, (32, 32)).tobytes() != base


def test_the_same_scene_is_drawn_at_every_size() -> None:
    for identity in range(12):
        small = pixels(0, identity, 0, 48)
        large = pixels(0, identity, 0, 144).reshape(48, 3, 48, 3, 3).mean(axis=(1, 3))
        assert np.abs(small - large).mean() < 8
        other = pixels(0, identity + 1, 0, 48)
        assert np.abs(small - large).mean() < np.abs(small - other).mean() / 3


def test_pictures_of_an_identity_are_nearer_to_each_other_than_to_others() -> None:
    # The middle of the picture shows the face; subtracting its mean leaves light and gain out.
    people, shots = 24, 6
    faces = np.stack(
        [[pixels(0, i, k)[4:19, 6:18].ravel() for k in range(shots)] for i in range(people)]
    )
    faces -= faces.mean(axis=2, keepdims=True)
    flat = faces.reshape(people * shots, -1)
    distance = np.sqrt(((flat[:, None] - flat[None]) ** 2).mean(axis=2))
    owner = np.repeat(np.arange(people), shots)
    same = (owner[:, None] == owner[None]) & ~np.eye(len(flat), dtype=bool)
    other = owner[:, None] != owner[None]
    assert distance[same].mean() < 0.85 * distance[other].mean()
    np.fill_diagonal(distance, np.inf)
    nearest = owner[distance.argmin(axis=1)] == owner
    assert nearest.mean() > 0.4  # guessing would give 0.035


def test_attributes_are_celebas_forty_in_order() -> None:
    assert len(ATTRIBUTES) == len(set(ATTRIBUTES)) == 40
    assert (ATTRIBUTES[0], ATTRIBUTES[20], ATTRIBUTES[39]) == ("5_o_Clock_Shadow", "Male", "Young")
    assert sorted(ATTRIBUTES, key=lambda name: name.lower()) == list(ATTRIBUTES)
    assert set(HIDDEN) < set(ATTRIBUTES)
    assert len(HIDDEN) == 7


def test_no_visible_label_is_rare_or_nearly_always_there(true: NDArray[np.bool_]) -> None:
    share = true.mean(axis=(0, 1))
    assert share.min() > 0.03, ATTRIBUTES[int(share.argmin())]
    assert share.max() < 0.9, ATTRIBUTES[int(share.argmax())]


def test_hidden_labels_are_constant_within_an_identity_up_to_the_flips(
    true: NDArray[np.bool_], given_labels: NDArray[np.bool_]
) -> None:
    hidden = true[:, :, HIDDEN_COLUMNS]
    assert (hidden == hidden[:, :1]).all()
    majority = given_labels[:, :, HIDDEN_COLUMNS].mean(axis=1) > 0.5
    disagreement = (given_labels[:, :, HIDDEN_COLUMNS] != majority[:, None]).mean()
    assert 0.006 < disagreement < 0.014


def test_hidden_labels_are_one_in_forty_percent() -> None:
    drawn = np.array([[hidden_labels(5, i)[name] for name in HIDDEN] for i in range(1500)])
    assert np.abs(drawn.mean(axis=0) - 0.4).max() < 0.05


def test_one_percent_of_each_label_is_flipped(
    true: NDArray[np.bool_], given_labels: NDArray[np.bool_]
) -> None:
    flipped = true != given_labels
    assert 0.008 < flipped.mean() < 0.012
    assert flipped.mean(axis=(0, 1)).max() < 0.02


def test_hidden_labels_say_nothing_about_the_looks(true: NDArray[np.bool_]) -> None:
    hidden = true[:, 0, HIDDEN_COLUMNS].astype(float)
    looks = [dataclasses.asdict(draw_looks(0, i)) for i in range(IDENTITIES)]
    numeric = [key for key, value in looks[0].items() if isinstance(value, int | float)]
    numeric.remove("grey")  # the same for everybody here: only MUFAC's layout has people turn grey
    drawn = np.array([[float(one[key]) for key in numeric] for one in looks])
    visible = true[:, :, VISIBLE_COLUMNS].mean(axis=1)
    observed = np.concatenate([drawn, visible], axis=1)
    size = hidden.shape[1]
    correlation = np.corrcoef(hidden.T, observed.T)[:size, size:]
    # 4.5 standard errors for some 550 correlations of independent draws
    assert np.abs(correlation).max() < 4.5 / np.sqrt(IDENTITIES)
    assert np.abs(correlation).mean() < 1.0 / np.sqrt(IDENTITIES)


def test_nothing_drawn_reads_the_hidden_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    before = render(3, 7, 2, (32, 32)).tobytes()
    monkeypatch.setattr("oneshui.faces.labels.HIDDEN_PROBABILITY", 1.0)
    hidden_labels.cache_clear()
    try:
        assert all(hidden_labels(3, 7).values())
        assert render(3, 7, 2, (32, 32)).tobytes() == before
    finally:
        hidden_labels.cache_clear()


def test_a_hat_hides_what_is_under_it() -> None:
    for identity in range(60):
        looks = draw_looks(0, identity)
        shot = draw_shot(generator(0, SHOT, identity, 0), looks)
        covered = visible_labels(looks, dataclasses.replace(shot, hat="cap"))
        assert covered["Wearing_Hat"]
        assert not any(covered[name] for name in ("Bald", "Bangs", "Receding_Hairline"))


def test_labels_of_one_kind_exclude_each_other(true: NDArray[np.bool_]) -> None:
    def column(name: str) -> NDArray[np.bool_]:
        chosen: NDArray[np.bool_] = true[:, :, ATTRIBUTES.index(name)]
        return chosen

    colours = sum(column(f"{c}_Hair").astype(int) for c in ("Black", "Blond", "Brown", "Gray"))
    assert np.max(colours) == 1
    assert not (column("Straight_Hair") & column("Wavy_Hair")).any()
    for beard in ("Mustache", "Goatee", "5_o_Clock_Shadow"):
        assert not (column(beard) & column("No_Beard")).any()
        assert not (column(beard) & ~column("Male")).any()


def test_drawing_needs_no_torch() -> None:
    code = "import sys, oneshui.faces.generate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
