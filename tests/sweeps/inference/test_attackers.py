"""Attacks beside retrained models, on tables whose answer is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.result_frames import frame_of, row

from sweeps.inference.attackers import ATTACKERS, DEVIATION, STRONGEST, deviations, strongest

RESAMPLES = 200


def attacked(method: str, seed: int, *aucs: float | None, **values: Any) -> dict[str, Any]:
    """A row with the AUCs of the three attacks."""
    found = dict(zip(ATTACKERS, aucs, strict=True))
    return row(method, seed, 0.8, forget_people=11, test_people=40, **{**found, **values})


def table() -> pd.DataFrame:
    rows = []
    for seed, shift in enumerate((0.0, 0.1)):
        rows += [
            attacked("pretrain", seed, 0.7 + shift, 0.72 + shift, 0.8),
            attacked("retrain", seed, 0.5 + shift, 0.5 + shift, None),
            attacked("retrain_again", seed, 0.52 + shift, 0.5 + shift, 0.5),
            attacked("ssd", seed, 0.4 + shift, 0.5 + shift, 0.5),
        ]
    return frame_of(rows)


def lines(frame: pd.DataFrame) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (str(line["method"]), str(line["attack"])): {str(k): v for k, v in line.items()}
        for line in frame.to_dict("records")
    }


def test_a_row_is_held_against_the_retrained_models_of_its_own_seed() -> None:
    found = deviations(table())
    assert list(found.columns) == list(DEVIATION)
    by = lines(found)
    assert by["pretrain", "mia_auc"]["auc"] == pytest.approx(0.75)
    # The seeds' own level is not in it: .7 - .51 in both, though they lie ten points apart.
    assert by["pretrain", "mia_auc"]["deviation"] == pytest.approx(0.19)
    assert by["pretrain", "mia_auc"]["retrained"] == pytest.approx(0.56)
    assert by["ssd", "mia_auc"]["deviation"] == pytest.approx(-0.11)
    # Itself left out: retrain against retrain_again alone.
    assert by["retrain", "mia_auc"]["deviation"] == pytest.approx(-0.02)
    assert by["retrain_again", "mia_auc"]["deviation"] == pytest.approx(0.02)
    # Only retrain_again was attacked so, and has nobody to be held against.
    assert by["pretrain", "rmia_auc"]["deviation"] == pytest.approx(0.3)
    assert math.isnan(by["retrain_again", "rmia_auc"]["deviation"])
    assert ("retrain", "rmia_auc") not in by
    assert all(math.isnan(line["deviation_low"]) for line in by.values())


def resamples(noise: float, shared: float) -> pd.DataFrame:
    """Resamples with noise of each row's own, and noise that all rows of a seed share."""
    generator = np.random.default_rng(0)
    parts = []
    for seed in (0, 1):
        together = generator.normal(scale=shared, size=RESAMPLES)
        for method in ("pretrain", "retrain", "retrain_again", "ssd"):
            own = generator.normal(scale=noise, size=RESAMPLES)
            parts.append(
                pd.DataFrame(
                    {
                        "dataset": "synthetic",
                        "num_forget": 20,
                        "seed": seed,
                        "method": method,
                        "resample": range(RESAMPLES),
                        **dict.fromkeys(ATTACKERS, 0.5 + together + own),
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def test_the_interval_of_a_deviation_draws_a_row_s_people_with_the_retrained_model_s() -> None:
    # What moves all rows of a seed alike moves no difference between them.
    wide = lines(deviations(table(), resamples(noise=0.01, shared=0.2)))["pretrain", "mia_auc"]
    alone = lines(deviations(table(), resamples(noise=0.01, shared=0.0)))["pretrain", "mia_auc"]
    for line in (wide, alone):
        half = (line["deviation_high"] - line["deviation_low"]) / 2
        # sd of own minus the mean of two is .01 sqrt(1.5), of the mean over two seeds .01
        # sqrt(.75); t(20, .975) is 2.086.
        assert half == pytest.approx(2.086 * 0.01 * math.sqrt(0.75), rel=0.2)
        middle = (line["deviation_high"] + line["deviation_low"]) / 2
        assert middle == pytest.approx(line["deviation"], abs=1e-12)
    one_seed = resamples(noise=0.01, shared=0.0)
    one_seed = one_seed[one_seed["seed"] == 0]
    assert math.isnan(lines(deviations(table(), one_seed))["ssd", "mia_auc"]["deviation_low"])


def test_the_strongest_attack_is_chosen_on_the_other_seeds() -> None:
    rows = []
    for seed in range(3):
        rows += [
            attacked("retrain", seed, 0.5, 0.5, None),
            attacked("retrain_again", seed, 0.5, 0.5, 0.5),
            # Each seed has another attack that stands out by chance: elsewhere it finds nothing.
            attacked("noise", seed, *(0.8 if seed == place else 0.5 for place in range(3))),
            # One attack tells downwards in all seeds; another by more, but in one seed alone.
            attacked("below", seed, 0.4, 0.7 if seed == 0 else 0.5, 0.5),
        ]
    found = strongest(frame_of(rows))
    assert list(found.columns) == list(STRONGEST)
    by = {str(line["method"]): line for line in found.to_dict("records")}
    # The largest on the same seed would be +.3 in all three.
    assert by["noise"]["advantage"] == pytest.approx(0.0)
    assert by["below"]["seeds"] == 3
    # In seeds 1 and 2 the loss attack and the threshold are level at -.1 and +.1 elsewhere: the
    # first is taken. On seed 0 nothing but the loss attack deviates elsewhere.
    assert by["below"]["attack"] == "mia_auc"
    assert by["below"]["advantage"] == pytest.approx(0.1)
    assert by["below"]["auc"] == pytest.approx(0.4)
    assert by["below"]["low"] <= by["below"]["advantage"] <= by["below"]["high"]


def test_the_direction_is_chosen_elsewhere_too() -> None:
    rows = []
    for seed, auc in enumerate((0.6, 0.4)):
        rows += [
            attacked("retrain", seed, 0.5, 0.5, None),
            attacked("ssd", seed, auc, 0.5, None),
        ]
    line = strongest(frame_of(rows)).set_index("method").loc["ssd"]
    # Above on one seed, below on the other: what one says is wrong on the next.
    assert line["advantage"] == pytest.approx(-0.1)


def test_with_one_seed_nothing_is_chosen() -> None:
    rows = [attacked("retrain", 0, 0.5, 0.5, None), attacked("ssd", 0, 0.7, 0.5, None)]
    assert strongest(frame_of(rows)).empty
    assert len(deviations(frame_of(rows))) == 4
