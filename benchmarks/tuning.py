"""What a tuning point costs when the study shares its preparation, against points from scratch.

    uv run python benchmarks/tuning.py [--points 200] [--plain 6]

Runs the demo's tuning cell up to the point where a study of SSD begins, then ``--points`` points as
the sweep runs them, one after the other in one process with one thread: simulated requests,
training importances and SSD's own preparation are computed once. The plain way computes each point
by itself, as a script does that is called with a point: preparation and simulated requests
included, the pretrained model given; ``--plain`` points are enough, for they all cost the same.
The shared work is counted to the study's cost. The last line is one JSON object. The bar: a point
of the study costs at most a fifth.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from sweeps.cli.datasets import ensure_generated, folder_of
from sweeps.config import load
from sweeps.executor.worker import execute
from sweeps.graph.cells import index_job
from sweeps.graph.job import Job
from sweeps.graph.plan import Plan, expand
from sweeps.stages.context import WorkerEnvironment
from sweeps.stages.run import limit_threads, warm_up
from sweeps.store import LocalStore

BAR = 5.0
SHARED = ("simulate", "prepare")


def overrides(points: int, output: Path) -> list[str]:
    """SSD's study on the demo's tuning cell, without the true ToWs."""
    return [
        "sweep=demo",
        "sweep.seeds=[0]",
        "sweep.methods=[ssd]",
        f"tuning.trials={points}",
        "tuning.true_tow=false",
        f"output_dir={output}",
    ]


def run(job: Job, plan: Plan, env: WorkerEnvironment) -> float:
    """Seconds of one job.

    Raises:
        RuntimeError: It failed.
    """
    start = time.perf_counter()
    outcome = execute(job, {**plan.jobs, job.key: job}, env)
    if outcome.failure is not None:
        raise RuntimeError(f"{job.label}: {outcome.failure.message}")
    return time.perf_counter() - start


def ancestors(plan: Plan, key: str) -> list[Job]:
    """All jobs that a job needs, every one after its inputs."""
    needed, waiting = set[str](), list(plan.jobs[key].needs)
    while waiting:
        one = waiting.pop()
        if one not in needed:
            needed.add(one)
            waiting += plan.jobs[one].needs
    return [job for job in plan.jobs.values() if job.key in needed]


def again(job: Job, number: int, known: dict[str, str]) -> Job:
    """The same job under another key, so that nothing stored is used.

    Args:
        job: What to run once more.
        number: Tells the copies apart.
        known: Keys of copies by the key of what they copy.
    """
    inputs = {role: known.get(key, key) for role, key in job.inputs.items()}
    series = {r: tuple(known.get(key, key) for key in keys) for r, keys in job.series.items()}
    spec = {**job.spec, "copy": number}
    copy = dataclasses.replace(job, spec=spec, inputs=inputs, series=series)
    known[job.key] = copy.key
    return copy


def main() -> None:
    """Measure both ways and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--plain", type=int, default=6)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch)
        spec = load(overrides(asked.points, output))
        plan = expand(spec.sweep)
        (study,) = plan.studies
        (dataset,) = spec.sweep.datasets.values()
        ensure_generated(dataset, spec.places, lambda _done, _total: None, workers=1)
        env = WorkerEnvironment(
            store=LocalStore(Path(spec.places.store_uri)),
            data_folders={index_job(dataset).key: folder_of(dataset, spec.places)},
            logs=output / "logs",
        )
        limit_threads(1)
        warm_up(env)
        shared = 0.0
        for job in ancestors(plan, study.trials[0]):
            seconds = run(job, plan, env)
            print(f"{job.label}: {seconds:.1f} s", flush=True)
            shared += seconds if job.stage in SHARED else 0.0
        begun = time.perf_counter()
        each = []
        for place, key in enumerate(study.trials):
            each.append(run(plan.jobs[key], plan, env))
            if place % 50 == 49:
                print(f"{place + 1} points, {time.perf_counter() - begun:.0f} s", flush=True)
        study_seconds = (shared + sum(each)) / len(each)
        plain = []
        for number in range(asked.plain):
            copies: dict[str, str] = {}
            # Points of the first batch know no other, as a script's do.
            key = study.trials[1 + number % (spec.sweep.tuning.batch - 1)]
            todo = [job for job in ancestors(plan, key) if job.stage in SHARED]
            copied = [again(job, number, copies) for job in [*todo, plan.jobs[key]]]
            whole = dataclasses.replace(plan, jobs={**plan.jobs, **{j.key: j for j in copied}})
            plain.append(sum(run(job, whole, env) for job in copied))
            print(f"plain point {number + 1}: {plain[-1]:.1f} s", flush=True)
    ratio = statistics.fmean(plain) / study_seconds
    print(
        json.dumps(
            {
                "benchmark": "tuning",
                "ratio": round(ratio, 2),
                "bar": BAR,
                "ok": ratio >= BAR,
                "points": len(each),
                "plain_points": len(plain),
                "seconds_per_point": round(study_seconds, 3),
                "seconds_per_plain_point": round(statistics.fmean(plain), 3),
                "shared_seconds": round(shared, 3),
                "last_ten_points_seconds": round(statistics.fmean(each[-10:]), 3),
            }
        )
    )


if __name__ == "__main__":
    main()
