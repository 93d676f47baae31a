"""Real faces and real weights from their packages to the table, with less of everything."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from support.commands import launch, results
from support.people import needs_people

pytestmark = [needs_people, pytest.mark.long, pytest.mark.ray, pytest.mark.timeout(1800)]
SMALL = (
    "sweep=people",
    "profile=paper",
    "sweep.seeds=[0]",
)
BOTH = "sweep.methods=[pretrain,retrain]"
SOME = "sweep.methods=[pretrain,retrain,random_label,ssd,metaunlearn,finetune]"
SHORT = "sweep.rows.metaunlearn={parameters: classifier, epochs: 1, num_requests: 8}"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    done = launch(*SMALL, SOME, SHORT, f"output_dir={folder}", timeout=1700)
    assert done.status == 0, done.out + done.err
    assert "credit to AT&T Laboratories Cambridge" in done.out
    return folder


@pytest.fixture(scope="module")
def rows(people: Path) -> pd.DataFrame:
    return pd.read_parquet(people / "report" / "results.parquet").set_index("method")


def test_every_row_is_measured(rows: pd.DataFrame) -> None:
    assert rows[["retain_score", "forget_score", "test_score", "tow"]].notna().all(axis=None)
    assert len(rows) == 6


def test_the_model_knows_the_people_whom_it_saw(rows: pd.DataFrame) -> None:
    forget = rows["forget_score"].to_dict()
    assert forget["pretrain"] - forget["retrain"] >= 0.15
    # Of three seeds .83 on the mean, this one .79.
    assert rows["rmia_auc"].to_dict()["pretrain"] > 0.75
    # Not by heart: then one picture could undo nothing.
    assert 0.75 < rows["retain_score"].to_dict()["pretrain"] < 0.98


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
    done = launch(*SMALL, BOTH, f"output_dir={folder}", timeout=1700)
    assert done.status == 0, done.out + done.err
    first = results(people)
    again = first[first["method"].isin(["pretrain", "retrain"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(results(folder), again)
