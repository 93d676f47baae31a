"""One number per row over datasets and forget sizes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from support.result_frames import frame_of, row

from sweeps.inference.aggregate import COLUMNS, aggregate


def table(values: dict[tuple[str, int, str], list[float | None]]) -> pd.DataFrame:
    return frame_of(
        [
            row(method, seed, tow, dataset=dataset, num_forget=size)
            for (dataset, size, method), tows in values.items()
            for seed, tow in enumerate(tows)
        ]
    )


def test_datasets_and_sizes_weigh_alike_and_rows_must_have_all() -> None:
    frame = table(
        {
            ("x", 5, "a"): [0.5, 0.6, 0.7],
            ("x", 20, "a"): [0.6, 0.6, 0.6],
            ("y", 5, "a"): [0.9, 0.8, 0.7],
            ("x", 5, "scrub"): [0.9] * 3,
            ("x", 20, "scrub"): [0.9] * 3,
            ("y", 5, "scrub"): [0.9] * 3,
            ("x", 5, "b"): [0.9] * 3,
        }
    )
    found = aggregate(frame)
    assert list(found.columns) == list(COLUMNS)
    assert found["method"].tolist() == ["scrub", "a"]
    a = found.set_index("method").loc["a"]
    assert (a["num_datasets"], a["num_blocks"], a["num"]) == (2, 3, 9)
    assert a["mean"] == pytest.approx((0.6 + 0.6 + 0.8) / 3)
    assert a["iqm"] == pytest.approx(np.mean([0.6, 0.6, 0.6, 0.7, 0.7]))
    assert a["low"] < a["mean"] < a["high"]
    assert found["is_ranked"].tolist() == [False, True]


def test_seeds_that_are_missing_here_and_there_leave_an_interval_of_the_mean() -> None:
    values: dict[tuple[str, int, str], list[float | None]] = {
        (name, 5, "a"): [0.5, 0.7, last]
        for name, last in (("w", 0.6), ("x", 0.6), ("y", 0.6), ("z", None))
    }
    (found,) = aggregate(table(values)).to_dict("records")
    assert found["mean"] == pytest.approx(0.6)
    assert found["low"] < 0.6 < found["high"]
    assert np.isnan(found["iqm_low"])
    values["z", 5, "a"] = [0.5, 0.7, 0.6]
    (whole,) = aggregate(table(values)).to_dict("records")
    assert whole["iqm_low"] < whole["iqm"] < whole["iqm_high"]
    values["z", 5, "a"] = [0.5]
    (lonely,) = aggregate(table(values)).to_dict("records")
    assert np.isnan(lonely["low"])


def test_a_single_dataset_and_size_has_nothing_to_be_put_together() -> None:
    assert aggregate(table({("x", 5, "a"): [0.5, 0.7]})).empty
    assert aggregate(table({("x", 5, "a"): [None], ("y", 5, "a"): [None]})).empty


def test_the_retrained_model_is_not_put_together_because_it_is_held_against_itself() -> None:
    values: dict[tuple[str, int, str], list[float | None]]
    values = {(name, 5, row): [0.9, 1.0] for name in "xy" for row in ("retrain", "a")}
    assert aggregate(table(values))["method"].tolist() == ["a"]
