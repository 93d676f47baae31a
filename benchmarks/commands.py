"""A small cell as a person runs it: a command per run, against one sweep with report and MLflow.

    python benchmarks/commands.py [--methods NAME ...] [--rounds 2]

640 pictures of 128 people as JPEG in CelebA's aligned size, a small vision transformer at 48 px, 3
epochs. Plain are six commands, as the authors' code is used: pretraining, retraining, and one for
every method, each of which loads both models, prepares, unlearns, and evaluates and attacks its
own model and the retrained one (``benchmarks/cell.py``). Ours is one ``launch.py``, with all that a
person waits for: Ray's start, hashing the pictures, the plan, and tables, figures and MLflow.

Where plain differs from the authors' code: its methods, training and measures are oneshui's own, so
what is faster inside them counts for neither; it retrains once, reads pictures in the process that
trains, without workers of a loader, and leaves out their logging. Both have one thread a process.

Processor seconds are those of all processes that a command began, Ray's too, looked up ten times a
second while they live: whoever is left without a parent comes to this one (Linux only). Their last
tenth of a second is missing in both ways. Wall seconds are on as many processors as there
are, which the plain commands leave idle. Medians of the rounds, in which both ways take turns; the
last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["OMP_NUM_THREADS"] = "1"

from cell import (
    NETWORK,
    NUM_FORGET,
    NUM_OUTPUTS,
    OPTIONS,
    PICTURES,
    SIDE,
    TRAINING,
    VIEWS,
    plain_run,
)
from data import FILE_BYTES, write_pictures

PEOPLE, WIDTH, HEIGHT = 128, 178, 218
METHODS = ("ssd", "lfssd", "jit", "scrub_support")
BAR = 3.0
_LOOK_SECONDS, _TICKS = 0.1, os.sysconf("SC_CLK_TCK")
_PR_SET_CHILD_SUBREAPER = 36


def _table(folder: Path) -> None:
    """Pictures, and the table that lists them with the labels of ``cell.Cell``."""
    import numpy as np
    import pandas as pd

    count = PEOPLE * PICTURES
    write_pictures(folder / "pictures", WIDTH, HEIGHT, count, FILE_BYTES[f"{WIDTH}x{HEIGHT}"])
    label = np.random.default_rng(0).integers(0, 2, (count, NUM_OUTPUTS)).astype(np.uint8)
    columns: dict[str, Any] = {f"attribute {n}": label[:, n] for n in range(NUM_OUTPUTS)}
    columns["path"] = [f"pictures/{number}.jpg" for number in range(count)]
    columns["identity"] = np.repeat(np.arange(PEOPLE), PICTURES)
    pd.DataFrame(columns).to_csv(folder / "images.csv", index=False)


def _sweep(folder: Path, names: list[str]) -> list[str]:
    """The command that does all of it."""
    data = {"layout": "table", "path": ".", "forget_sizes": [NUM_FORGET]}
    model = {"name": NETWORK, "image_size": SIDE, "weights": "random", "options": OPTIONS}
    settings = {
        "datasets.cell": data,
        "sweep.datasets": ["cell"],
        "sweep.seeds": [0],
        "sweep.views": VIEWS,
        "sweep.methods": ["pretrain", "retrain", *names],
        "sweep.rows": {name: {} for name in names},
        "sweep.model": model,
        "sweep.training": _training(),
        "data_dir": str(folder),
        "output_dir": str(folder / "run"),
    }
    given = [f"{key}={_yaml(value)}" for key, value in settings.items()]
    launch = Path(__file__).parents[1] / "launch.py"
    return [sys.executable, str(launch), "sweep=smoke", "profile=paper", *given]


def _training() -> dict[str, Any]:
    from oneshui.spec import TrainingSpec

    return dataclasses.asdict(TrainingSpec(**TRAINING))


def _yaml(value: Any) -> str:
    """As Hydra's command line takes it: JSON without quotes around keys."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return str(value)


class _Watch:
    """Adds up the processor seconds of all descendants of this process; a context manager."""

    def __init__(self) -> None:
        self._used: dict[tuple[int, int], float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        return sum(self._used.values())

    def _run(self) -> None:
        while True:
            self._used |= _descendants()
            if self._over.wait(_LOOK_SECONDS):
                return


def _descendants() -> dict[tuple[int, int], float]:
    """Processor seconds of every descendant of this process, by its number and when it began."""
    parents, begun = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # After the name, which may hold anything: proc_pid_stat(5), fields 4, 14, 15 and 22.
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            pid = int(stat.parent.name)
            parents[pid] = int(fields[1])
            begun[pid] = (int(fields[19]), (int(fields[11]) + int(fields[12])) / _TICKS)
    found, waiting = {}, [os.getpid()]
    for parent in waiting:
        for pid in [pid for pid, of in parents.items() if of == parent]:
            waiting.append(pid)
            found[pid, begun[pid][0]] = begun[pid][1]
    return found


def _measure(command: list[str], log: Path) -> tuple[float, float]:
    """Wall and processor seconds of a command and of everything that it began.

    Raises:
        SystemExit: It failed.
    """
    start = time.perf_counter()
    with log.open("w", encoding="utf-8") as file, _Watch() as watch:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
        wall = time.perf_counter() - start
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait()
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text(encoding='utf-8')}")
    return wall, watch.seconds


def compare(names: list[str], rounds: int) -> dict[str, Any]:
    """Both ways on the same files, in turns."""
    if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise SystemExit("processes that lose their parent cannot be counted on this system")
    runs: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _table(folder)
        for _ in range(rounds):
            commands = {
                name: [sys.executable, __file__, "--plain", name, "--folder", scratch]
                for name in ("pretrain", "retrain", *names)
            }
            for name, command in (commands | {"sweep": _sweep(folder, names)}).items():
                cost = _measure(command, folder / "log")
                runs.setdefault(name, []).append(cost)
                print(f"{name:16}{cost[0]:8.1f} s{cost[1]:8.1f} s of processor", flush=True)
            shutil.rmtree(folder / "run")
    middle = {
        name: [statistics.median(cost[i] for cost in costs) for i in (0, 1)]
        for name, costs in runs.items()
    }
    ours = middle.pop("sweep")
    plain = [sum(cost[i] for cost in middle.values()) for i in (0, 1)]
    return {
        "ratio": round(plain[0] / ours[0], 2),
        "cpu_ratio": round(plain[1] / ours[1], 2),
        "plain_seconds": [round(each, 1) for each in plain],
        "ours_seconds": [round(each, 1) for each in ours],
        "plain_runs": {name: [round(each, 1) for each in cost] for name, cost in middle.items()},
    }


def main(arguments: list[str]) -> int:
    """Run; the exit status is 0 if the bar is met, in wall and in processor seconds."""
    parser = argparse.ArgumentParser(description="six commands against one sweep")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--plain", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.plain:
        plain_run(options.folder, options.plain, PEOPLE)
        return 0
    figures = compare(options.methods, options.rounds)
    ok = min(figures["ratio"], figures["cpu_ratio"]) >= BAR
    print(json.dumps({"benchmark": "commands", "bar": BAR, "ok": ok, **figures}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
