"""Real faces and real weights, from their packages to the table, with fewer seeds and methods."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from support.commands import launch, results
from support.people import needs_people

pytestmark = [needs_people, pytest.mark.long, pytest.mark.ray, pytest.mark.timeout(1800)]
SMALL = (
    "sweep=people",
    "sweep.seeds=[0]",
    "tuning.rows=[ssd]",
    "tuning.trials=2",
    "tuning.carried=1",
    "tuning.seeds=[1000]",
    "sweep.rows.metaunlearn.epochs=1",
    "sweep.rows.metaunlearn.num_requests=8",
)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    done = launch(*SMALL, f"output_dir={folder}", timeout=1700)
    assert done.status == 0, done.out + done.err
    assert "credit to AT&T Laboratories Cambridge" in done.out
    return folder


@pytest.fixture(scope="module")
def tow(people: Path) -> pd.DataFrame:
    return pd.read_parquet(people / "report" / "results.parquet").set_index("method")


def test_every_row_is_measured(tow: pd.DataFrame) -> None:
    assert tow[["retain_score", "forget_score", "test_score", "tow"]].notna().all(axis=None)
    assert len(tow) == 18
    assert tow.loc["ssd", "tuning"] == "support_only"


def test_the_model_knows_the_people_whom_it_saw(tow: pd.DataFrame) -> None:
    gap = tow.loc["pretrain", "forget_score"] - tow.loc["retrain", "forget_score"]
    assert gap >= 0.15
    assert tow.loc["pretrain", "rmia_auc"] > 0.8
    assert tow.loc["retrain", "retain_score"] > 0.9


def test_no_face_of_them_and_no_file_s_name_leaves_the_store(people: Path) -> None:
    assert not list(people.rglob("*support_sheet*"))
    written = [*(people / "report").rglob("*"), *(people / "mlartifacts").rglob("*")]
    texts = [path.read_bytes() for path in written if path.is_file()]
    assert len(texts) > 20
    assert not [text for text in texts if b".pgm" in text]
    page = (people / "report" / "index.html").read_text(encoding="utf-8")
    assert "The support pictures of orl show real people and were left out" in page
    assert "credit to AT&amp;T Laboratories Cambridge" in page


def test_a_second_run_has_the_same_numbers(
    people: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("again")
    done = launch(*SMALL, f"output_dir={folder}", timeout=1700)
    assert done.status == 0, done.out + done.err
    pd.testing.assert_frame_equal(results(folder), results(people))
