"""What a sweep will take: hours, cost, longest chain, useful workers, and machines on demand.

Pure. A simulation, event by event. Jobs start in the scheduler's order, the longest remaining
chain first. A machine is asked for when a ready job finds no free place, comes after its start,
and leaves when it was empty for a while. Interruptions of a machine are a Poisson process. Its
jobs start again; a training from its last whole epoch, a preparation that trains from its last
checkpoint.
"""

from __future__ import annotations

import functools
import heapq
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from oneshui.seeding import python_random
from sweeps.graph.cells import dependants, remaining_chain
from sweeps.graph.job import CHECKPOINTED, STAGES, TRAINING, Job, Stage
from sweeps.graph.launch import ClusterSpec
from sweeps.graph.plan import Plan
from sweeps.schedule.estimates import Estimates
from sweeps.schedule.resources import ResourceRequests

MACHINES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Sizes of cluster that are simulated, one GPU a machine."""

Event = tuple[float, int, Callable[[], None]]


@dataclass(frozen=True, kw_only=True)
class Machines:
    """The machines of a simulation.

    Attributes:
        most: At the same time.
        places: Jobs at the same time on each.
        start_seconds: From the demand to the first job.
        idle_seconds: An empty machine leaves after so long.
        interruptions_per_hour: Mean rate at which each machine is taken back.
        always_on: Whether they are there from the beginning to the end, as in a lab.
        checkpoint_seconds: Between two checkpoints of a preparation.
    """

    most: int
    places: int = 1
    start_seconds: float = 240.0
    idle_seconds: float = 300.0
    interruptions_per_hour: float = 0.0
    always_on: bool = False
    checkpoint_seconds: float = 10.0


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What a simulation found.

    Attributes:
        seconds: From the first demand to the last end.
        machine_seconds: Paid for, starts included.
        busy: Share of the paid places and time in which work was done that was kept.
        interruptions: Machines taken back.
        lost_seconds: Work of jobs that had to be done again.
    """

    seconds: float
    machine_seconds: float
    busy: float
    interruptions: int
    lost_seconds: float


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """One stage of a plan.

    Attributes:
        jobs: All of them.
        done: Those that are in the store.
        reasons: Number of those that must run, by reason.
        cpu_hours: Of those that must run.
        gpu_hours: Of those that must run; shares of a GPU count as shares.
        guessed: How many of them no measured time stands behind.
    """

    jobs: int
    done: int
    reasons: Mapping[str, int]
    cpu_hours: float
    gpu_hours: float
    guessed: int


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What is left of a sweep.

    Attributes:
        stages: By stage, stages without jobs left out.
        chain_seconds: The longest chain of jobs that need each other.
        useful_workers: More do not make it faster; 0 if nothing is left.
        seconds: By number of workers.
        simulated: By number of GPU machines, without interruptions and with them; empty where
            jobs do not run on GPUs.
        places: Jobs at the same time on each of these machines.
        audits: The jobs of all stages that are there for audits alone.
    """

    stages: Mapping[Stage, StagePlan]
    chain_seconds: float
    useful_workers: int
    seconds: Mapping[int, float]
    simulated: Mapping[int, tuple[Simulated, Simulated]]
    places: int
    audits: StagePlan

    @property
    def gpu_hours(self) -> float:
        """Of all stages."""
        return sum(stage.gpu_hours for stage in self.stages.values())

    @property
    def cpu_hours(self) -> float:
        """Of all stages."""
        return sum(stage.cpu_hours for stage in self.stages.values())

    def cost(self, cluster: ClusterSpec) -> float:
        """Price of the hours, in the currency of ``cluster.price_per_gpu_hour``."""
        gpu, cpu = cluster.price_per_gpu_hour, cluster.price_per_cpu_hour
        return self.gpu_hours * gpu + self.cpu_hours * cpu


def forecast(
    plan: Plan,
    reasons: Mapping[str, str],
    estimates: Estimates,
    requests: ResourceRequests,
    interruptions_per_hour: float,
    audits: Collection[str] = (),
) -> Forecast:
    """What the jobs that must run will take.

    Args:
        plan: The graph.
        reasons: Why each job that is not in the store must run, by key.
        estimates: How long jobs take.
        requests: What they ask for.
        interruptions_per_hour: Of each simulated machine.
        audits: Keys of the jobs that audits alone need.
    """
    left = {key: job for key, job in plan.jobs.items() if key in reasons}
    seconds = {key: estimates.seconds(job) for key, job in left.items()}
    stages = {}
    for stage in STAGES:
        jobs = [job for job in plan.jobs.values() if job.stage == stage]
        if jobs:
            stages[stage] = _stage(jobs, reasons, seconds, estimates, requests)
    useful = useful_workers(left, seconds)
    counts = sorted({count for count in (1, 2, 4, 8, 16, 64) if count < useful} | {useful} - {0})
    chain = remaining_chain(left, lambda job: seconds[job.key])
    share = requests.default.gpus
    places = max(1, int(1 / share)) if share else 1
    simulated = {
        most: (
            simulate(left, seconds, Machines(most=most, places=places)),
            simulate(
                left,
                seconds,
                Machines(most=most, places=places, interruptions_per_hour=interruptions_per_hour),
            ),
        )
        for most in (MACHINES if share and left else ())
    }
    return Forecast(
        stages=stages,
        chain_seconds=max(chain.values(), default=0.0),
        useful_workers=useful,
        seconds={count: makespan(left, seconds, count) for count in counts},
        simulated=simulated,
        places=places,
        audits=_stage(
            [plan.jobs[key] for key in plan.jobs if key in audits],
            reasons,
            seconds,
            estimates,
            requests,
        ),
    )


def _stage(
    jobs: list[Job],
    reasons: Mapping[str, str],
    seconds: Mapping[str, float],
    estimates: Estimates,
    requests: ResourceRequests,
) -> StagePlan:
    left = [job for job in jobs if job.key in reasons]
    asked = {job.key: requests.request(job) for job in left}
    return StagePlan(
        jobs=len(jobs),
        done=len(jobs) - len(left),
        reasons=dict(sorted(Counter(reasons[job.key] for job in left).items())),
        cpu_hours=sum(seconds[job.key] * asked[job.key].cpus for job in left) / 3600,
        gpu_hours=sum(seconds[job.key] * asked[job.key].gpus for job in left) / 3600,
        guessed=sum(estimates.is_guess(job) for job in left),
    )


def useful_workers(
    jobs: Mapping[str, Job], seconds: Mapping[str, float], tolerance: float = 0.02
) -> int:
    """The number of workers beyond which more do not help: within tolerance of the best."""
    if not jobs:
        return 0
    best = makespan(jobs, seconds, len(jobs)) * (1 + tolerance)
    low, high = 1, len(jobs)
    while low < high:
        middle = (low + high) // 2
        if makespan(jobs, seconds, middle) <= best:
            high = middle
        else:
            low = middle + 1
    return low


def makespan(
    jobs: Mapping[str, Job],
    seconds: Mapping[str, float],
    workers: int,
    begun: Collection[str] = (),
) -> float:
    """Seconds from the first start to the last end.

    Args:
        jobs: The jobs that are to run; inputs outside of them count as done.
        seconds: Of every job, by key; of those that have begun what they still need.
        workers: Jobs at the same time.
        begun: Keys of jobs that run already.
    """
    # Not simulate(): of jobs that end together, each one's place is filled before the next ends.
    ready = _ReadyJobs(jobs, seconds, begun)
    running = [(seconds[key], key) for key in begun]
    heapq.heapify(running)
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            key = ready.pop()
            heapq.heappush(running, (now + seconds[key], key))
        now, ended = heapq.heappop(running)
        ready.finish(ended)
    return now


def simulate(
    jobs: Mapping[str, Job],
    seconds: Mapping[str, float],
    machines: Machines,
    seed: int = 0,
) -> Simulated:
    """Play a sweep; the same seed gives the same numbers.

    Args:
        jobs: The jobs that are to run; inputs outside of them count as done.
        seconds: Of every job, by key.
        machines: Where they run.
        seed: Of the interruptions.
    """
    return _Play(jobs, seconds, machines, seed).run()


class _ReadyJobs:
    """Jobs whose inputs are done, the longest remaining chain first."""

    def __init__(
        self,
        jobs: Mapping[str, Job],
        seconds: Mapping[str, float],
        begun: Collection[str] = (),
    ) -> None:
        """Begin with the jobs that need none of the others.

        Args:
            jobs: The jobs that are to run; inputs outside of them count as done.
            seconds: Of every job, by key.
            begun: Keys of jobs that are not ready any more.
        """
        self._needing = dependants(jobs)
        self._chain = remaining_chain(jobs, lambda job: seconds[job.key], self._needing)
        self._missing = {
            key: sum(needed in jobs for needed in job.needs) for key, job in jobs.items()
        }
        self._heap: list[tuple[float, str]] = []
        for key, count in self._missing.items():
            if not count and key not in begun:
                self.push(key)

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, key: str) -> None:
        """Make a job ready, for the first time or again."""
        heapq.heappush(self._heap, (-self._chain[key], key))

    def pop(self) -> str:
        """Take the first."""
        return heapq.heappop(self._heap)[1]

    def finish(self, key: str) -> None:
        """A job is done: those that waited for nothing else are ready."""
        for needing in self._needing[key]:
            self._missing[needing] -= 1
            if not self._missing[needing]:
                self.push(needing)


@dataclass(eq=False)
class _Machine:
    since: float
    jobs: dict[str, float] = field(default_factory=dict)
    is_up: bool = False
    emptied: float = 0.0


class _Play:
    def __init__(
        self, jobs: Mapping[str, Job], seconds: Mapping[str, float], machines: Machines, seed: int
    ) -> None:
        self._jobs, self._seconds, self._of = jobs, seconds, machines
        self._random = python_random(seed)
        self._ready = _ReadyJobs(jobs, seconds)
        self._left = dict(seconds)
        self._machines: list[_Machine] = []
        self._events: list[Event] = []
        self._count = 0
        self._now = 0.0
        self._last_end = 0.0
        self._open = len(jobs)
        self._paid = 0.0
        self._lost = 0.0
        self._interruptions = 0

    def _at(self, when: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, what))

    def run(self) -> Simulated:
        if self._of.always_on:
            for _ in range(self._of.most):
                self._ask(0.0)
        else:
            self._ask_for_ready()
        while self._events and self._open:
            self._now = self._events[0][0]
            # All that happens at one moment is known before anything is started.
            while self._events and self._events[0][0] == self._now:
                heapq.heappop(self._events)[2]()
            self._fill()
        for machine in self._machines:
            self._paid += self._last_end - machine.since
        work = sum(self._seconds[key] for key in self._jobs)
        return Simulated(
            seconds=self._last_end,
            machine_seconds=self._paid,
            busy=work / (self._paid * self._of.places) if self._paid else 0.0,
            interruptions=self._interruptions,
            lost_seconds=self._lost,
        )

    def _ask(self, start_seconds: float) -> None:
        machine = _Machine(since=self._now)
        self._machines.append(machine)
        self._at(self._now + start_seconds, lambda: self._come(machine))

    def _ask_for_ready(self) -> None:
        coming = sum(not machine.is_up for machine in self._machines) * self._of.places
        while len(self._ready) > coming and len(self._machines) < self._of.most:
            self._ask(self._of.start_seconds)
            coming += self._of.places

    def _come(self, machine: _Machine) -> None:
        machine.is_up, machine.emptied = True, self._now
        self._watch(machine)
        rate = self._of.interruptions_per_hour / 3600
        if rate:
            self._at(self._now + self._random.expovariate(rate), lambda: self._interrupt(machine))

    def _fill(self) -> None:
        for machine in self._machines:
            while machine.is_up and self._ready and len(machine.jobs) < self._of.places:
                key = self._ready.pop()
                machine.jobs[key] = self._now
                began = self._now
                end = functools.partial(self._end, machine, key, began)
                self._at(began + self._left[key], end)
        self._ask_for_ready()

    def _end(self, machine: _Machine, key: str, began: float) -> None:
        if machine.jobs.get(key) != began:
            # It was interrupted.
            return
        del machine.jobs[key]
        self._open -= 1
        self._last_end = self._now
        self._ready.finish(key)
        if not machine.jobs:
            machine.emptied = self._now
            self._watch(machine)

    def _watch(self, machine: _Machine) -> None:
        if self._of.always_on:
            return
        emptied = machine.emptied

        def leave() -> None:
            if not machine.jobs and machine.emptied == emptied and machine.is_up:
                self._remove(machine)

        self._at(emptied + self._of.idle_seconds, leave)

    def _remove(self, machine: _Machine) -> None:
        machine.is_up = False
        self._machines.remove(machine)
        self._paid += self._now - machine.since

    def _interrupt(self, machine: _Machine) -> None:
        if not machine.is_up:
            return
        self._interruptions += 1
        self._remove(machine)
        for key, began in machine.jobs.items():
            done = self._now - began
            kept = self._kept(key, done)
            self._left[key] -= kept
            self._lost += done - kept
            self._ready.push(key)
        machine.jobs.clear()
        if self._of.always_on:
            self._ask(self._of.start_seconds)

    def _kept(self, key: str, done: float) -> float:
        """Seconds of a job's work that are not lost when its machine goes."""
        job = self._jobs[key]
        if job.stage in TRAINING:
            epochs = job.spec.get("training", {}).get("epochs", 1)
            step = self._seconds[key] / max(1, int(epochs))
        elif job.stage in CHECKPOINTED and "epochs" in job.spec.get("hyperparameters", {}):
            # Offered after every request, far more often than one is written.
            step = self._of.checkpoint_seconds
        else:
            return 0.0
        return done // step * step if step else 0.0
