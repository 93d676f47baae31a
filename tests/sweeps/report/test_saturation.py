"""Gain against memorisation: which datasets are one ladder, what is drawn and said of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from support.result_frames import frame_of, row

from sweeps.config import load
from sweeps.graph.cells import pictures_of
from sweeps.graph.plan import expand
from sweeps.graph.spec import SweepSpec
from sweeps.report.figures import catalogue
from sweeps.report.figures.saturation import saturation as drawings
from sweeps.report.figures.style import Material
from sweeps.report.saturation import Ladder, ladders, rungs, saturation

SWEEP = load(["sweep=saturation"]).sweep
PLAN = expand(SWEEP)
EPOCHS = {"orl_2": 2, "orl_4": 4, "orl_8": 8, "orl_16": 16}
LADDER = Ladder(num_forget=5, epochs=EPOCHS)
GAINS = {
    "orl_2": {"metaunlearn": 0.08, "gradient_ascent": 0.02},
    "orl_4": {"metaunlearn": 0.06, "gradient_ascent": -0.02},
    "orl_8": {"metaunlearn": 0.0, "gradient_ascent": -0.01},
    "orl_16": {"metaunlearn": 0.0, "gradient_ascent": -0.05},
}
NOISE = (0.0, 0.001, -0.001)
NONE = (0.0, 0.05, -0.05)


def rows(dataset: str, gains: dict[str, float]) -> list[dict[str, Any]]:
    """Three seeds: doing nothing has a ToW of .7; of retrained models it is .95."""
    made = []
    where = {"dataset": dataset, "num_forget": 5, "task": "multilabel"}
    levels = {"retain_score": 0.90 + EPOCHS[dataset] / 200, "forget_score": 0.8, "test_score": 0.7}
    for seed in range(3):
        made.append(row("pretrain", seed, 0.7, **where, **levels))
        made.append(row("retrain", seed, 1.0, **where))
        made.append(row("retrain_again", seed, 0.95, **where))
        for method, gain in gains.items():
            noise = NOISE[seed] * (1 + EPOCHS[dataset] / 16) if gain else NONE[seed]
            made.append(row(method, seed, 0.7 + gain + noise, **where))
    return made


def frame(gains: dict[str, dict[str, float]] | None = None) -> pd.DataFrame:
    return frame_of([r for name, of in (gains or GAINS).items() for r in rows(name, of)])


def said(made: pd.DataFrame) -> list[str]:
    return [sentence for found in saturation(SWEEP, made) for sentence in found.sentences]


def test_the_shipped_sweep_is_one_ladder_of_one_set_of_pictures() -> None:
    assert ladders(SWEEP) == [LADDER]
    assert len(set(pictures_of(SWEEP).values())) == 1


@pytest.mark.parametrize(
    "override",
    [
        "datasets.orl_2.walk=reference",
        "datasets.orl_2.crop_size=128",
        "datasets.orl_2.training={epochs: 2, weight_decay: 0.1}",
        "datasets.orl_2={layout: celeba, forget_sizes: [5], training: {epochs: 2}}",
        "datasets.orl_2.forget_sizes=[4]",
        "sweep.datasets=[orl_4,orl_8,orl_16]",
    ],
)
def test_what_differs_in_more_than_its_epochs_is_no_rung(override: str) -> None:
    found = ladders(load(["sweep=saturation", override]).sweep)
    assert found == [Ladder(num_forget=5, epochs={k: v for k, v in EPOCHS.items() if v > 2})]


def test_other_sweeps_have_no_ladder() -> None:
    for name in ("smoke", "people"):
        assert ladders(load([f"sweep={name}"]).sweep) == []
    twice = "+datasets.orl_two={layout: orl, forget_sizes: [5], training: {epochs: 2}}"
    assert ladders(load(["sweep=saturation", twice, "sweep.datasets=[orl_2,orl_two]"]).sweep) == []


def test_rungs_know_the_model_its_gains_and_what_is_left_to_gain() -> None:
    first, *_, last = rungs(LADDER, frame())
    assert (first.dataset, first.epochs, last.epochs) == ("orl_2", 2, 16)
    assert first.retain == pytest.approx(0.91)
    assert first.forget == pytest.approx(0.8)
    # All three scores .05 apart: (1 - .05) ** 3 among themselves.
    assert first.floor == pytest.approx(0.95**3 - 0.7)
    assert first.better == ("metaunlearn", "gradient_ascent")
    assert last.better == ()
    half = frame().query("dataset != 'orl_4' or method != 'pretrain'")
    assert [rung.epochs for rung in rungs(LADDER, half)] == [2, 8, 16]


def test_a_clear_answer_is_said_and_nothing_beyond_what_is_shown() -> None:
    assert said(frame()) == [
        "With 8 or more epochs of training (after 8 the model scores 94.0 on the retain set and "
        "80.0 on the forget set) the one-shot rows no longer are shown to gain over doing nothing; "
        "shown to gain: after 2 metaunlearn, gradient_ascent; after 4 metaunlearn. What is not "
        "shown to gain may gain all the same.",
        "Shown to gain more after 2 epochs than after 16, on the same people: gradient_ascent "
        "+7.0 points (95 % interval +6.8 to +7.2).",
    ]


def test_without_a_clear_answer_nothing_is_said() -> None:
    none = {"metaunlearn": 0.0, "gradient_ascent": 0.0}
    assert said(frame(dict.fromkeys(EPOCHS, none))) == []
    back = {**dict.fromkeys(EPOCHS, none), "orl_8": {"metaunlearn": 0.1, "gradient_ascent": 0.0}}
    assert said(frame(back)) == []
    one_seed = frame().query("seed == 0")
    assert said(one_seed) == []


def test_only_the_longest_of_all_is_named_without_more() -> None:
    gains = {**GAINS, "orl_8": {"metaunlearn": 0.05, "gradient_ascent": 0.0}}
    assert said(frame(gains))[0].startswith("With 16 epochs of training (after 16 ")


def material(made: pd.DataFrame, sweep: SweepSpec = SWEEP) -> Material:
    plan = dataclasses.replace(PLAN, sweep=sweep)
    return Material(plan=plan, entries={}, frame=made, summary=made)


def test_the_figure_has_a_line_a_row_with_intervals_and_the_model_under_it() -> None:
    (drawing,) = catalogue.KINDS["saturation"].drawings(material(frame()))
    assert drawing.name == "orl_2-orl_4-orl_8-orl_16-n5"
    figure = drawing.make()
    (axes,) = figure.axes
    lines = {
        line.get_marker(): np.asarray(line.get_ydata()).tolist()
        for line in axes.lines
        if np.size(line.get_xdata()) == len(EPOCHS)
    }
    looks = material(frame()).looks
    own = lines[looks["metaunlearn"].marker]
    assert own == pytest.approx([8.0, 6.0, 0.0, 0.0])
    assert lines["p"] == pytest.approx([100 * (0.95**3 - 0.7)] * 4)
    assert axes.get_xticklabels()[0].get_text() == "2\nretain 91.0\nforget 80.0"
    names = {text.get_text() for text in axes.texts}
    assert {"metaunlearn", "gradient_ascent"} <= names
    assert "mAP of the pretrained model" in axes.get_xlabel()
    bars = axes.collections[0]
    assert isinstance(bars, LineCollection)
    low, high = (y for _, y in bars.get_segments()[0])
    # Student's of three values .001 (1 + 2 / 16) apart: 4.303 standard errors to each side.
    half = 100 * 4.3027 * 0.001125 / 3**0.5
    assert (low, high) == pytest.approx((8.0 - half, 8.0 + half), abs=1e-3)


def test_a_single_rung_and_a_sweep_without_a_ladder_draw_nothing() -> None:
    assert list(drawings(material(frame({"orl_2": GAINS["orl_2"]})))) == []
    assert list(drawings(material(frame(), load(["sweep=people"]).sweep))) == []


def test_a_single_seed_is_drawn_without_intervals() -> None:
    (drawing,) = drawings(material(frame().query("seed == 0")))
    assert drawing.make().axes
