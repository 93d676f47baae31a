"""The demo as a newcomer runs it: does its table make sense?"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from commands import launch

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    done = launch(f"output_dir={folder}", timeout=1700)
    assert done.status == 0, done.out + done.err
    return folder


@pytest.fixture(scope="module")
def mean(demo: Path) -> pd.DataFrame:
    """Means over seeds, by method."""
    frame = pd.read_parquet(demo / "report" / "results.parquet")
    assert frame["seed"].nunique() >= 2
    return frame.groupby("method")[
        ["retain_score", "forget_score", "test_score", "tow", "mia_auc", "mia_threshold_auc"]
    ].mean()


def test_the_pretrained_model_remembers_people(mean: pd.DataFrame) -> None:
    gap = mean.loc["pretrain", "forget_score"] - mean.loc["retrain", "forget_score"]
    assert gap >= 0.05


def test_the_attack_finds_the_pretrained_model_out_and_not_the_retrained(
    mean: pd.DataFrame,
) -> None:
    assert mean.loc["pretrain", "mia_auc"] >= 0.65
    assert 0.45 <= mean.loc["retrain", "mia_auc"] <= 0.60


def test_retraining_is_the_yardstick_and_repeats_itself(demo: Path) -> None:
    frame = pd.read_parquet(demo / "report" / "results.parquet").set_index("method")
    assert (frame.loc["retrain", "tow"] == 1.0).all()
    assert (frame.loc["retrain_again", "tow"] >= 0.95).all()


def test_a_one_shot_method_helps(demo: Path) -> None:
    frame = pd.read_parquet(demo / "report" / "results.parquet")
    one_shot = frame[frame["access"] != "full"].groupby("method")["tow"].mean()
    assert one_shot.max() >= one_shot["pretrain"] + 0.03


def test_a_method_that_is_pushed_too_far_does_harm(mean: pd.DataFrame) -> None:
    assert mean.loc["gradient_ascent_too_far", "tow"] < mean.loc["pretrain", "tow"]
    assert (
        mean.loc["gradient_ascent_too_far", "retain_score"] < mean.loc["pretrain", "retain_score"]
    )
