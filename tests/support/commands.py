"""Runs ``launch.py`` as a person would: as a command, in its own process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

PROJECT = Path(__file__).parents[2]
COSTS = r"_(?:seconds|bytes)$"
ONE = "sweep.datasets=[synthetic_tiny]"
"""Half of the smoke sweep, for the tests that disturb it; its rows are the whole sweep's."""


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str
    seconds: float


def start(
    *arguments: str, env: Mapping[str, str] | None = None, within: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """The command begun; within another program, if one is to call it."""
    return subprocess.Popen(
        [*within, sys.executable, str(PROJECT / "launch.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        env={**os.environ, "COLUMNS": "120", **(env or {})},
        start_new_session=True,
    )


def launch(
    *arguments: str,
    timeout: float = 600,
    env: Mapping[str, str] | None = None,
    within: Sequence[str] = (),
) -> Done:
    begin = time.monotonic()
    process = start(*arguments, env=env, within=within)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return Done(process.returncode, out, err, time.monotonic() - begin)


def results(output_dir: Path) -> pd.DataFrame:
    """The results without time, memory and the state of the checkout, which no two runs share."""
    frame = pd.read_parquet(output_dir / "report" / "results.parquet")
    return frame.loc[:, ~frame.columns.str.contains(COSTS)].drop(columns="commit")


def half(undisturbed: Path) -> pd.DataFrame:
    """The rows of ONE in the results of the whole smoke sweep."""
    frame = results(undisturbed)
    return frame[frame["dataset"] == "synthetic_tiny"].reset_index(drop=True)


def finished(output_dir: Path, stage: str) -> int:
    return len(list((output_dir / "store" / stage).glob("*/result.json")))


def manifests(output_dir: Path) -> dict[str, str]:
    """What every committed job left behind, costs included: computing it again would change it."""
    found = {}
    for path in (output_dir / "store").glob("[a-z]*/*/result.json"):
        try:
            found[f"{path.parent.parent.name}/{path.parent.name}"] = path.read_text()
        except FileNotFoundError:
            continue
    return found


def contents(output_dir: Path) -> dict[str, str]:
    """Hash of every committed result, costs left out."""
    return {key: json.loads(text)["content"] for key, text in manifests(output_dir).items()}
