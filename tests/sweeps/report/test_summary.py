"""The frame behind the tables: means, spreads, intervals and ranks, against hand-made cases."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from support.result_frames import frame_of, row

from sweeps.inference.evidence import Evidence
from sweeps.inference.intervals import t_interval
from sweeps.report.measures import RANKED, SUMMARISED
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
    assert (found["tow_low"], found["tow_high"]) == pytest.approx(t_interval(values))
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
    keys += ["requests", "n", "seeds", "mixed"]
    measures = [f"{m}_{part}" for m in SUMMARISED for part in ("mean", "std", "low", "high", "iqm")]
    assert set(PARTS) == {"mean", "std", "low", "high", "iqm"}
    assert list(summary.columns) == [
        *keys,
        "hyperparameters_from",
        "against_nothing",
        "equivalent",
        "equivalent_p",
        "mia_auc_below",
        "rmia_auc_below",
        "compared_with",
        "difference",
        "difference_low",
        "difference_high",
        "difference_p",
        *measures,
        *(f"{m}_rank" for m in RANKED),
    ]


def test_rows_are_compared_with_doing_nothing_or_with_a_row_of_choice() -> None:
    values = {"pretrain": [0.5, 0.52], "ssd": [0.6, 0.7], "scrub": [0.9, 0.9], "retrain": [1, 1]}
    frame = frame_of([row(m, s, v) for m, own in values.items() for s, v in enumerate(own)])
    summary = summarise(frame).set_index("method")
    assert summary["compared_with"].dropna().to_dict() == {"ssd": "pretrain", "scrub": "pretrain"}
    assert summary["difference"]["ssd"] == pytest.approx(0.14)
    ends = summary.loc["ssd", ["difference_low", "difference_high"]].tolist()
    half = 12.706204736 * 0.04  # Student's at one degree of freedom, standard error .04
    assert ends == pytest.approx([0.14 - half, 0.14 + half])
    assert summary["difference_p"]["ssd"] == pytest.approx(0.1772, abs=1e-3)
    assert np.isnan(summary["difference_p"]["scrub"])
    chosen = summarise(frame, Evidence.of(frame, reference="ssd")).set_index("method")
    names = {"pretrain": "ssd", "scrub": "ssd"}
    assert chosen["compared_with"].dropna().to_dict() == names
    assert chosen["difference"]["pretrain"] == pytest.approx(-0.14)
    assert chosen["difference_p"].notna().sum() == 2


def test_an_attack_below_chance_is_noted_of_the_row() -> None:
    attacks = {"ssd": [0.3, 0.31, 0.29], "jit": [0.6, 0.61, 0.62]}
    rows = [row(m, s, 0.8, mia_auc=v) for m, own in attacks.items() for s, v in enumerate(own)]
    summary = summarise(frame_of([*rows, row("pretrain", 0, 0.5)])).set_index("method")
    assert bool(summary["mia_auc_below"]["ssd"])
    assert not summary["mia_auc_below"]["jit"]
    assert summary["mia_auc_below"].isna()["pretrain"]
    assert summary["rmia_auc_below"].isna().all()


def test_rows_stand_by_what_they_saw() -> None:
    names = ["retrain", "ssd", "jit", "scrub", "pretrain", "gradient_ascent"]
    summary = summarise(frame_of([row(name, 0, 0.5) for name in names]))
    order = ["pretrain", "jit", "gradient_ascent", "ssd", "retrain", "scrub"]
    assert list(summary["method"]) == order
    assert list(summary["data_seen"]) == ["S"] * 3 + ["S + own preparation"] + ["D_f, D_r"] * 2


def test_the_best_two_that_are_shown_to_be_are_ranked() -> None:
    clear = {"a": [0.9, 0.91, 0.9], "b": [0.8, 0.81, 0.81], "c": [0.71, 0.7, 0.7]}
    assert ranks(clear) == {"a": 1, "b": 2}


def test_a_lead_that_is_not_shown_marks_nothing() -> None:
    # Ahead in every seed, and yet by so little that chance does it.
    assert ranks({"a": [0.9, 0.95, 0.91], "b": [0.89, 0.85, 0.9], "c": [0.5, 0.51, 0.5]}) == {}
    # Second and third tie: only the first is marked.
    tied = {"a": [0.9, 0.91, 0.9], "b": [0.8, 0.82, 0.81], "c": [0.81, 0.8, 0.82]}
    assert ranks(tied) == {"a": 1}


def test_single_seeds_and_equal_seeds_rank_nothing() -> None:
    assert ranks({"a": [0.9], "b": [0.8], "c": [0.1]}) == {}
    assert ranks({"a": [0.9] * 3, "b": [0.8] * 3, "c": [0.1] * 3}) == {}


def test_references_and_doing_nothing_do_not_compete() -> None:
    rows = {
        "pretrain": [0.99, 0.98, 0.99],
        "scrub": [0.98, 0.98, 0.97],
        "a": [0.5, 0.51, 0.52],
        "b": [0.3, 0.31, 0.31],
    }
    # Of two rows the first is marked, and the second is alone then.
    assert ranks(rows) == {"a": 1}


def test_the_best_forget_score_is_the_one_closest_to_retrained_models_in_every_cell() -> None:
    rows = {
        "retrain": [0.6, 0.61, 0.6],
        "a": [0.31, 0.3, 0.31],
        "b": [0.65, 0.65, 0.64],
        "c": [0.9, 0.9, 0.91],
    }
    assert ranks(rows, "forget_score") == {"b": 1}  # a and c are equally far
    assert ranks(rows, "retain_score") == {"c": 1, "b": 2}
    assert ranks({k: v for k, v in rows.items() if k != "retrain"}, "forget_score") == {}
    # Ten points off either way is ten points off, though the mean is that of retraining.
    swinging = {"retrain": [0.6] * 4, "a": [0.5, 0.7, 0.5, 0.71], "b": [0.63, 0.64, 0.62, 0.64]}
    assert ranks(swinging, "forget_score") == {"b": 1}


def test_the_best_attack_is_nearest_to_retraining_again_and_the_best_time_the_shortest() -> None:
    rows = {
        "retrain_again": [0.4, 0.41, 0.4],
        "a": [0.42, 0.42, 0.41],
        "b": [0.55, 0.56, 0.54],
        "c": [0.9, 0.92, 0.9],
    }
    assert ranks(rows, "rmia_auc") == {"a": 1, "b": 2}
    assert ranks({k: v for k, v in rows.items() if k != "retrain_again"}, "rmia_auc") == {}
    assert ranks(rows, "unlearn_seconds") == {"a": 1, "b": 2}


def test_rows_as_near_to_retraining_as_retraining_are_known() -> None:
    rows = {
        "pretrain": [0.7, 0.72, 0.7, 0.71],
        "a": [0.981, 0.983, 0.98, 0.98],
        "b": [0.9, 0.91, 0.9, 0.9],
        "retrain": [0.98, 0.981, 0.982, 0.98],
        "retrain_again": [0.981, 0.982, 0.981, 0.98],
    }
    frame = frame_of(
        [row(m, seed, v) for m, values in rows.items() for seed, v in enumerate(values)]
    )
    found = summarise(frame).set_index("method")
    assert found.loc[["pretrain", "a", "b"], "equivalent"].tolist() == [False, True, False]
    assert (found["equivalent_p"] < 0.05)[["a", "b"]].tolist() == [True, False]
    assert found.loc[["retrain", "retrain_again"], "equivalent"].isna().all()
    strict = summarise(frame, Evidence.of(frame, margin=1e-4)).set_index("method")
    assert not strict.loc["a", "equivalent"]
    alone = summarise(frame[frame["method"] != "retrain_again"])
    assert alone["equivalent"].isna().all()
    assert alone["equivalent_p"].isna().all()


def test_rows_that_are_shown_to_differ_from_doing_nothing_are_known() -> None:
    rows = {
        "pretrain": [0.5, 0.52, 0.51],
        "a": [0.6, 0.621, 0.612],
        "b": [0.4, 0.421, 0.412],
        "c": [0.5, 0.55, 0.48],
        "scrub": [0.9, 0.92, 0.91],
    }
    frame = frame_of([row(m, s, v) for m, values in rows.items() for s, v in enumerate(values)])
    found = summarise(frame).set_index("method")["against_nothing"]
    assert found[["a", "b", "c"]].tolist() == [1, -1, 0]
    assert found[["pretrain", "scrub"]].isna().all()
    assert summarise(frame[frame["seed"] == 0])["against_nothing"].isna().all()


def test_the_normalised_tow_is_a_ratio_of_mean_gains() -> None:
    rows = {
        "pretrain": [0.7, 0.75, 0.72],
        "a": [0.8, 0.85, 0.84],
        "retrain": [1.0, 1.0, 1.0],
        "retrain_again": [0.95, 0.97, 0.96],
    }
    frame = frame_of(
        [row(m, seed, v) for m, values in rows.items() for seed, v in enumerate(values)]
    )
    found = summarise(frame).set_index("method")
    share = found["tow_normalised_mean"]
    assert share["a"] == pytest.approx(np.mean([0.1, 0.1, 0.12]) / np.mean([0.25, 0.22, 0.24]))
    assert found.loc["a", "tow_normalised_low"] < share["a"] < found.loc["a", "tow_normalised_high"]
    assert share.drop("a").isna().all()  # 0 and 100 by definition
    once = summarise(frame[frame["method"] != "retrain_again"]).set_index("method")
    assert once.loc["a", "tow_normalised_mean"] == pytest.approx(
        np.mean([0.1, 0.1, 0.12]) / np.mean([0.3, 0.25, 0.28])
    )
    # Where retraining gains next to nothing over doing nothing, a share of it means nothing.
    near = frame.assign(
        tow=frame["tow"].where(frame["method"] != "pretrain", [0.9, 0.99, 0.97] * 4)
    )
    assert summarise(near)["tow_normalised_mean"].isna().all()


def test_the_yardstick_is_found_by_its_role_and_not_by_its_name() -> None:
    levels = {"gold": 0.6, "retrain": 0.9, "pretrain": 0.84, "a": 0.62, "b": 0.3}
    roles = {"gold": "retrain", "retrain": "method", "pretrain": "method"}
    frame = frame_of(
        [
            row(m, s, v + s * (place + 1) / 10000, role=roles.get(m, "method"), access="support")
            | ({"access": "full"} if m == "gold" else {})
            for place, (m, v) in enumerate(levels.items())
            for s in (0, 1, 2)
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
            row(m, s, 0.9 - place / 10 + s * (place + 1) / 1000, tuning=tuning)
            for place, (m, tuning) in enumerate(tunings.items())
            for s in (0, 1, 2)
        ]
    )
    ranks_of = summarise(frame).set_index("method")["tow_rank"].dropna()
    assert ranks_of.to_dict() == {"c": 1, "d": 2}
