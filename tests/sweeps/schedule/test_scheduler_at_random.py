"""The scheduler's books stay right whatever happens to it."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import get_args

import pytest
from support.job_graphs import by_key, graph

from sweeps.graph.job import STAGES, Job, Stage
from sweeps.schedule.failure import ATTEMPTS, STOPPING, Failure
from sweeps.schedule.room import Request
from sweeps.schedule.scheduler import Scheduler, State

SMALL, LARGE = Request(cpus=1), Request(cpus=2)
STATES: tuple[State, ...] = get_args(State)


class Play:
    """Does one random thing after the other with a scheduler and looks at its books."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        edges: dict[str, list[str]] = {}
        stages: dict[str, Stage] = {}
        possible = [stage for stage in STAGES if stage not in ("index", "split", "probe")]
        for number in range(self.rng.randint(1, 12)):
            name = f"j{number:02d}"
            edges[name] = self.rng.sample(sorted(edges), self.rng.randint(0, min(number, 3)))
            stages[name] = self.rng.choice(possible)
        self.jobs = by_key(graph(edges, stages))
        self.asked: dict[str, Request] = {}
        self.now = 0.0
        self.is_stopped = False
        done = [key for key in self.jobs if self.rng.random() < 0.2]
        self.scheduler = Scheduler(
            self.jobs, done, workers=1000, request=self.request, clock=lambda: self.now
        )
        # Attempts of each class are few, so a job fails for good now and then.
        self.kinds = sorted(set(ATTEMPTS) - (STOPPING if self.rng.random() < 0.5 else set()))

    def request(self, job: Job) -> Request:
        self.asked[job.key] = self.rng.choice([SMALL, LARGE])
        return self.asked[job.key]

    def act(self) -> None:
        actions = [
            self.start,
            self.start,
            self.start,
            self.succeed,
            self.fail,
            self.hold,
            self.let_go,
        ]
        self.rng.choice(actions)()
        self.now += 1.0

    def one(self, state: State) -> list[str]:
        keys = self.scheduler.keys(state)
        return [self.rng.choice(keys)] if keys else []

    def start(self) -> None:
        shape = self.rng.choice([None, SMALL, LARGE])
        known = [key for key in self.jobs if self.rng.random() < 0.3]
        before = self.scheduler.keys("ready")
        job = self.scheduler.next(shape, known)
        if job is None:
            assert not [key for key in before if shape in (None, self.asked[key])]
            return
        assert job.key in before
        assert shape in (None, self.asked[job.key])

    def succeed(self) -> None:
        for key in self.one(self.rng.choice(["running", "held"])):
            self.scheduler.succeed(key, self.rng.choice([None, 3.0]))

    def fail(self) -> None:
        for key in self.one("running"):
            kind = self.rng.choice(self.kinds)
            inputs = sorted(self.jobs[key].needs)
            damaged = self.rng.choice(inputs) if inputs and kind in ("damaged", "error") else ""
            failure = Failure(kind="damaged" if damaged else kind, message="no", damaged=damaged)
            again = self.scheduler.fail(key, failure)
            self.is_stopped |= failure.kind in STOPPING
            waits = self.scheduler.keys("waiting") + self.scheduler.keys("ready")
            assert again == (key in waits)

    def hold(self) -> None:
        for key in self.one("running"):
            self.scheduler.hold(key)

    def let_go(self) -> None:
        for key in self.one("held"):
            self.scheduler.release(key)

    def check(self) -> None:
        keys = {state: self.scheduler.keys(state) for state in STATES}
        assert sum(map(len, keys.values())) == len(self.jobs)
        snapshot = self.scheduler.snapshot()
        for state in STATES:
            of_stage = Counter(self.jobs[key].stage for key in keys[state])
            assert {s: c[state] for s, c in snapshot.stages.items() if state in c} == of_stage
            assert snapshot.total(state) == len(keys[state])
        num_open = len(self.jobs) - sum(len(keys[s]) for s in ("done", "failed", "blocked"))
        assert self.scheduler.num_open == num_open
        assert self.scheduler.finished == (num_open == 0)
        assert set(self.scheduler.failures()) == set(keys["failed"])
        self.check_ready(keys["ready"], set(keys["done"]))
        # Long after the last look, so that the estimate is made anew.
        self.now += 1e6
        later = self.scheduler.snapshot().left.seconds
        assert later > 0 if keys["waiting"] or keys["ready"] or keys["held"] else later >= 0

    def check_ready(self, keys: list[str], done: set[str]) -> None:
        ready = self.scheduler.ready()
        assert set(ready) == {self.asked[key] for key in keys}
        assert all(found.seconds > 0 and found.priority > 0 for found in ready.values())
        assert all(set(self.jobs[key].needs) <= done for key in keys)
        assert not (self.is_stopped and keys)

    def finish(self) -> None:
        """Nothing is stuck: whoever carries on comes to an end."""
        for _ in range(4 * len(self.jobs) + 4):
            for key in self.scheduler.keys("held"):
                self.scheduler.release(key)
            for key in self.scheduler.keys("running"):
                self.scheduler.succeed(key)
            self.scheduler.next()
        assert self.scheduler.finished


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_the_books_stay_right_whatever_happens(first: int) -> None:
    for seed in range(first, first + 100):
        play = Play(seed)
        play.check()
        for _ in range(50):
            play.act()
            play.check()
        play.finish()
