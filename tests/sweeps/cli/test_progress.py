from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from sweeps.cli.progress import Bar, SweepProgress, live_view, plain_line
from sweeps.schedule.remaining import Left
from sweeps.schedule.scheduler import Running, Snapshot

SNAPSHOT = Snapshot(
    stages={
        "pretrain": {"done": 1, "running": 2},
        "score": {"waiting": 3, "ready": 1, "failed": 1, "blocked": 2},
    },
    elapsed=75.0,
    left=Left(seconds=130.4, factor=1.2),
    share=0.25,
    running=(
        Running(label="pretrain synthetic n20 s1", spent=34.0, expected=40.0, worker="vm:12"),
        Running(label=f"retrain {'long ' * 20}s0", spent=8.0, expected=9.0, is_guess=True),
    ),
)


def test_a_plain_line_has_counts_and_the_range() -> None:
    assert plain_line(SNAPSHOT) == (
        "[1m15s] 10 jobs: 1 done 2 running 4 waiting 1 failed 2 blocked (2 pretrain), "
        "ETA 2 to 3 min"
    )


def shown(width: int, height: int = 40, snapshot: Snapshot = SNAPSHOT) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=width, height=height)
    console.print(live_view(snapshot, "demo", "1m15s so far, left: 2 to 3 min", console))
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_view_fits_and_breaks_no_word(width: int) -> None:
    lines = shown(width)
    assert all(len(line) <= width for line in lines)
    score = next(line for line in lines if line.startswith("score"))
    assert [cell for cell in score.split() if cell.isdigit()] == ["4", "1", "2"]
    assert lines[0].startswith("demo ")
    assert lines[0].rstrip().endswith("25%  1 of 10 jobs")
    words = " ".join(lines)
    for whole in ("left: 2 to 3 min", "pretrain synthetic n20 s1", "34s of about 40s", "blocked"):
        assert whole in words
    # Stages stand one below the other, so that no line follows that was broken off.
    assert len([line for line in lines if line.strip()]) == 2 + 1 + 2 + 1 + 2


def test_a_guess_is_not_said_of_a_job_and_what_is_late_is() -> None:
    lines = shown(80)
    assert any(line.startswith("retrain long") and line.rstrip().endswith("  8s") for line in lines)
    late = Running(label="unlearn x", spent=50.0, expected=10.0)
    there = Snapshot(stages={}, elapsed=0.0, left=Left(), running=(late,))
    assert any("50s (takes longer than others did)" in line for line in shown(80, snapshot=there))


def test_many_workers_leave_room_for_the_rest() -> None:
    many = tuple(Running(label=f"job {n}", spent=n, expected=1.0) for n in range(64))
    there = Snapshot(stages={"score": {"running": 64}}, elapsed=0.0, left=Left(), running=many)
    lines = shown(80, 20, there)
    assert len(lines) <= 20
    assert "and 53 more" in [line.strip() for line in lines]


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


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_is_to_be_said_is_said_at_once(is_terminal: bool) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=is_terminal, width=80, height=40)
    with SweepProgress(console, lambda: SNAPSHOT, "demo") as progress:
        progress.say("Ctrl-C: stopping")
        deadline = time.monotonic() + 5.0
        while "Ctrl-C: stopping" not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "Ctrl-C: stopping" in stream.getvalue()
