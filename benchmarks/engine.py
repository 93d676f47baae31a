"""What the engine itself costs: jobs that only sleep or return, ours against plain ways.

    uv run python benchmarks/engine.py            all parts, about 15 minutes on two cores
    uv run python benchmarks/engine.py busy shapes  some parts

Every part compares within one run. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from sweeps.config import load
from sweeps.executor.tune import make_slots, ray_cluster, run_sweep
from sweeps.executor.worker import Outcome
from sweeps.graph.cells import remaining_chain
from sweeps.graph.job import STAGES, Job
from sweeps.graph.launch import ClusterSpec
from sweeps.graph.plan import expand
from sweeps.schedule.estimates import Estimates
from sweeps.schedule.forecast import makespan
from sweeps.schedule.resources import ResourceRequests
from sweeps.schedule.room import Node, Request
from sweeps.schedule.scheduler import Scheduler
from sweeps.schedule.slots import Placement, Ready, Slots
from sweeps.stages.context import WorkerEnvironment
from sweeps.store import LocalStore

AIM_MILLISECONDS = 40.0
DEMO_SECONDS: Mapping[str, float] = {
    "index": 0.1,
    "cache": 3.0,
    "split": 0.2,
    "pretrain": 21.0,
    "retrain": 19.0,
    "prepare": 3.5,
    "simulate": 8.0,
    "trial": 2.4,
    "choose": 1.6,
    "unlearn": 0.8,
    "evaluate": 2.6,
    "score": 0.6,
    "true_tow": 1.8,
}
"""Mean seconds of the demo's jobs by stage, measured on two cores (2026-11-21)."""


def sleep_job(job: Job, _jobs: Mapping[str, Job], env: WorkerEnvironment, **_: object) -> Outcome:
    """A job that only sleeps; says when it began and ended."""
    began = time.time()
    if job.spec["seconds"]:
        time.sleep(job.spec["seconds"])
    ended = time.time()
    line = json.dumps([job.key, os.getpid(), began, ended])
    with (env.logs / f"{os.getpid()}.jsonl").open("a") as stream:
        stream.write(line + "\n")
    return Outcome(cost={"seconds": ended - began})


def count_process(_jobs: Mapping[str, Job], env: WorkerEnvironment) -> str:
    """Leave a trace of every process that was started."""
    (env.logs / f"process-{os.getpid()}").touch()
    return ""


@dataclass(frozen=True)
class Done:
    """How a run went: seconds, when each job began and ended, processes, idle trials."""

    wall: float
    begin: Mapping[str, float]
    end: Mapping[str, float]
    processes: int
    idle_trials: int
    cpu: float

    @property
    def span(self) -> float:
        """From the first job's start to the last one's end: without warm-up and shutdown."""
        return max(self.end.values()) - min(self.begin.values())


def chain_of(seconds: list[float], width: int) -> dict[str, Job]:
    """``width`` chains side by side; each job needs the one before it in its chain."""
    jobs: dict[str, Job] = {}
    last: dict[int, str] = {}
    for number, value in enumerate(seconds):
        place = number % width
        inputs = {"before": last[place]} if place in last else {}
        job = Job(
            stage="unlearn", spec={"n": number, "seconds": value}, inputs=inputs, label=str(number)
        )
        jobs[job.key] = job
        last[place] = job.key
    return jobs


def diamonds(count: int, seconds: float) -> dict[str, Job]:
    """Diamonds one after the other in ten rows: every fourth job waits for two others."""
    jobs: dict[str, Job] = {}
    last: dict[int, str] = {}
    for number in range(count // 4):
        row = number % 10

        def add(part: str, number: int = number, **inputs: str) -> str:
            spec = {"n": number, "part": part, "seconds": seconds}
            job = Job(stage="unlearn", spec=spec, inputs=inputs, label=f"{number}{part}")
            jobs[job.key] = job
            return job.key

        top = add("a", **({"before": last[row]} if row in last else {}))
        last[row] = add("d", left=add("b", top=top), right=add("c", top=top))
    return jobs


def flat(count: int, seconds: float) -> dict[str, Job]:
    """Jobs that need nothing."""
    found = {}
    for number in range(count):
        job = Job(
            stage="unlearn", spec={"n": number, "seconds": seconds}, inputs={}, label=str(number)
        )
        found[job.key] = job
    return found


def ours(
    jobs: Mapping[str, Job],
    workers: int,
    request: Callable[[Job], Request] | None = None,
    seconds: Callable[[Job], float] | None = None,
) -> Done:
    """Run the graph with the project's engine on a running Ray."""
    cluster = ClusterSpec(workers=workers, gpus_per_worker=0.0)
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder) / "logs"
        logs.mkdir()
        env = WorkerEnvironment(
            store=LocalStore(Path(folder) / "store"), data_folders={}, logs=logs
        )
        requests = ResourceRequests(load(["sweep=smoke"]).sweep, cluster, {})
        slots = make_slots(cluster, requests)
        measured = [(job, seconds(job)) for job in jobs.values()] if seconds else []
        scheduler = Scheduler(
            jobs,
            workers=workers,
            estimates=Estimates(jobs, measured),
            request=request or requests.request,
        )
        began, cpu = time.perf_counter(), time.process_time()
        found = run_sweep(
            scheduler,
            jobs,
            env,
            cluster,
            slots,
            requests,
            lambda: None,
            run=sleep_job,
            prepare=count_process,
        )
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        assert len(scheduler.keys("done")) == len(jobs), scheduler.failures()
        lines = [
            json.loads(line)
            for path in logs.glob("*.jsonl")
            for line in path.read_text().splitlines()
        ]
        return Done(
            wall=wall,
            begin={key: begin for key, _, begin, _ in lines},
            end={key: end for key, _, _, end in lines},
            processes=len(list(logs.glob("process-*"))),
            idle_trials=found.idle_trials,
            cpu=cpu,
        )


@contextlib.contextmanager
def local_ray(cpus: int) -> Iterator[None]:
    """A Ray cluster of this machine's processors."""
    with tempfile.TemporaryDirectory() as folder:
        cluster = ClusterSpec(workers=cpus, gpus_per_worker=0.0)
        with ray_cluster(cluster, Path(folder)):
            yield


def plain_tune(trials: int) -> float:
    """Seconds per trial of plain Ray Tune: a function and a fresh actor for every trial."""
    from ray import tune

    def nothing(_config: dict[str, Any]) -> dict[str, int]:
        return {"done": 1}

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tune.Tuner(
            nothing,
            param_space={"n": tune.grid_search(list(range(trials)))},
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()
    return (time.perf_counter() - began) / trials


def bare_actors(count: int, workers: int) -> float:
    """Seconds per job of a pool of Ray actors that are fed one job at a time, without Tune."""
    import ray

    @ray.remote
    class Actor:
        def run(self) -> int:
            return os.getpid()

    actors = [Actor.remote() for _ in range(workers)]
    ray.get([actor.run.remote() for actor in actors])
    began = time.perf_counter()
    running = {actor.run.remote(): actor for actor in actors}
    left = count - workers
    while running:
        ready, _ = ray.wait(list(running))
        actor = running.pop(ready[0])
        if left > 0:
            running[actor.run.remote()] = actor
            left -= 1
    return (time.perf_counter() - began) / count


def overhead(large: int) -> dict[str, Any]:
    """Part 1: milliseconds per job on warm workers, against plain Tune and bare actors."""
    found: dict[str, Any] = {}
    with local_ray(2):
        for count in (1000, large):
            done = ours(diamonds(count, 0.0), 2)
            found[f"ours_ms_{count}_jobs"] = 1000 * done.span / count
            found[f"driver_cpu_ms_{count}_jobs"] = 1000 * done.cpu / count
        slept = ours(diamonds(1000, 0.05), 2)
        found["wall_over_ideal_1000_jobs_of_50_ms"] = slept.span / (1000 * 0.05 / 2)
        found["bare_actors_ms"] = 1000 * bare_actors(1000, 2)
        found["plain_tune_ms"] = 1000 * plain_tune(12)
    found["ratio"] = found["plain_tune_ms"] / found[f"ours_ms_{large}_jobs"]
    found["ok"] = found["ratio"] >= 50 and found[f"ours_ms_{large}_jobs"] <= AIM_MILLISECONDS
    return found


def busy() -> dict[str, Any]:
    """Part 2: 300 jobs of 0.2 s on 4 slots, wall time over the ideal after warm-up."""
    with local_ray(4):
        done = ours(flat(300, 0.2), 4)
    ratio = done.span / (300 * 0.2 / 4)
    return {
        "wall_over_ideal": ratio,
        "processes": done.processes,
        "ok": ratio <= 1.10 and done.processes == 4,
    }


def shapes() -> dict[str, Any]:
    """Part 3: two resource shapes mixed, processes started per slot."""
    small, large = Request(cpus=1), Request(cpus=1, memory_gb=0.25)
    found: dict[str, Any] = {}
    for slots in (2, 4):
        with local_ray(slots):
            done = ours(
                flat(60 * slots // 2, 0.1),
                slots,
                request=lambda job: small if job.spec["n"] % 2 else large,
            )
        found[f"processes_on_{slots}_slots"] = done.processes
        found[f"ok_{slots}"] = done.processes <= 3 * slots
    return {**found, "ok": found["ok_2"] and found["ok_4"]}


def latency() -> dict[str, Any]:
    """Part 4: seconds from an input's end to the start of the job that waited for it."""
    jobs = chain_of([0.3] * 100, 2) | {}
    with local_ray(2):
        direct = _waits(jobs, ours(jobs, 2))
    # Fans: one job, then four that wait for it, then one that waits for the four.
    fan: dict[str, Job] = {}
    before: dict[str, str] = {}
    for number in range(12):
        head = Job(
            stage="unlearn", spec={"n": number, "seconds": 0.5}, inputs=before, label=f"{number}"
        )
        fan[head.key] = head
        after = [
            Job(
                stage="unlearn",
                spec={"n": number, "branch": branch, "seconds": 0.3},
                inputs={"head": head.key},
                label=f"{number}.{branch}",
            )
            for branch in range(4)
        ]
        fan |= {job.key: job for job in after}
        before = {f"branch_{place}": job.key for place, job in enumerate(after)}
    with local_ray(4):
        done = ours(fan, 4)
    fanned = _waits(fan, done)
    return {
        "chain_median_s": statistics.median(direct),
        "chain_p90_s": statistics.quantiles(direct, n=10)[-1],
        "fan_median_s": statistics.median(fanned),
        "fan_p90_s": statistics.quantiles(fanned, n=10)[-1],
        "fan_processes": done.processes,
        "ok": max(statistics.median(direct), statistics.median(fanned)) < 0.2,
    }


def _waits(jobs: Mapping[str, Job], done: Done) -> list[float]:
    return [
        done.begin[key] - max(done.end[needed] for needed in job.needs)
        for key, job in jobs.items()
        if job.inputs
    ]


def realistic(scale: float) -> dict[str, Any]:
    """Part 5: the demo's graph with measured durations on 8 simulated workers."""
    plan = expand(load([]).sweep)
    made: dict[str, Job] = {}
    renamed: dict[str, str] = {}
    for key, job in plan.jobs.items():
        copy = Job(
            stage=job.stage,
            spec={**job.spec, "seconds": DEMO_SECONDS[job.stage] * scale},
            inputs={role: renamed[needed] for role, needed in job.inputs.items()},
            series={r: tuple(renamed[key] for key in keys) for r, keys in job.series.items()},
            label=job.label,
        )
        made[copy.key], renamed[key] = copy, copy.key
    seconds = {key: float(job.spec["seconds"]) for key, job in made.items()}
    chain = max(remaining_chain(made, lambda job: seconds[job.key]).values())
    bound = max(sum(seconds.values()) / 8, chain)
    with local_ray(8):
        done = ours(made, 8, seconds=lambda job: seconds[job.key])
    # As in a script that runs one stage after the other.
    stages = {stage: {k: j for k, j in made.items() if j.stage == stage} for stage in STAGES}
    barriers = sum(makespan(part, seconds, 8) for part in stages.values())
    return {
        "jobs": len(made),
        "lower_bound_s": bound,
        "ours_s": done.span,
        "with_barriers_s": barriers,
        "ours_over_bound": done.span / bound,
        "barriers_over_bound": barriers / bound,
        "processes": done.processes,
        "ok": done.span / bound <= 1.10,
    }


def large(count: int) -> dict[str, Any]:
    """Part 6: the driver at many jobs: memory and time per job."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with local_ray(2):
        done = ours(diamonds(count, 0.0), 2)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "jobs": count,
        "driver_peak_mb_before": before,
        "driver_peak_mb": after,
        "driver_cpu_ms_per_job": 1000 * done.cpu / count,
        "ms_per_job": 1000 * done.span / count,
        "ok": True,
    }


PLACING_MILLISECONDS = 2.0
FILL_SECONDS = 2.0


def fill(nodes: list[Node], wide: Request, narrow: Request) -> dict[str, float]:
    """A start of two shapes that fills the machines: no Ray, only what decides about it.

    Every slot is warmed up and given a job, then a third of them change their shape.
    """
    slots = Slots(narrow, nodes)
    room, numbers = slots.count(), itertools.count()
    waiting = Counter({narrow: 4 * room})
    idle: dict[str, Placement] = {}
    running: dict[str, Placement] = {}
    worst = 0.0

    def settle() -> None:
        nonlocal worst
        while True:
            ready = {
                shape: Ready(seconds=60.0 * count, priority=float(shape.gpus), count=count)
                for shape, count in waiting.items()
                if count
            }
            began = time.perf_counter()
            placement = slots.place(ready, 8 * room)
            worst = max(worst, time.perf_counter() - began)
            if placement is None:
                return
            name = f"t{next(numbers)}"
            slots.start(name, placement)
            (idle if placement.idle else running)[name] = placement
            waiting[placement.request] -= not placement.idle
            for displaced in placement.displaced:
                process = processes.pop(displaced, "")
                idle.pop(displaced)
                slots.end(displaced, process)
            if placement.process:
                processes[name] = placement.process

    def report() -> None:
        for name in [name for name in idle if name not in processes]:
            processes[name] = f"p{name}"
            slots.warm(name, processes[name])

    processes: dict[str, str] = {}
    began = time.perf_counter()
    settle()
    report()
    settle()
    filled = time.perf_counter() - began
    assert len(running) == room, (len(running), room)
    waiting[wide] = room // 6
    for name in list(running)[: room // 3]:
        del running[name]
        slots.end(name, processes.pop(name, ""))
        settle()
        report()
    return {"slots": room, "worst_ms": 1000 * worst, "fill_s": filled}


def placing() -> dict[str, Any]:
    """Part 7: what to start next on 256 GPUs, the worst answer and a start that fills them all."""
    half, whole = Request(gpus=0.5), Request(gpus=1.0)
    with_memory = Request(gpus=0.5, memory_gb=8), Request(gpus=1.0, memory_gb=16)
    equal = [Node(cpus=16, gpus=4, memory_gb=64)] * 64
    # As Ray reports machines of one type: no two have the same memory to the byte.
    unequal = [Node(cpus=4, gpus=1, memory_gb=32 + place / 1000) for place in range(256)]
    found: dict[str, Any] = {}
    for name, value in {
        "equal": fill(equal, whole, half),
        "unequal": fill(unequal, with_memory[1], with_memory[0]),
    }.items():
        found |= {f"{name}_{what}": number for what, number in value.items()}
    found["ok"] = all(
        found[f"{name}_worst_ms"] <= PLACING_MILLISECONDS
        and found[f"{name}_fill_s"] <= FILL_SECONDS
        for name in ("equal", "unequal")
    )
    return found


LEASES, LEASES_RATIO = 512, 5.0
ANSWER_SECONDS = 0.03
"""Of a bucket in the same region, to a small request; the loopback answers in a tenth of it."""


def leases() -> dict[str, Any]:
    """Part 8: who holds 512 leases in a bucket, read side by side and one after the other."""
    from unittest.mock import patch

    from support.object_server import object_server

    from sweeps.store import leases as engine
    from sweeps.store.lease_places import LeaseObjects
    from sweeps.store.objects import Bucket

    jobs = list(flat(LEASES, 0.0).values())

    def answer(_method: str, _path: str) -> None:
        time.sleep(ANSWER_SECONDS)

    def read() -> float:
        # A fresh place, which remembers no lease.
        place = engine.Leases(LeaseObjects(Bucket(address)))
        began = time.perf_counter()
        found = place.holders()
        seconds = time.perf_counter() - began
        assert len(found) == LEASES
        return seconds

    with object_server() as server, patch.dict(os.environ, server.environment()):
        address = f"s3://{server.new_bucket()}"
        place = engine.Leases(LeaseObjects(Bucket(address)))
        assert all(place.acquire(job) for job in jobs)
        server.interfere = answer
        together = read()
        with patch.object(engine, "_READ_AT_A_TIME", 1):
            alone = read()
    ratio = alone / together
    return {
        "side_by_side_s": together,
        "one_after_the_other_s": alone,
        "ratio": ratio,
        "ok": ratio >= LEASES_RATIO,
    }


def main() -> None:
    """Run the parts that were asked for and print what they found."""
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "busy": busy,
        "shapes": shapes,
        "latency": latency,
        "realistic": lambda: realistic(1.0),
        "overhead": lambda: overhead(5000),
        "large": lambda: large(10_000),
        "placing": placing,
        "leases": leases,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=", ".join(parts))
    chosen = parser.parse_args().parts or list(parts)
    found = {}
    for name in chosen:
        began = time.perf_counter()
        found[name] = parts[name]()
        print(f"{name} ({time.perf_counter() - began:.0f} s)", flush=True)
        for what, value in found[name].items():
            print(f"  {what}: {value:.4g}" if isinstance(value, float) else f"  {what}: {value}")
    print(
        json.dumps(
            {
                "benchmark": "engine",
                "ratio": found.get("overhead", {}).get("ratio"),
                "bar": 50,
                "ok": all(part["ok"] for part in found.values()),
                **found,
            }
        )
    )


if __name__ == "__main__":
    main()
