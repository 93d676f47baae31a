"""The demo as a newcomer runs it: does its table make sense?"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from support.commands import launch

from sweeps.composition import shipped
from sweeps.report.studies.results import JOURNAL

pytestmark = [pytest.mark.long, pytest.mark.ray, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    done = launch(f"output_dir={folder}", timeout=1700)
    assert done.status == 0, done.out + done.err
    return folder


Means = dict[str, dict[str, float]]


@pytest.fixture(scope="module")
def frame(demo: Path) -> pd.DataFrame:
    return pd.read_parquet(demo / "report" / "results.parquet")


@pytest.fixture(scope="module")
def mean(frame: pd.DataFrame) -> Means:
    """Means over seeds: measures by method."""
    measures = ["retain_score", "forget_score", "test_score", "tow", "mia_auc", "rmia_auc"]
    return {
        str(method): {name: float(rows[name].mean()) for name in measures}
        for method, rows in frame.groupby("method")
    }


def test_the_pretrained_model_remembers_people(mean: Means) -> None:
    assert mean["pretrain"]["forget_score"] - mean["retrain"]["forget_score"] >= 0.05


def test_the_attack_finds_the_pretrained_model_out_and_not_the_retrained(mean: Means) -> None:
    assert mean["pretrain"]["mia_auc"] >= 0.65
    assert 0.45 <= mean["retrain"]["mia_auc"] <= 0.60


def test_the_relative_attack_does_so_as_well(mean: Means) -> None:
    assert mean["pretrain"]["rmia_auc"] > 0.8
    assert 0.40 <= mean["retrain_again"]["rmia_auc"] <= 0.60


def test_retraining_is_the_yardstick_and_repeats_itself(frame: pd.DataFrame) -> None:
    assert (frame.loc[frame["method"] == "retrain", "tow"] == 1.0).all()
    assert (frame.loc[frame["method"] == "retrain_again", "tow"] >= 0.95).all()


def test_a_one_shot_method_helps(frame: pd.DataFrame, mean: Means) -> None:
    one_shot = set(frame.loc[frame["access"] != "full", "method"])
    best = max(mean[method]["tow"] for method in one_shot)
    assert best >= mean["pretrain"]["tow"] + 0.03


def test_full_access_helps_more(frame: pd.DataFrame, mean: Means) -> None:
    references = set(frame.loc[frame["access"] == "full", "method"])
    better = {m for m in references if mean[m]["tow"] >= mean["pretrain"]["tow"] + 0.05}
    assert len(better - {"retrain", "retrain_again"}) >= 2


def test_every_method_is_in_the_table(frame: pd.DataFrame) -> None:
    assert set(shipped("demo")["sweep"]["methods"]) == set(frame["method"])
    assert frame["tow"].notna().all()


TUNED = {"gradient_ascent", "gradient_ascent_classifier", "ssd", "jit"}


def test_tuned_rows_say_so_and_no_others(frame: pd.DataFrame, demo: Path) -> None:
    assert set(frame.loc[frame["tuning"] == "support_only", "method"]) == TUNED
    assert frame.loc[~frame["method"].isin(TUNED), "tuning"].isna().all()
    studies = pd.read_csv(demo / "report" / "studies.csv")
    assert set(studies["row"]) == TUNED
    assert (demo / JOURNAL).is_file()
    assert (demo / "report" / "figures" / "tuning-synthetic-n20.png").is_file()


def test_what_was_picked_is_close_to_the_best_that_was_tried(demo: Path) -> None:
    studies = pd.read_csv(demo / "report" / "studies.csv")
    assert studies[["picked_tow", "defaults_tow", "best_tow"]].notna().all(axis=None)
    assert (studies["best_tow"] - studies["picked_tow"]).mean() <= 0.03
    # Defaults that are worth half a point are not shown to be, and given up: docs/decisions/0019.
    assert (studies["picked_tow"] - studies["defaults_tow"]).mean() >= -0.01


def test_metaunlearn_helps(mean: Means) -> None:
    assert mean["metaunlearn"]["tow"] >= mean["pretrain"]["tow"] + 0.02


def test_a_method_that_is_pushed_too_far_does_harm(mean: Means) -> None:
    for measure in ("tow", "retain_score"):
        assert mean["gradient_ascent_too_far"][measure] < mean["pretrain"][measure]


def test_what_three_seeds_show_is_claimed_and_no_more(demo: Path) -> None:
    text = (demo / "report" / "index.html").read_text(encoding="utf-8")
    assert "gradient_ascent_classifier leads: +9." in text
    assert "beyond the noise (p 0.0" in text
    summary = pd.read_parquet(demo / "report" / "summary.parquet").set_index("method")
    shown = summary["against_nothing"].dropna()
    assert shown[shown != 0].to_dict() == {"gradient_ascent_classifier": 1}
    assert not summary["equivalent"].fillna(False).any()
