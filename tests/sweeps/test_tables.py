"""Means, spreads and the three forms of the comparative table."""

from __future__ import annotations

import io
import shutil
import statistics
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from sweeps import tables
from sweeps.results import COLUMNS, SCORES

ACCESS = {"ssd": "prepared", "retrain": "full", "retrain_again": "full"}


def row(method: str, seed: int, tow: float | None, **values: Any) -> dict[str, Any]:
    measured = {} if tow is None else dict.fromkeys(SCORES, tow) | {"tow": tow, "mia_auc": tow}
    return {
        **dict.fromkeys(COLUMNS),
        "dataset": "synthetic",
        "num_forget": 20,
        "seed": seed,
        "method": method,
        "access": ACCESS.get(method, "support"),
        **measured,
        **values,
    }


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    numbers = [c for c in COLUMNS if c.endswith(("_score", "_seconds", "_loss")) or "mia" in c]
    return frame.astype(dict.fromkeys([*numbers, "tow", "rmia_tpr"], "float64"))


@pytest.fixture
def frame() -> pd.DataFrame:
    return frame_of(
        [
            row("pretrain", 0, 0.75),
            row("retrain", 0, 1.0, unlearn_seconds=28.4),
            row("ssd", 0, 0.8, unlearn_seconds=0.5, prepare_seconds=12.0),
            row("gradient_ascent", 0, None),
            row("pretrain", 1, 0.85),
            row("retrain", 1, 1.0, unlearn_seconds=29.4),
            row("ssd", 1, None),
            row("gradient_ascent", 1, None),
        ]
    )


def printed(summary: pd.DataFrame, **console: Any) -> str:
    stream = io.StringIO()
    tables.terminal(summary, Console(file=stream, **console))
    return stream.getvalue()


def test_means_and_spreads_are_those_by_hand(frame: pd.DataFrame) -> None:
    summary = tables.summarise(frame).set_index("method")
    assert summary.loc["pretrain", "tow_mean"] == pytest.approx(0.8)
    assert summary.loc["pretrain", "tow_std"] == pytest.approx(statistics.stdev([0.75, 0.85]))
    assert summary.loc["retrain", "tow_std"] == 0
    assert summary.loc["retrain", "unlearn_seconds_mean"] == pytest.approx(28.9)
    assert summary.loc["ssd", "tow_mean"] == 0.8
    assert np.isnan(summary["tow_std"]["ssd"])
    assert np.isnan(summary["tow_mean"]["gradient_ascent"])


def test_one_shot_rows_come_first_and_count_their_seeds(frame: pd.DataFrame) -> None:
    summary = tables.summarise(frame)
    assert list(summary["method"]) == [
        "pretrain",
        "ssd",
        "gradient_ascent",
        "retrain",
    ]
    assert list(summary["n"]) == [2, 1, 0, 2]
    assert list(summary["seeds"]) == [2, 2, 2, 2]
    assert list(summary["data_seen"]) == ["S", "S + own preparation", "S", "D_f, D_r"]
    measures = [f"{m}_{part}" for m in tables.MEASURES for part in ("mean", "std")]
    keys = ["dataset", "num_forget", "method", "access", "data_seen", "task", "n", "seeds"]
    assert list(summary.columns) == [*keys, *measures]


def test_datasets_and_forget_sizes_stay_together(frame: pd.DataFrame) -> None:
    other = frame.assign(num_forget=5)
    mixed = pd.concat([frame.iloc[:1], other, frame.iloc[1:]])
    titles = [block.title for block in tables.blocks(tables.summarise(mixed))]
    assert titles == ["synthetic, 20 forget identities", "synthetic, 5 forget identities"]


def test_terminal_shows_every_number_within_100_columns_of_a_log(frame: pd.DataFrame) -> None:
    text = printed(tables.summarise(frame), width=80)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in text
    pretrain = next(line for line in lines if line.startswith("pretrain"))
    assert pretrain.replace(" ", "").startswith("pretrainS2/280.0±7.180.0±7.1")
    ssd = next(line for line in lines if line.startswith("ssd"))
    assert ssd.split() == ["ssd", "S+prep", "1/2", *["80.0"] * 5, "-", "0.50"]
    missing = next(line for line in lines if line.startswith("gradient"))
    assert missing.split() == ["gradient_ascent", "S", "0/2", *["-"] * 7]


def test_terminal_rules_the_reference_rows_off(frame: pd.DataFrame) -> None:
    lines = printed(tables.summarise(frame), width=100).splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("retrain "))
    assert set(lines[place - 1]) == {"─"}
    assert lines[place - 2].startswith("gradient")


def test_a_log_gives_long_names_a_line_of_their_own(frame: pd.DataFrame) -> None:
    name = "a_method_with_quite_a_long_name"
    frame["method"] = frame["method"].replace("pretrain", name)
    lines = printed(tables.summarise(frame), width=80).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[lines.index(name) + 1].startswith("  S")


def test_terminal_explains_its_columns_in_whole_lines(frame: pd.DataFrame) -> None:
    lines = printed(tables.summarise(frame), width=120).splitlines()
    for beginning in ("retain, forget, test: ", "ToW 100: as retrained", "sees: S support set"):
        assert any(line.startswith(beginning) for line in lines)


@pytest.mark.parametrize("width", [80, 100, 160])
def test_terminal_keeps_to_the_width_of_a_terminal(frame: pd.DataFrame, width: int) -> None:
    text = printed(
        tables.summarise(frame), width=width, force_terminal=True, color_system=None, no_color=True
    )
    table = [line for line in text.splitlines() if "±" in line and "mean" not in line]
    assert table
    assert max(map(len, table)) <= width


def test_seconds_have_the_digits_that_they_deserve() -> None:
    for seconds, shown in ((0.456, "0.46"), (45.67, "45.7"), (4567.8, "4568")):
        summary = tables.summarise(frame_of([row("ssd", 0, 0.5, unlearn_seconds=seconds)]))
        line = tables.blocks(summary)[0].lines[0]
        assert line.cells["unlearn_seconds"].mean == shown


def test_markdown_has_one_cell_per_column(frame: pd.DataFrame) -> None:
    lines = tables.markdown(tables.summarise(frame)).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert {line.count("|") for line in table} == {4 + len(tables.COLUMNS)}
    assert "| `pretrain` | S | 2/2 | 80.0 ± 7.1 |" in table[2]
    assert table[-1].startswith("| `retrain` (reference) |")


def test_latex_escapes_what_latex_would_read() -> None:
    name = r"50%_of$all&{#}^~\x"
    text = tables.latex(tables.summarise(frame_of([row(name, 0, 0.5), row("retrain", 0, 1.0)])))
    escaped = r"50\%\_of\$all\&\{\#\}\textasciicircum{}\textasciitilde{}\textbackslash{}x"
    assert f"{escaped} & S & 1/1 & 50.0" in text
    assert "retrain & $D_f$, $D_r$ & 1/1 & 100.0" in text
    assert text.count(r"\midrule") == 2


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles_with_booktabs_alone(frame: pd.DataFrame, tmp_path: Path) -> None:
    body = tables.latex(tables.summarise(pd.concat([frame, frame.assign(dataset=r"a_b%\c")])))
    source = tmp_path / "t.tex"
    source.write_text(
        "\\documentclass{article}\n\\usepackage{booktabs}\n"
        f"\\begin{{document}}\n{body}\\end{{document}}\n"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", source.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
