"""What went wrong in a sweep, told once per cause and not once per job.

Pure. A cause is the class of a failure and its message without what differs from job to job.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeps.command import lasting, override_key, shell_line
from sweeps.graph.cells import dependants
from sweeps.graph.held_out import sizes_behind
from sweeps.graph.job import log_path
from sweeps.graph.plan import Plan
from sweeps.schedule.failure import Failure

_VARYING = re.compile(r"(/[^\s:,;()]+)|\b[0-9a-f]{12,}\b|[-+]?\b\d+(?:\.\d+)?(?:e[-+]?\d+)?\b")
_PARTS = ("sweep.datasets", "sweep.forget_sizes", "sweep.seeds", "sweep.methods")


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One reason why jobs failed.

    Attributes:
        cause: The first job's message.
        labels: The jobs that failed for it, in the order of the plan.
        blocked: Number of jobs that could not start because of them.
        command: The smallest command that runs into it again.
        log: Log file of the first job.
    """

    cause: str
    labels: tuple[str, ...]
    blocked: int
    command: str
    log: Path

    @property
    def count(self) -> int:
        """How many jobs."""
        return len(self.labels)

    def lines(self) -> list[str]:
        """The cause for people: what, how often, how to see it again, where to read more."""
        more = self.count - 1
        jobs = f"{self.labels[0]} and {more} more jobs" if more else self.labels[0]
        waiting = f"; {self.blocked} jobs wait for it" if self.blocked else ""
        return [
            f"failed: {jobs}: {self.cause}{waiting}",
            f"        again: {self.command}",
            f"        log {self.log}",
        ]


def group_failures(
    plan: Plan,
    failures: Mapping[str, Failure],
    blocked: Collection[str],
    *,
    logs: Path,
    command: Callable[[str], str],
) -> list[Cause]:
    """The causes of a sweep's failures, the most frequent first.

    Args:
        plan: The graph.
        failures: By key of the job.
        blocked: Keys of jobs that could not start.
        logs: Folder of the log files.
        command: The smallest command that runs a job again, by its key.
    """
    groups: dict[tuple[str, str, str], list[str]] = {}
    for key in plan.jobs:
        if key in failures:
            failure = failures[key]
            pattern = _VARYING.sub("#", failure.message)
            groups.setdefault((failure.kind, plan.jobs[key].stage, pattern), []).append(key)
    needing = dependants(plan.jobs)
    causes = []
    for keys in sorted(groups.values(), key=len, reverse=True):
        waiting = _after(keys, needing) & set(blocked)
        causes.append(
            Cause(
                cause=failures[keys[0]].message,
                labels=tuple(plan.jobs[key].label for key in keys),
                blocked=len(waiting),
                command=command(keys[0]),
                log=log_path(logs, keys[0]),
            )
        )
    return causes


def _after(keys: Sequence[str], needing: Mapping[str, Sequence[str]]) -> set[str]:
    found: set[str] = set()
    left = list(keys)
    while left:
        for key in needing[left.pop()]:
            if key not in found:
                found.add(key)
                left.append(key)
    return found


def smallest_command(
    plan: Plan,
    key: str,
    overrides: Sequence[str],
    plan_of: Callable[[Sequence[str]], Plan],
    places: Sequence[str] = (),
) -> str:
    """The command that runs the fewest rows and yet the job with this key.

    Args:
        plan: The graph.
        key: Of the job.
        overrides: What the user typed.
        plan_of: The graph of other overrides.
        places: Overrides that lead it elsewhere, so that it leaves the sweep's own report alone.
    """
    replaced = {override_key(text) for text in places}
    overrides = [
        *(text for text in lasting(overrides) if override_key(text) not in replaced),
        *places,
    ]
    kept = [text for text in overrides if override_key(text) not in _PARTS]
    rows = [row for row in plan.results if key in plan.needed(row, with_chains=True)]
    if rows:
        first = rows[0]
        dataset = f"sweep.datasets=[{first.cell.dataset}]"
        # A study keeps out whom cells of other sizes and seeds forget.
        sizes = dict.fromkeys(
            [(first.cell.num_forget,), sizes_behind(plan.sweep, first.cell, first.row)]
        )
        method = f"sweep.methods=[{first.row.study}]"
        seeds = list(dict.fromkeys(cell.seed for cell in plan.sweep.cells))
        # A job that pairs two seeds needs both; its row is in the plan of fewer seeds too.
        some = ([first.cell.seed], [seeds[0], first.cell.seed], seeds)
        for size, chosen in itertools.product(sizes, some):
            listed = ",".join(str(seed) for seed in dict.fromkeys(chosen))
            forgotten = f"sweep.forget_sizes=[{','.join(map(str, size))}]"
            tried = [*kept, dataset, forgotten, f"sweep.seeds=[{listed}]", method]
            if key in plan_of(tried).jobs:
                return shell_line(tried)
    return shell_line(overrides)
