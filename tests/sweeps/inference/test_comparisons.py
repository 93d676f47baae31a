"""Which comparisons are made, with which numbers, and what is said about their number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from support.result_frames import frame_of as result_frame
from support.result_frames import row

from sweeps.inference.comparisons import (
    after_longer_training,
    best_of,
    comparisons,
    support_statement,
)
from sweeps.inference.evidence import Evidence
from sweeps.inference.intervals import t_interval
from sweeps.inference.retrained import distances, level_of, nearness
from sweeps.inference.rows import is_ranked, names

BLOCK = ("synthetic", 20)
NONCENTRALITY = 5.432
"""At which Student's test of 4 seeds and 2 rows finds 4 of 5."""


def frame_of(values: dict[str, list[float | None]], **more: Any) -> pd.DataFrame:
    """ToW by row and seed; rows have the role that they are called after, others unlearn."""
    return result_frame(
        [
            row(name, seed, tow, **more)
            for name, tows in values.items()
            for seed, tow in enumerate(tows)
        ]
    )


def test_every_ranked_row_is_held_against_doing_nothing_and_the_best_against_the_others() -> None:
    frame = frame_of(
        {
            "pretrain": [0.5, 0.52, 0.51],
            "a": [0.6, 0.63, 0.61],
            "b": [0.9, 0.88, 0.91],
            "c": [0.7, 0.7, 0.72],
            "scrub": [0.99, 0.98, 0.99],
        }
    )
    tests = [t for t in comparisons(frame) if t.family != "below_chance"]
    assert [(t.family, t.method, t.other) for t in tests] == [
        ("nothing", "a", "pretrain"),
        ("nothing", "b", "pretrain"),
        ("nothing", "c", "pretrain"),
        ("best", "b", "a"),
        ("best", "b", "c"),
    ]
    gains = np.array([0.1, 0.11, 0.1])
    assert tests[0].difference == pytest.approx(gains.mean())
    assert (tests[0].low, tests[0].high) == pytest.approx(t_interval(gains))
    assert tests[0].p == pytest.approx(stats.ttest_1samp(gains, 0).pvalue)
    alone = [test.p for test in tests[:3]]
    assert tests[0].p_corrected == pytest.approx(
        max((3 - rank) * p for rank, p in enumerate(sorted(alone)) if p <= tests[0].p)
    )
    better = np.array([0.3, 0.25, 0.3])
    one_sided = stats.ttest_1samp(better, 0, alternative="greater").pvalue
    assert tests[3].p == pytest.approx(one_sided)
    assert tests[3].p_corrected == pytest.approx(2 * one_sided)
    assert best_of(tests, BLOCK) == ("b", True)


def test_only_seeds_that_have_both_rows_count() -> None:
    frame = frame_of({"pretrain": [0.5, 0.6, None], "ssd": [0.6, None, 0.9]})
    (test,) = (t for t in comparisons(frame) if t.family == "nothing")
    assert test.num == 1
    assert math.isnan(test.p_corrected)
    assert not test.is_shown
    assert support_statement([test]) == (
        "One seed says nothing about differences between rows: add seeds."
    )
    nowhere = comparisons(frame_of({"pretrain": [0.5, None], "ssd": [None, 0.5]}))
    (absent,) = (t for t in nowhere if t.family == "nothing")
    assert absent.num == 0
    assert support_statement([absent]) == ""


def test_the_best_row_is_best_where_all_rows_are() -> None:
    # Alone, "a" has the highest mean; over the cells that all have, "b".
    frame = frame_of({"a": [0.5, 0.5, 0.9], "b": [0.6, 0.6, None], "c": [0.4, 0.4, 0.4]})
    assert best_of(comparisons(frame), BLOCK) == ("b", False)
    nowhere = frame_of({"a": [0.5, None], "b": [None, 0.6]})
    assert best_of(comparisons(nowhere), BLOCK) == (None, False)


def test_what_a_row_is_called_says_nothing() -> None:
    rows = [row("gold", 0, 1.0, role="retrain", access="full")]
    rows += [row("again", 0, 0.97, role="retrain_again", access="full")]
    rows += [row("nothing", 0, 0.5, role="pretrain")]
    rows += [row(name, 0, 0.7, role="method") for name in ("retrain_free", "pretrain_less")]
    rows += [row("ssd@oracle", 0, 0.6, tuning="support_only"), row("jit", 0, 0.9, tuning="oracle")]
    rows += [row("pgu", 0, 0.9, tuning="support_and_val"), row("scar", 0, 0.6, tuning="simulated")]
    frame = result_frame([*rows, row("scrub", 0, 0.9)])
    assert level_of(frame) is not None
    ranked = names(frame[is_ranked(frame)])
    assert ranked == ["retrain_free", "pretrain_less", "ssd@oracle", "scar"]
    tests = comparisons(frame)
    assert [t.method for t in tests if t.family == "nothing"] == ranked
    assert {t.other for t in tests if t.family == "nothing"} == {"nothing"}
    assert [t.method for t in tests if t.family == "retrained"] == ["nothing", *ranked]
    assert {t.other for t in tests if t.family in ("retrained", "attack")} == {"again"}


def test_nearness_is_to_every_retrained_model_but_itself() -> None:
    scores = {"retrain": 0.5, "retrain_again": 0.52, "again_2": 0.55, "ssd": 0.6}
    frame = result_frame(
        [
            row(
                m, 0, v, role="retrain_again" if "again" in m else m if m == "retrain" else "method"
            )
            for m, v in scores.items()
        ]
    )
    found = nearness(frame).set_index("method")

    def tow(one: str, other: str) -> float:
        return (1 - abs(scores[one] - scores[other])) ** 3

    yardsticks = ["retrain", "retrain_again", "again_2"]
    pairs = [("retrain", "retrain_again"), ("retrain", "again_2"), ("retrain_again", "again_2")]
    level = np.mean([tow(*pair) for pair in pairs])
    assert found["level"].to_numpy() == pytest.approx(np.full(4, level))
    assert found["nearness"]["ssd"] == pytest.approx(np.mean([tow("ssd", y) for y in yardsticks]))
    assert found["nearness"]["again_2"] == pytest.approx(
        np.mean([tow("again_2", "retrain"), tow("again_2", "retrain_again")])
    )
    assert nearness(frame[frame["role"] != "retrain_again"]).empty
    assert level_of(frame[frame["role"] != "retrain_again"]) is None


def test_the_level_is_the_mean_over_seeds_of_one_dataset_and_size() -> None:
    frame = frame_of({"retrain": [0.5, 0.5, None], "retrain_again": [0.5, 0.6, 0.5]})
    level = level_of(frame)
    assert level is not None
    assert (level.num_cells, level.tow, level.lowest) == pytest.approx(
        (2, (1 + 0.9**3) / 2, 0.9**3)
    )
    sizes = pd.concat([frame, frame.assign(num_forget=5)])
    assert set(Evidence.of(sizes).levels) == {("synthetic", 20), ("synthetic", 5)}


def test_distances_are_taken_in_every_cell() -> None:
    frame = frame_of({"retrain": [0.5, 0.5], "retrain_again": [0.52, 0.5], "a": [0.6, 0.4]})
    found = distances(frame, "forget_score").groupby(frame["method"]).mean()
    assert found["a"] == pytest.approx(np.mean([(0.1 + 0.08) / 2, 0.1]))
    assert found["retrain"] == pytest.approx(0.01)  # to retrain_again alone
    alone = frame[frame["method"] == "a"]
    assert distances(alone, "forget_score").isna().all()


def test_rows_as_near_as_retraining_are_shown_by_a_test_and_few_seeds_show_nothing() -> None:
    generator = np.random.default_rng(0)

    def alike(seeds: int) -> dict[str, bool]:
        noise = generator.normal(scale=0.002, size=(4, seeds)) + 0.5
        frame = frame_of(
            {
                "retrain": [*noise[0]],
                "retrain_again": [*noise[1]],
                "near": [*noise[2]],
                "far": [*(noise[3] + 0.05)],
                "pretrain": [*(noise[3] + 0.1)],
            }
        )
        tests = [t for t in comparisons(frame) if t.family == "retrained"]
        return {t.method: t.is_shown for t in tests}

    assert alike(5) == {"near": True, "far": False, "pretrain": False}
    assert alike(1) == {"near": False, "far": False, "pretrain": False}


def test_attacks_are_held_against_retraining_again_and_not_against_chance() -> None:
    attacks = {"retrain_again": [0.45, 0.47, 0.46], "a": [0.46, 0.465, 0.46], "pretrain": [0.9] * 3}
    frame = result_frame(
        [
            row(m, s, 0.5, mia_auc=v, rmia_auc=1 - v)
            for m, values in attacks.items()
            for s, v in enumerate(values)
        ]
    )
    tests = {(t.measure, t.method): t for t in comparisons(frame) if t.family == "attack"}
    assert set(tests) == {(m, name) for m in ("mia_auc", "rmia_auc") for name in ("a", "pretrain")}
    assert tests["mia_auc", "a"].difference == pytest.approx(np.mean([0.01, -0.005, 0.0]))
    assert tests["rmia_auc", "pretrain"].difference == pytest.approx(-0.44, abs=0.001)
    assert tests["mia_auc", "pretrain"].is_shown
    assert not tests["mia_auc", "a"].is_shown


def below_chance(attacks: dict[str, list[float]]) -> dict[str, bool]:
    rows = [row(m, s, 0.5, mia_auc=v) for m, own in attacks.items() for s, v in enumerate(own)]
    tests = [t for t in comparisons(result_frame(rows)) if t.family == "below_chance"]
    assert {t.measure for t in tests} == {"mia_auc"}
    assert {t.other for t in tests} == {"chance"}
    return {t.method: t.is_shown for t in tests}


def test_a_row_forgets_too_much_below_chance_and_below_retrained_models() -> None:
    rows = {"a": [0.3, 0.31, 0.29], "b": [0.47, 0.43, 0.52], "scrub": [0.2, 0.21, 0.22]}
    assert below_chance(rows) == {"a": True, "b": False, "scrub": True}
    high = {**rows, "retrain": [0.6, 0.61, 0.62]}
    assert below_chance(high) == {"a": True, "b": False, "scrub": True}
    # Retrained models are found with .3 as well: a row with .3 forgets as they do.
    low = {**rows, "retrain": [0.31, 0.3, 0.3], "retrain_again": [0.28, 0.31, 0.3]}
    assert below_chance(low) == {"a": False, "b": False, "scrub": True}
    assert below_chance({"a": [0.3]}) == {"a": False}


def test_every_row_is_held_against_a_row_of_choice() -> None:
    values: dict[str, list[float | None]]
    values = {"pretrain": [0.5, 0.52, 0.51], "a": [0.9, 0.93, 0.91], "b": [0.7, 0.7, 0.72]}
    values |= {"retrain": [1.0, 1.0, 1.0], "scrub": [0.91, 0.9, 0.93]}
    frame = frame_of(values)
    tests = [t for t in comparisons(frame, reference="a") if t.family == "reference"]
    assert [(t.method, t.other) for t in tests] == [(m, "a") for m in ("pretrain", "b", "scrub")]
    gains = np.array([-0.2, -0.23, -0.19])
    assert tests[1].difference == pytest.approx(gains.mean())
    assert (tests[1].low, tests[1].high) == pytest.approx(t_interval(gains))
    p = [2 * stats.t.sf(abs(t.difference) / t.error, 2) for t in tests]
    assert tests[1].p_corrected == pytest.approx(2 * p[1])
    assert [t.is_shown for t in tests] == [True, True, False]
    assert not [t for t in comparisons(frame, reference="absent") if t.family == "reference"]


def test_people_are_resampled_within_seeds() -> None:
    values: dict[str, list[float | None]]
    values = {"pretrain": [0.5, 0.5], "a": [0.6, 0.6], "b": [0.7, 0.8]}
    frame = frame_of(values, forget_people=11)
    draws = np.linspace(-0.02, 0.02, 41)
    people = pd.DataFrame(
        [
            {
                "dataset": "synthetic",
                "num_forget": 20,
                "seed": seed,
                "method": method,
                "resample": number,
                "tow": 0.5 + (0.09 + draw if method == "a" else 0.0),
                "mia_auc": None,
                "rmia_auc": None,
            }
            for seed in (0, 1)
            for method in ("pretrain", "a")
            for number, draw in enumerate(draws)
        ]
    )
    first, second, *_ = comparisons(frame, people)
    # Twice eleven people, less one for each seed; about the difference, not the draws' mean.
    half = float(stats.t.ppf(0.975, 20) * draws.std(ddof=1))
    assert (first.people_low, first.people_high) == pytest.approx((0.1 - half, 0.1 + half))
    assert math.isnan(second.people_low)  # nobody resampled it
    # With resamples of one seed alone, the other's people would count as if they did not vary.
    first, *_ = comparisons(frame, people[people["seed"] == 0])
    assert math.isnan(first.people_low)


def test_datasets_are_no_exchangeable_cells() -> None:
    gains = {"x": 0.1, "y": -0.02, "z": 0.04}
    rows = []
    for dataset, gain in gains.items():
        for size, more in ((5, 0.01), (20, -0.01)):
            for seed in range(3):
                spread = seed / 1000
                rows.append(row("pretrain", seed, 0.5, dataset=dataset, num_forget=size))
                own = 0.5 + gain + more + spread
                rows.append(row("a", seed, own, dataset=dataset, num_forget=size))
    tests = comparisons(result_frame(rows))
    assert all(t.is_shown for t in tests if t.family == "nothing")
    (over,) = [t for t in tests if t.family == "datasets"]
    means = [gain + 0.001 for gain in gains.values()]
    assert (over.num, over.difference) == pytest.approx((3, np.mean(means)))
    assert over.p == pytest.approx(stats.ttest_1samp(means, 0).pvalue)
    assert not over.is_shown
    one = result_frame([r for r in rows if r["dataset"] == "x"])
    assert not [t for t in comparisons(one) if t.family == "datasets"]


def test_what_the_seeds_can_support_is_said() -> None:
    generator = np.random.default_rng(0)
    noise = generator.normal(scale=0.01, size=(3, 4))
    values = {"pretrain": [*(0.5 + noise[0])], "a": [*(0.6 + noise[1])], "b": [*(0.7 + noise[2])]}
    said = support_statement(comparisons(frame_of({k: list(v) for k, v in values.items()})))
    assert "(4 seeds at least)" in said
    assert "corrected for the 2 rows" in said
    errors = [np.std(noise[i] - noise[0], ddof=1) / 2 for i in (1, 2)]
    assert stats.nct.sf(stats.t.ppf(1 - 0.0125, 3), 3, NONCENTRALITY) == pytest.approx(
        0.8, abs=1e-3
    )
    needed = NONCENTRALITY / math.sqrt(stats.chi2.median(3) / 3) * np.median(errors)
    assert f"of {100 * needed:.1f} points of ToW is found in 4 of 5 such sweeps" in said


def test_gains_after_longer_training_are_paired_by_seed() -> None:
    short = frame_of(
        {"pretrain": [0.5, 0.6, 0.7], "a": [0.6, 0.71, 0.8], "b": [0.5, 0.6, 0.7], "c": [0.5, 1, 1]}
    )
    longer = frame_of(
        {
            "pretrain": [0.4, 0.4, 0.4],
            "a": [0.44, 0.46, 0.45],
            "b": [0.45, 0.4, 0.42],
            "d": [1, 1, 1],
        }
    )
    tests = after_longer_training(BLOCK, short, longer, "longer")
    assert [(t.family, t.block, t.method, t.other) for t in tests] == [
        ("training", BLOCK, "a", "longer"),
        ("training", BLOCK, "b", "longer"),
    ]
    less = np.array([0.06, 0.05, 0.05])
    assert tests[0].difference == pytest.approx(less.mean())
    assert (tests[0].low, tests[0].high) == pytest.approx(t_interval(less))
    assert tests[0].p_corrected == pytest.approx(2 * stats.ttest_1samp(less, 0).pvalue)
    nothing = longer[longer["method"] != "pretrain"]
    assert after_longer_training(BLOCK, short, nothing, "longer") == []


def test_datasets_of_the_same_pictures_are_one_dataset() -> None:
    gains = {"x": 0.1, "y": 0.3, "z": 0.5}
    frame = result_frame(
        [
            row(method, seed, 0.4 + gain, dataset=name)
            for name, own in gains.items()
            for method, gain in (("pretrain", 0.0), ("a", own))
            for seed in range(3)
        ]
    )

    def over(pictures: dict[str, str]) -> list[tuple[int, float]]:
        found = comparisons(frame, pictures=pictures)
        return [(t.num, round(t.difference, 6)) for t in found if t.family == "datasets"]

    assert over({}) == [(3, 0.3)]
    assert over({"x": "faces", "y": "faces", "z": "others"}) == [(2, 0.35)]
    assert over(dict.fromkeys("xyz", "faces")) == []
