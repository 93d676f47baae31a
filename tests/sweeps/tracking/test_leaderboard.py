"""The leaderboard in a real database: one run per row of the tables, and views that are read."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from support.result_frames import frame_of, row

from sweeps.inference.evidence import Evidence
from sweeps.report.measures import CATALOGUE
from sweeps.report.summary import summarise
from sweeps.tracking import leaderboard, views
from sweeps.tracking.client import connect, tracking_uri
from sweeps.tracking.runs import experiment_named

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def summary_of(tow: float = 0.8, *more: dict[str, Any]) -> pd.DataFrame:
    rows = [row("ssd", seed, tow + seed / 10) for seed in (0, 1)]
    return summarise(frame_of([*rows, row("jit", 0, 0.123456), row("pgu", 0, None), *more]))


class Board:
    def __init__(self, folder: Path, name: str) -> None:
        self.uri = tracking_uri("", folder)
        self.client: MlflowClient = connect(self.uri)
        self.name, self.folder = name, folder

    @property
    def experiment(self) -> Experiment:
        name = leaderboard.name_of(self.name)
        return experiment_named(self.client, name, self.uri, self.folder)

    def publish(self, summary: pd.DataFrame) -> dict[str, Run]:
        leaderboard.publish(self.client, self.experiment, summary)
        runs = self.client.search_runs([self.experiment.experiment_id])
        assert len({run.info.run_name for run in runs}) == len(runs)
        return {run.info.run_name: run for run in runs}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("board")


def test_one_run_per_finished_row_with_numbers_for_people(folder: Path) -> None:
    runs = Board(folder, "numbers").publish(summary_of())
    assert set(runs) == {"ssd synthetic n20", "jit synthetic n20"}
    ssd, jit = runs["ssd synthetic n20"].data, runs["jit synthetic n20"].data
    assert ssd.params == {
        "method": "ssd",
        "dataset": "synthetic",
        "num_forget": "20",
        "role": "method",
        "standing": "ranked",
        "access": "prepared",
        "data_seen": "S + own preparation",
        "tuning": "no",
        "hyperparameters_from": "nothing",
    }
    assert ssd.metrics["ToW"] == 0.85
    assert ssd.metrics["ToW_std"] == 0.0707
    # Student's quantile at one degree of freedom is 12.7; a ToW is at most 1.
    assert (ssd.metrics["ToW_low"], ssd.metrics["ToW_high"]) == (0.2147, 1.0)
    assert ssd.metrics["num_seeds"] == 2
    assert ssd.params.items() <= ssd.tags.items()
    assert ssd.tags["seeds"] == "2/2"
    assert ssd.tags["as_retrained"] == "unknown"
    assert jit.metrics["ToW"] == 0.1235
    assert "ToW_std" not in jit.metrics
    assert {run.info.status for run in runs.values()} == {"FINISHED"}


def test_publishing_again_changes_nothing_and_new_numbers_stay_in_the_same_run(
    folder: Path,
) -> None:
    board = Board(folder, "again")
    first = board.publish(summary_of())
    again = board.publish(summary_of())
    assert {n: r.to_dictionary() for n, r in again.items()} == {
        n: r.to_dictionary() for n, r in first.items()
    }
    better = board.publish(summary_of(0.9))
    assert better["ssd synthetic n20"].data.metrics["ToW"] == 0.95
    assert better["ssd synthetic n20"].info.run_id == first["ssd synthetic n20"].info.run_id


def test_rows_of_another_grid_are_kept_and_marked(folder: Path) -> None:
    board = Board(folder, "grids")
    board.publish(summary_of())
    part = summary_of()
    runs = board.publish(part[part["method"] == "ssd"])
    assert {name: run.data.tags["grid"] for name, run in runs.items()} == {
        "ssd synthetic n20": "latest",
        "jit synthetic n20": "earlier",
    }


def test_views_are_saved_once_and_say_what_the_page_shall_show(folder: Path) -> None:
    board = Board(folder, "views")
    board.publish(summary_of())
    for view in leaderboard.VIEWS:
        document = json.loads(board.experiment.tags[f"mlflow.sharedViewState.{view.key}"])
        assert isinstance(document["createdAt"], int)
        kind, packed = document["state"].split(";")
        assert kind == "deflate"
        state = json.loads(zlib.decompress(base64.b64decode(packed)))
        assert state["orderByKey"] == "metrics.`ToW`"
        assert "metrics.`forget`" in state["selectedColumns"]
    assert state["searchFilter"] == "tags.grid = 'latest' AND tags.standing = 'ranked'"
    shown = [c["metricKey"] for c in state["compareRunCharts"] if c["metricSectionId"][-1] == "0"]
    assert shown == ["ToW"]
    before = board.experiment.tags
    board.publish(summary_of())
    assert board.experiment.tags == before


def test_every_metric_of_a_view_is_one_that_is_published() -> None:
    rows = [row(name, s, 0.5 + s / 10) for name in ("ssd", "scrub") for s in (0, 1)]
    frame = frame_of([one | dict.fromkeys(CATALOGUE, 0.5) for one in rows])
    published = {name for run in leaderboard.wanted_runs(summarise(frame)) for name in run.metrics}
    published.add("ToW_normalised")
    for view in leaderboard.VIEWS:
        metrics = [c for c in view.state["selectedColumns"] if c.startswith("metrics.")]
        assert metrics
        assert {metric.removeprefix("metrics.").strip("`") for metric in metrics} <= published


def test_references_stand_apart_and_a_definition_is_no_result() -> None:
    names = ["pretrain", "retrain", "retrain_again", "scrub", "ssd"]
    rows = [row(name, seed, 0.5 + seed / 10) for name in names for seed in (0, 1)]
    runs = {run.tags["method"]: run for run in leaderboard.wanted_runs(summarise(frame_of(rows)))}
    assert {name for name, run in runs.items() if "ToW" in run.metrics} == {"ssd"}
    references = {name: run.metrics.get("reference/ToW") for name, run in runs.items()}
    assert references == {
        "pretrain": 0.55,
        "retrain": None,
        "retrain_again": 0.55,
        "scrub": 0.55,
        "ssd": None,
    }
    assert {name: run.params["standing"] for name, run in runs.items()} == {
        **dict.fromkeys(names, "reference"),
        "ssd": "ranked",
    }
    assert sorted(runs["ssd"].metrics)[0] == "ToW", "MLflow's first column"


def test_every_number_says_of_how_many_seeds_it_is() -> None:
    rows = [row("ssd", s, 0.5, rmia_auc=0.6 if s else None) for s in range(3)]
    frame = frame_of(rows)
    (run,) = leaderboard.wanted_runs(summarise(frame), frame)
    assert (run.metrics["num_seeds"], run.metrics["ToW_n"], run.metrics["rmia_auc_n"]) == (3, 3, 2)
    assert run.metrics["ToW_std"] == 0
    boards = [CATALOGUE[key].board for key in leaderboard.SHOWN]
    means = [name for name in boards if name in run.metrics]
    assert all(f"{name}_n" in run.metrics for name in means)


def test_a_link_opens_the_mode_that_shows_runs() -> None:
    assert views.link("3") == "/#/experiments/3/runs?workflowType=machine_learning"
    assert views.link("3", leaderboard.CHART).endswith(
        "&viewStateShareKey=oneshui-chart&compareRunsMode=CHART"
    )
    assert views.run_link("3", "abc") == "/#/experiments/3/runs/abc?workflowType=machine_learning"


def test_a_run_says_whether_its_row_is_shown_to_be_as_good_as_retrained() -> None:
    levels = {"retrain": 0.9, "retrain_again": 0.901, "near": 0.902, "far": 0.5}
    wobble = (0.0, 0.002, 0.001)
    rows = [
        row(m, s, v + wobble[(s + place) % 3])
        for place, (m, v) in enumerate(levels.items())
        for s in range(3)
    ]
    runs = {run.tags["method"]: run for run in leaderboard.wanted_runs(summarise(frame_of(rows)))}
    assert {name: run.tags["as_retrained"] for name, run in runs.items()} == {
        "near": "shown",
        "far": "not shown",
        "retrain": "unknown",
        "retrain_again": "unknown",
    }
    assert runs["far"].params["tuning"] == "no"
    assert runs["far"].tags["seeds"] == "3/3"


def test_rows_over_all_datasets_have_runs_of_their_own(folder: Path) -> None:
    rows = [
        row(m, s, tow + s / 100, dataset=d)
        for d, tow in (("x", 0.5), ("y", 0.7))
        for m in ("ssd", "pretrain")
        for s in range(3)
    ]
    frame = frame_of(rows)
    board = Board(folder, "overall")
    overall = Evidence.of(frame).overall
    leaderboard.publish(board.client, board.experiment, summarise(frame), overall)
    runs = {
        run.info.run_name: run for run in board.client.search_runs([board.experiment.experiment_id])
    }
    places = ("x n20", "y n20", "all datasets")
    assert set(runs) == {f"{name} {place}" for name in ("ssd", "pretrain") for place in places}
    reference = runs["pretrain all datasets"].data
    assert (reference.metrics["reference/ToW"], reference.params["standing"]) == (0.61, "reference")
    found = runs["ssd all datasets"].data
    assert found.metrics["ToW"] == 0.61
    assert found.metrics["ToW_low"] < 0.61 < found.metrics["ToW_high"]
    assert found.params["dataset"] == "all datasets"
    assert found.metrics["num_datasets"] == 2
