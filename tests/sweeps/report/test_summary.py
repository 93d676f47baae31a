"""The frame behind the tables: means, spreads, intervals and ranks, against hand-made cases."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from support.result_frames import frame_of, row

from sweeps.report.measures import RANKED, SUMMARISED
from sweeps.report.statistics import bootstrap_interval
from sweeps.report.summary import PARTS, summarise


def ranks(rows: dict[str, list[float]], measure: str = "tow") -> dict[str, int]:
    """Ranks of methods whose seeds have these values of one measure."""
    frame = frame_of(
        [
            row(method, seed, 0.5) | {measure: value}
            for method, values in rows.items()
            for seed, value in enumerate(values)
        ]
    )
    found = summarise(frame).set_index("method")[f"{measure}_rank"].dropna()
    return {str(method): int(rank) for method, rank in found.items()}


def test_means_spreads_and_intervals_are_those_by_hand() -> None:
    values = [0.75, 0.85, 0.8]
    frame = frame_of([row("ssd", seed, value) for seed, value in enumerate(values)])
    (found,) = summarise(frame).to_dict("records")
    assert found["tow_mean"] == pytest.approx(0.8)
    assert found["tow_std"] == pytest.approx(statistics.stdev(values))
    assert (found["tow_low"], found["tow_high"]) == bootstrap_interval(values)
    assert found["tow_iqm"] == pytest.approx(0.8)
    assert (found["n"], found["seeds"]) == (3, 3)


def test_one_seed_has_a_mean_and_nothing_else() -> None:
    frame = frame_of([row("ssd", 0, 0.8), row("ssd", 1, None), row("jit", 0, None)])
    summary = summarise(frame).set_index("method")
    assert summary.loc["ssd", "tow_mean"] == 0.8
    assert summary.loc["ssd", ["tow_std", "tow_low", "tow_high"]].isna().all()
    assert (summary.loc["ssd", "n"], summary.loc["ssd", "seeds"]) == (1, 2)
    assert np.isnan(summary["tow_mean"]["jit"])


def test_the_columns_are_those_of_the_contract() -> None:
    summary = summarise(frame_of([row("ssd", 0, 0.8)]))
    keys = ["dataset", "num_forget", "method", "role", "access", "tuning", "data_seen", "task"]
    keys += ["n", "seeds", "mixed"]
    measures = [f"{m}_{part}" for m in SUMMARISED for part in ("mean", "std", "low", "high", "iqm")]
    assert set(PARTS) == {"mean", "std", "low", "high", "iqm"}
    assert list(summary.columns) == [
        *keys,
        "within_noise",
        "hyperparameters_from",
        *measures,
        *(f"{m}_rank" for m in RANKED),
    ]


def test_rows_stand_by_what_they_saw() -> None:
    names = ["retrain", "ssd", "jit", "scrub", "pretrain", "gradient_ascent"]
    summary = summarise(frame_of([row(name, 0, 0.5) for name in names]))
    order = ["pretrain", "jit", "gradient_ascent", "ssd", "retrain", "scrub"]
    assert list(summary["method"]) == order
    assert list(summary["data_seen"]) == ["S"] * 3 + ["S + own preparation"] + ["D_f, D_r"] * 2


def test_the_best_two_with_a_clear_lead_are_ranked() -> None:
    assert ranks({"a": [0.9, 0.91], "b": [0.8, 0.81], "c": [0.7, 0.71]}) == {"a": 1, "b": 2}


def test_a_lead_within_one_standard_error_is_a_tie() -> None:
    # Standard errors: 0.02 / sqrt(2) * sqrt(2) / ... = 0.02 of a; the lead over b is 0.019.
    assert ranks({"a": [0.88, 0.92], "b": [0.881, 0.881], "c": [0.5, 0.51]}) == {}
    assert ranks({"a": [0.88, 0.92], "b": [0.879, 0.879], "c": [0.5, 0.51]}) == {"a": 1, "b": 2}
    # Second and third tie: only the first is marked.
    assert ranks({"a": [0.9, 0.91], "b": [0.8, 0.84], "c": [0.81, 0.81]}) == {"a": 1}


def test_single_seeds_rank_nothing() -> None:
    assert ranks({"a": [0.9], "b": [0.8], "c": [0.1]}) == {}


def test_references_and_doing_nothing_do_not_compete() -> None:
    rows = {"pretrain": [0.99, 0.99], "scrub": [0.98, 0.98], "a": [0.5, 0.51], "b": [0.3, 0.31]}
    assert ranks(rows) == {"a": 1}


def test_the_best_forget_score_is_the_one_closest_to_retrain() -> None:
    rows = {"retrain": [0.6, 0.6], "a": [0.3, 0.3], "b": [0.65, 0.65], "c": [0.9, 0.9]}
    assert ranks(rows, "forget_score") == {"b": 1, "a": 2}
    assert ranks(rows, "retain_score") == {"c": 1, "b": 2}
    del rows["retrain"]
    assert ranks(rows, "forget_score") == {}


def test_the_best_relative_attack_is_the_one_at_chance_and_the_best_time_the_shortest() -> None:
    rows = {"a": [0.3, 0.3], "b": [0.55, 0.55], "c": [0.9, 0.9]}
    assert ranks(rows, "rmia_auc") == {"b": 1, "a": 2}
    assert ranks(rows, "unlearn_seconds") == {"a": 1, "b": 2}
    rows = {"a": [0.3, 0.3], "b": [0.45, 0.45], "c": [0.62, 0.62]}
    assert ranks(rows, "rmia_auc") == {"b": 1, "c": 2}


def test_rows_within_the_noise_of_retraining_are_known() -> None:
    rows = {
        "pretrain": [0.7, 0.7],
        "a": [0.97, 0.93],
        "b": [0.9, 0.9],
        "retrain": [1.0, 1.0],
        "retrain_again": [0.94, 0.99],
    }
    frame = frame_of(
        [row(m, seed, v) for m, values in rows.items() for seed, v in enumerate(values)]
    )
    found = summarise(frame).set_index("method")["within_noise"]
    assert found[["pretrain", "a", "b"]].tolist() == [False, True, False]
    assert found[["retrain", "retrain_again"]].isna().all()
    alone = summarise(frame[frame["method"] != "retrain_again"])["within_noise"]
    assert alone.isna().all()


def test_the_yardstick_is_found_by_its_role_and_not_by_its_name() -> None:
    levels = {"gold": 0.6, "retrain": 0.9, "pretrain": 0.88, "a": 0.62, "b": 0.3}
    roles = {"gold": "retrain", "retrain": "method", "pretrain": "method"}
    frame = frame_of(
        [
            row(m, s, v + s / 1000, role=roles.get(m, "method"), access="support")
            | ({"access": "full"} if m == "gold" else {})
            for m, v in levels.items()
            for s in (0, 1)
        ]
    )
    summary = summarise(frame).set_index("method")
    assert list(summary.index) == ["retrain", "pretrain", "a", "b", "gold"]
    assert summary["forget_score_rank"].dropna().to_dict() == {"a": 1, "pretrain": 2}
    assert summary["tow_rank"].dropna().to_dict() == {"retrain": 1, "pretrain": 2}
    assert summary["role"].to_dict() == {m: roles.get(m, "method") for m in levels}


def test_rows_tuned_with_more_than_s_are_never_ranked_whatever_they_are_called() -> None:
    tunings = {"a": "oracle", "b": "support_and_val", "c": "support_only", "d": None, "e": None}
    frame = frame_of(
        [
            row(m, s, 0.9 - place / 10 + s / 100, tuning=tuning)
            for place, (m, tuning) in enumerate(tunings.items())
            for s in (0, 1)
        ]
    )
    ranks_of = summarise(frame).set_index("method")["tow_rank"].dropna()
    assert ranks_of.to_dict() == {"c": 1, "d": 2}
