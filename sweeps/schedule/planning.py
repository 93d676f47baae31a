"""What a sweep will take: jobs, hours, cost, longest chain, useful workers. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sweeps.graph.cells import remaining_chain
from sweeps.graph.job import STAGES, Job, Stage
from sweeps.graph.plan import Plan
from sweeps.graph.spec import ClusterSpec
from sweeps.schedule.estimates import Estimates
from sweeps.schedule.forecast import makespan, useful_workers
from sweeps.schedule.resources import Packer
from sweeps.schedule.simulation import Machines, Simulated, simulate

MACHINES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Sizes of cluster that are simulated, one GPU a machine."""


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
    """

    stages: Mapping[Stage, StagePlan]
    chain_seconds: float
    useful_workers: int
    seconds: Mapping[int, float]
    simulated: Mapping[int, tuple[Simulated, Simulated]]
    places: int

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
    packer: Packer,
    interruptions_per_hour: float,
) -> Forecast:
    """What the jobs that must run will take.

    Args:
        plan: The graph.
        reasons: Why each job that is not in the store must run, by key.
        estimates: How long jobs take.
        packer: What they ask for.
        interruptions_per_hour: Of each simulated machine.
    """
    left = {key: job for key, job in plan.jobs.items() if key in reasons}
    seconds = {key: estimates.seconds(job) for key, job in left.items()}
    stages = {}
    for stage in STAGES:
        jobs = [job for job in plan.jobs.values() if job.stage == stage]
        if jobs:
            stages[stage] = _stage(jobs, reasons, seconds, estimates, packer)
    useful = useful_workers(left, seconds)
    counts = sorted({count for count in (1, 4, 8, 16, 64) if count < useful} | {useful} - {0})
    chain = remaining_chain(left, lambda job: seconds[job.key])
    share = packer.default.gpus
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
    )


def _stage(
    jobs: list[Job],
    reasons: Mapping[str, str],
    seconds: Mapping[str, float],
    estimates: Estimates,
    packer: Packer,
) -> StagePlan:
    left = [job for job in jobs if job.key in reasons]
    requests = {job.key: packer.request(job) for job in left}
    return StagePlan(
        jobs=len(jobs),
        done=len(jobs) - len(left),
        reasons=dict(sorted(Counter(reasons[job.key] for job in left).items())),
        cpu_hours=sum(seconds[job.key] * requests[job.key].cpus for job in left) / 3600,
        gpu_hours=sum(seconds[job.key] * requests[job.key].gpus for job in left) / 3600,
        guessed=sum(estimates.is_guess(job) for job in left),
    )
