"""Figures are drawn of what is finished, and show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sweeps import figures, tables
from sweeps.results import COLUMNS

ACCESS = {"retrain": "full", "retrain_again": "full"}
KINDS = ("forgetting_utility", "tow", "loss_mia")


def row(method: str, seed: int, value: float | None, num_forget: int = 20) -> dict[str, Any]:
    numbers = [c for c in COLUMNS if c.endswith(("_score", "_seconds")) or c in ("tow", "mia_auc")]
    return {
        **dict.fromkeys(COLUMNS),
        **dict.fromkeys(numbers, value),
        "dataset": "faces $x_1$/y",
        "num_forget": num_forget,
        "seed": seed,
        "method": method,
        "access": ACCESS.get(method, "support"),
    }


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    text = ("dataset", "method", "access", "job_key")
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype({c: "float64" for c in COLUMNS if c not in (*text, "num_forget", "seed")})


def drawn(rows: list[dict[str, Any]], folder: Path) -> list[Path]:
    frame = frame_of(rows)
    return figures.draw(frame, tables.summarise(frame), folder)


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    values = {"pretrain": 0.78, "ssd": 0.8, "jit": 0.7, "retrain": 1.0, "retrain_again": 0.97}
    found = [row(m, seed, v - seed / 100) for m, v in values.items() for seed in (0, 1)]
    return [*found, row("metaunlearn", 0, None), row("metaunlearn", 1, None)]


def test_every_figure_is_a_legible_png_and_a_pdf(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    paths = drawn(rows, tmp_path / "figures")
    stem = "faces__x_1__y-n20"
    assert [path.name for path in paths] == [
        f"{kind}-{stem}.{suffix}" for kind in KINDS for suffix in ("png", "pdf")
    ]
    for path in paths:
        if path.suffix == ".pdf":
            assert path.read_bytes().startswith(b"%PDF")
            continue
        with Image.open(path) as image:
            assert image.width > 1000
            assert round(image.info["dpi"][0]) == figures.DPI
            assert np.asarray(image.convert("L")).std() > 10


def test_equal_results_give_equal_files(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    first, second = drawn(rows, tmp_path / "a"), drawn(rows, tmp_path / "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_a_forget_size_without_results_is_left_out(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    paths = drawn([*rows, row("pretrain", 0, None, num_forget=5)], tmp_path)
    assert len(paths) == 6
    assert not any("n5" in path.name for path in paths)


def test_nothing_finished_draws_nothing(tmp_path: Path) -> None:
    assert drawn([row("pretrain", 0, None)], tmp_path / "figures") == []


@pytest.mark.parametrize("methods", [["retrain"], ["ssd"]])
def test_any_single_row_can_be_drawn(methods: list[str], tmp_path: Path) -> None:
    assert len(drawn([row(method, 0, 0.9) for method in methods], tmp_path)) == 6


def test_twenty_methods_have_different_looks(tmp_path: Path) -> None:
    rows = [row(f"method_{i}", 0, 0.5 + i / 100) for i in range(20)]
    assert len(drawn(rows, tmp_path)) == 6
    looks = figures._looks([f"method_{i}" for i in range(20)])
    assert len({(look.colour, look.marker) for look in looks.values()}) == 20


def test_the_noise_floor_and_doing_nothing_are_marked(rows: list[dict[str, Any]]) -> None:
    finished = frame_of([r for r in rows if r["tow"] is not None])
    methods = ["pretrain", "ssd", "jit", "retrain", "retrain_again"]
    figure = figures._tow(finished, methods, "title")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "doing nothing",
        "noise floor: retrained again",
    ]
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["pretrain", "ssd", "jit", "retrain_again"]
    assert [text.get_text() for text in axes.texts] == ["77.5", "79.5", "69.5", "96.5"]


@pytest.mark.parametrize("count", [2, 8, 22, 30])
def test_the_legend_is_never_cut(count: int) -> None:
    import matplotlib as mpl

    methods = ["pretrain", "retrain", *(f"a_method_{i}" for i in range(count - 2))]
    rows = pd.DataFrame(
        {"method": methods, "task": "multilabel", "forget_score": 0.5, "test_score": 0.5}
    )
    with mpl.rc_context(figures._STYLE):
        figure = figures._forgetting_utility(rows, methods, "title")
        figure.canvas.draw()
        (legend,) = figure.legends
        box = legend.get_window_extent()
    assert box.y0 >= 0
    assert box.y1 <= figure.bbox.height
