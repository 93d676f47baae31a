"""How good the estimates of the end are, on sweeps that were run: ours against the plain way.

    python benchmarks/eta.py TRACE [sweep=demo ...] [--workers 2] [--every 15]

TRACE is the store of a finished sweep, or a JSON file of seconds by label. The sweep is then played
again from nothing: the scheduler hands the same jobs out to as many workers, each takes what it
took, and the estimates are asked for as often as a log prints them. Printed is the share of the
estimates after the first third that were within a factor of 1.5 of the truth, and of those whose
range held it. The plain way is the one from before: the mean of the most particular kind of which a
job was measured, a guess where none was, and work over workers or the longest chain. The bar is
70 %. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.config import load
from sweeps.graph.cells import remaining_chain
from sweeps.graph.job import Job
from sweeps.graph.plan import expand
from sweeps.schedule.estimates import guess, kinds_of
from sweeps.schedule.remaining import Left
from sweeps.schedule.scheduler import Scheduler

BAR = 0.7
FACTOR = 1.5
OVERHEAD_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was said at one moment.

    Attributes:
        now: Seconds since the start.
        ours: Of the scheduler.
        plain: Seconds, of the plain way.
    """

    now: float
    ours: Left
    plain: float


def measured(trace: Path) -> dict[str, float]:
    """Seconds of every job of a store, by label: keys change with the code."""
    if trace.is_file():
        return {str(k): float(v) for k, v in json.loads(trace.read_bytes()).items()}
    found = {}
    for path in trace.glob("*/*/result.json"):
        job = json.loads((path.parent / "job.json").read_bytes())
        found[job["label"]] = float(json.loads(path.read_bytes())["cost"]["seconds"])
    return found


class PlainWay:
    """Means of kinds, each broader than the one before, and guesses that nothing corrects."""

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        """Know nothing yet."""
        self._jobs = jobs
        self._kinds = {k: (*kinds_of(j, jobs)[:3], (j.stage,)) for k, j in jobs.items()}
        self._times: dict[tuple[Any, ...], list[float]] = {}

    def learn(self, key: str, seconds: float) -> None:
        """A job has ended."""
        for kind in self._kinds[key]:
            self._times.setdefault(kind, []).append(seconds)

    def remaining(self, spent: Mapping[str, float], workers: int) -> float:
        """Seconds until the end; ``spent`` has the seconds of every job that is left so far."""
        left = {key: max(self._seconds(key) - each, 0.0) for key, each in spent.items()}
        chain = remaining_chain(self._jobs, lambda job: left.get(job.key, 0.0))
        return max(sum(left.values()) / workers, *chain.values())

    def _seconds(self, key: str) -> float:
        for kind in self._kinds[key]:
            if kind in self._times:
                return sum(self._times[kind]) / len(self._times[kind])
        return guess(self._jobs[key], self._jobs, gpu=False)


def play(
    jobs: Mapping[str, Job],
    seconds: Mapping[str, float],
    workers: int,
    every: float,
) -> Iterator[Asked]:
    """Run a sweep again by its measured seconds; the last one asked is its end."""
    now = 0.0
    scheduler = Scheduler(jobs, workers=workers, clock=lambda: now)
    plain, running = PlainWay(jobs), list[tuple[float, int, str]]()
    began: dict[str, float] = {}
    left = dict.fromkeys(jobs, 0.0)
    free = list(range(workers))
    asked = 0.0
    while left:
        while free and (job := scheduler.next()) is not None:
            began[job.key] = now + OVERHEAD_SECONDS
            heapq.heappush(running, (began[job.key] + seconds[job.label], free.pop(), job.key))
        until, worker, key = heapq.heappop(running)
        while asked + every < until:
            asked = now = asked + every
            spent = left | {key: max(0.0, now - start) for key, start in began.items()}
            yield Asked(
                now=now, ours=scheduler.snapshot().left, plain=plain.remaining(spent, workers)
            )
        now = until
        took = seconds[jobs[key].label]
        scheduler.succeed(key, took, str(worker))
        plain.learn(key, took)
        del left[key], began[key]
        free.append(worker)
    yield Asked(now=now, ours=Left(), plain=0.0)


def share_within(said: Sequence[tuple[float, float]], factor: float = FACTOR) -> float:
    """Of pairs of what was said and what was true, those that are so near to each other."""
    near = [abs(math.log(max(ours, 1e-3) / true)) <= math.log(factor) for ours, true in said]
    return sum(near) / len(near)


def judged(asked: Sequence[Asked]) -> dict[str, Any]:
    """Shares of the estimates of a run, after its first third."""
    end = asked[-1].now
    late = [one for one in asked[:-1] if one.now >= end / 3]
    known = [one for one in late if one.ours.is_known]
    within = [
        one.ours.seconds / one.ours.factor <= end - one.now <= one.ours.seconds * one.ours.factor
        for one in known
    ]
    return {
        "seconds": end,
        "asked": len(late),
        "known": len(known),
        "ours": share_within([(one.ours.seconds, end - one.now) for one in known]),
        "in_range": sum(within) / len(within),
        "plain": share_within([(one.plain, end - one.now) for one in late]),
    }


def main() -> None:
    """Print every estimate, and the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=float, default=15.0)
    given = parser.parse_intermixed_args()
    jobs = expand(load(given.overrides).sweep).jobs
    asked = list(play(jobs, measured(given.trace), given.workers, given.every))
    end = asked[-1].now
    for one in asked[:-1]:
        known = "" if one.ours.is_known else "   (not printed)"
        print(
            f"at {one.now:5.0f} s: true {end - one.now:5.0f}, ours {one.ours.seconds:5.0f} "
            f"(factor {one.ours.factor:.2f}), plain {one.plain:5.0f}{known}"
        )
    found = judged(asked)
    found["ok"] = found["ours"] >= BAR
    print(json.dumps({"benchmark": "eta", **found}))


if __name__ == "__main__":
    main()
