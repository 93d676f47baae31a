"""Report and MLflow view of a store with 5,000 finished jobs, made up here, by the real command.

    python benchmarks/review.py [--seeds 13]

Generates the store (its numbers mean nothing), runs ``launch.py mode=report`` on it, and measures
seconds and the memory of all its processes together. Then publishes some runs with one call per
metric, param and tag, and the same runs as the publisher does. The last line is one JSON object.
The bar: publishing at least 5 times faster, the whole view in 60 s, within 1 GiB.
"""

from __future__ import annotations

import io
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pandas as pd
from safetensors.numpy import save

from sweeps.config import load
from sweeps.graph import artifacts
from sweeps.graph.job import Job
from sweeps.graph.plan import Plan, expand
from sweeps.report.measures import CATALOGUE
from sweeps.store import Entry
from sweeps.store.base import ENTRY_FIELDS, MANIFEST, encoded, manifest
from sweeps.tracking.client import connect, database, make_database, quieten, tracking_uri
from sweeps.tracking.rows import wanted_run
from sweeps.tracking.runs import Runs, Wanted

PROJECT = Path(__file__).parents[1]
BAR, LIMIT_SECONDS, LIMIT_BYTES = 5.0, 60.0, 2**30
RETAINED_PEOPLE, FEATURES, PIXELS = 120, 64, 48
COMPARED_RUNS, ROUNDS = 20, 5


def overrides(seeds: int) -> list[str]:
    """The demo on two datasets and three forget sizes: about 65 jobs a cell."""
    return [
        "sweep=demo",
        "profile=paper",
        "sweep.datasets=[synthetic,synthetic_mufac]",
        "sweep.forget_sizes=[5,10,20]",
        f"sweep.seeds=[{','.join(map(str, range(seeds)))}]",
    ]


class MadeUp:
    """Finished jobs with numbers that look like results."""

    def __init__(self, plan: Plan, root: Path) -> None:
        """Fill nothing yet."""
        self._plan = plan
        self._root = root
        self._random = np.random.default_rng(0)
        self._contents: dict[str, str] = {}
        # A row may stand a second time, in a cell whose people are chosen.
        both = [one for row in plan.results for one in (row, row.chosen) if one is not None]
        self._rows = {row.score_key: row for row in both}
        self._sizes = {
            key: int(job.spec["num_forget"])
            for key, job in plan.jobs.items()
            if job.stage == "split"
        }
        self._pretrained = {
            job.inputs["pretrained"] for job in plan.jobs.values() if job.stage == "score"
        }

    def fill(self) -> dict[str, Entry]:
        """Write every job's entry; jobs come after their inputs."""
        return {key: self._write(job) for key, job in self._plan.jobs.items()}

    def _write(self, job: Job) -> Entry:
        folder = self._root / job.stage / job.key
        folder.mkdir(parents=True)
        for name, content in self._files(job).items():
            (folder / name).write_bytes(content)
        inputs = {name: self._contents[key] for name, key in job.needed.items()}
        cost = {
            "seconds": float(self._random.gamma(2.0, 2.0)),
            "method_seconds": float(self._random.gamma(2.0, 1.0)),
            "peak_bytes": float(self._random.integers(2**28, 2**30)),
            "started": 1.7e9 + len(self._contents) * 0.8,
            "worker": f"node{len(self._contents) % 4}:{100 + len(self._contents) % 8}",
        }
        document = manifest(job, folder, self._value(job), inputs, cost, {})
        self._contents[job.key] = document["content"]
        (folder / MANIFEST).write_bytes(encoded(document))
        return Entry(folder=folder, **{name: document[name] for name in ENTRY_FIELDS})

    def _value(self, job: Job) -> Mapping[str, Any]:
        multiclass = "mufac" in job.label
        match job.stage:
            case "index":
                return {"fingerprint": "0" * 64, "num_images": 3200, "num_identities": 400}
            case "split":
                sets = {"forget": 140, "retain": 1500, "test": 640, "val": 640, "support": 20}
                return {"fingerprint": job.key, "num_images": sets}
            case "evaluate":
                return {"task": "multiclass" if multiclass else "multilabel", "num_images": 3000}
            case "score":
                return self._scores(job)
        return {}

    def _scores(self, job: Job) -> Mapping[str, float]:
        row = self._rows[job.key].row
        level = 0.95 if row.method == "retrain" else 0.6 + 0.02 * (len(row.name) % 15)
        numbers = {
            name: float(np.clip(self._random.normal(level, 0.02), 0, 1))
            for name, measure in CATALOGUE.items()
            if measure.unit not in ("seconds", "bytes")
        }
        if row.name == "retrain":
            numbers["tow"] = 1.0
        return numbers

    def _files(self, job: Job) -> Mapping[str, bytes]:
        if job.stage == "split":
            people = self._sizes[job.key]
            faces = self._random.integers(0, 256, (people, 3, PIXELS, PIXELS), dtype=np.uint8)
            names = np.arange(people)
            return {
                artifacts.SUPPORT: save(
                    {"images": faces, "identities": names, "labels": np.zeros((people, 1))}
                )
            }
        people = self._sizes.get(job.inputs.get("split", ""), 0)
        if job.stage == "evaluate" and job.key in self._pretrained:
            everyone = np.repeat(np.arange(people + RETAINED_PEOPLE), 3)
            drawn = self._random.normal(size=(len(everyone), FEATURES)).astype(np.float32)
            return {
                artifacts.FEATURES: save(
                    {
                        "train.features": drawn,
                        "train.identities": everyone,
                        "train.images": everyone,
                        "support.features": drawn[:people],
                        "support.identities": np.arange(people),
                        "support.images": np.arange(people),
                    }
                )
            }
        return self._tables(self._rows[job.key].cell.num_forget) if job.stage == "score" else {}

    def _tables(self, people: int) -> Mapping[str, bytes]:
        forgotten = self._random.normal(0, 0.1, people)
        retained = self._random.normal(0.02, 0.05, RETAINED_PEOPLE)
        rates = np.geomspace(1 / 640, 1, 150)
        tables = {
            artifacts.PER_IDENTITY: {
                "set": "forget",
                "identity": np.arange(people),
                "images": 7,
                "score": 0.7,
                "gap": forgotten,
            },
            artifacts.RETAIN: {
                "identity": np.arange(people, people + RETAINED_PEOPLE),
                "drop": retained,
            },
            artifacts.ROC: {"fpr": rates, "tpr": np.sqrt(rates)},
        }
        return {name: parquet(pd.DataFrame(table)) for name, table in tables.items()}


def parquet(table: pd.DataFrame) -> bytes:
    """A table as the content of a file."""
    stream = io.BytesIO()
    table.to_parquet(stream, index=False)
    return stream.getvalue()


def measured(command: list[str]) -> tuple[float, float, list[int], str]:
    """Seconds, processor seconds, bytes of each process at the peak, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    peak: list[int] = []

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, _tree_bytes(process.pid), key=sum)
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, _ = process.communicate()
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}\n{out[-3000:]}")
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used, peak, out


def _tree_bytes(pid: int) -> list[int]:
    """Proportional memory of a process and its descendants: shared pages count once."""
    found, waiting = [], [pid]
    for one in waiting:
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
            pages = (line.split()[1] for line in text.splitlines() if line.startswith("Pss:"))
            found.append(1024 * int(next(pages)))
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (OSError, StopIteration):  # it has ended meanwhile
            continue
    return found


def compare(plan: Plan, entries: Mapping[str, Entry], folder: Path) -> tuple[float, float]:
    """Runs a second, one call per thing and as the publisher does, in a database each."""
    rows = plan.results[: COMPARED_RUNS * ROUNDS]
    wanted = [wanted_run(plan, row, entries, "0" * 32) for row in rows]
    quieten()
    from mlflow import MlflowClient

    ways = (_one_by_one, _batched)
    places = []
    for way in ways:
        (folder / way.__name__).mkdir()
        uri = tracking_uri("", folder / way.__name__)
        make_database(database(uri))
        # Single calls go through MLflow's own client, the batches through the publisher's.
        client = MlflowClient(uri) if way is _one_by_one else connect(uri)
        places.append((client, client.create_experiment("one")))
    best = [0.0, 0.0]
    # In turns, and the best of each: somebody else may be using the processors for a while.
    for begin in range(0, len(wanted), COMPARED_RUNS):
        some = wanted[begin : begin + COMPARED_RUNS]
        for which, (way, (client, experiment)) in enumerate(zip(ways, places, strict=True)):
            start = time.perf_counter()
            way(client, experiment, some)
            best[which] = max(best[which], len(some) / (time.perf_counter() - start))
    return best[0], best[1]


def _one_by_one(client: Any, experiment: str, wanted: list[Wanted]) -> None:
    for one in wanted:
        run_id = client.create_run(experiment, run_name=one.name).info.run_id
        for name, text in one.params.items():
            client.log_param(run_id, name, text)
        for name, text in one.tags.items():
            client.set_tag(run_id, name, text)
        for name, number in one.metrics.items():
            client.log_metric(run_id, name, number)
        client.log_inputs(run_id, datasets=list(one.inputs))
        client.set_terminated(run_id, "FINISHED")


def _batched(client: Any, experiment: str, wanted: list[Wanted]) -> None:
    runs = Runs(client, experiment, ("oneshui.job_key",), [])
    for one in wanted:
        runs.put(one)


def main() -> int:
    """Generate, measure, print."""
    seeds = int(sys.argv[sys.argv.index("--seeds") + 1]) if "--seeds" in sys.argv else 13
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "run"
        command = overrides(seeds)
        plan = expand(load(command).sweep)
        start = time.perf_counter()
        entries = MadeUp(plan, output / "store").fill()
        print(f"{len(entries)} finished jobs made up in {time.perf_counter() - start:.0f} s")
        report = [sys.executable, "launch.py", *command, f"output_dir={output}", "mode=report"]
        seconds, used, peak, out = measured(report)
        progress = [line for line in out.splitlines() if "ETA" in line]
        print("\n".join(["progress, as a log shows it:", *progress]))
        print(
            f"report and MLflow view: {seconds:.1f} s ({used:.1f} s of processors), "
            f"{sum(peak) / 2**20:.0f} MiB at most, by process "
            f"{[round(part / 2**20) for part in peak]}"
        )
        again, _, _, _ = measured(report)
        print(f"the same again, nothing new to publish: {again:.1f} s")
        one_by_one, batched = compare(plan, entries, Path(scratch))
        print(f"runs a second: {one_by_one:.1f} with single calls, {batched:.1f} in batches")
        figures = len(list((output / "report" / "figures").glob("*.png")))
    ratio = batched / one_by_one
    ok = ratio >= BAR and seconds <= LIMIT_SECONDS and sum(peak) <= LIMIT_BYTES and bool(progress)
    result = {
        "benchmark": "review",
        "ratio": round(ratio, 2),
        "bar": BAR,
        "ok": ok,
        "jobs": len(entries),
        "rows": len(plan.results),
        "figures": figures,
        "seconds": round(seconds, 1),
        "limit_seconds": LIMIT_SECONDS,
        "processor_seconds": round(used, 1),
        "seconds_again": round(again, 1),
        "peak_mib": math.ceil(sum(peak) / 2**20),
        "limit_mib": LIMIT_BYTES // 2**20,
        "progress_lines": len(progress),
        "single_calls_runs_per_second": round(one_by_one, 2),
        "batched_runs_per_second": round(batched, 2),
        "processors": os.cpu_count(),
    }
    print(json.dumps(result))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
