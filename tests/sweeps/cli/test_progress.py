from __future__ import annotations

import io

import pytest
from rich.console import Console

from sweeps.cli.progress import Bar, SweepProgress, duration, live_table, plain_line
from sweeps.schedule.scheduler import Snapshot

SNAPSHOT = Snapshot(
    stages={
        "pretrain": {"done": 1, "running": 2},
        "score": {"waiting": 3, "ready": 1, "failed": 1, "blocked": 2},
    },
    elapsed=75.0,
    remaining=130.4,
)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59.6, "1m00s"), (125, "2m05s"), (3725, "1h02m")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_plain_line_has_counts_and_the_estimate() -> None:
    assert plain_line(SNAPSHOT) == (
        "[1m15s] 10 jobs: 1 done 2 running 4 waiting 1 failed 2 blocked (2 pretrain), ETA 2m10s"
    )


def test_the_live_table_has_a_row_per_stage() -> None:
    stream = io.StringIO()
    Console(file=stream, width=80).print(live_table(SNAPSHOT))
    lines = stream.getvalue().splitlines()
    score = next(line for line in lines if "score" in line)
    assert [cell for cell in score.replace("│", " ").split() if cell.isdigit()] == ["4", "1", "2"]


def test_without_a_terminal_progress_is_lines_without_control_characters() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=False)
    with SweepProgress(console, lambda: SNAPSHOT), Bar(console, "drawing") as bar:
        bar(1, 2)
        bar(2, 2)
    text = stream.getvalue()
    assert "drawing: 2/2" in text
    assert "10 jobs" in text
    assert "\x1b" not in text
