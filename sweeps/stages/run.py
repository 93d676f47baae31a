"""One job from its inputs to its published result; a worker's first minute."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from oneshui.origin import origin_of
from oneshui.plugins import receive
from oneshui.seeding import seed_shared
from sweeps.graph.job import CHECKPOINTED, Job, Stage
from sweeps.stages import (
    completeness,
    data,
    evaluation,
    likelihood,
    pooling,
    probes,
    sequences,
    training,
    tuning,
    unlearning,
    weights,
)
from sweeps.stages.context import (
    JobContext,
    WorkerEnvironment,
    precision_of,
)
from sweeps.store import DamagedEntryError, Entry
from sweeps.store.private import runtime_folder
from sweeps.store.status import what_counts

logger = logging.getLogger("oneshui.worker")


def run(job: Job, jobs: Mapping[str, Job], env: WorkerEnvironment) -> Entry:
    """Compute one job and publish its result.

    Args:
        job: What to do.
        jobs: The whole graph, to find the inputs' stages.
        env: Store, folders and device.

    Raises:
        DamagedEntryError: An input is not as it was written.
        OneshuiError, Exception: Whatever the stage raises; nothing is published then.
    """
    start = time.perf_counter()
    found = {}
    for key in job.needs:
        entry = env.store.find(jobs[key].stage, key)
        if entry is None:
            raise DamagedEntryError(jobs[key].stage, key, "it has disappeared")
        found[key] = entry
    contents = {name: what_counts(job, found[key]) for name, key in job.needed.items()}
    known = env.store.find(job.stage, job.key)
    if known is not None:
        if known.inputs == contents and not known.left_out:
            # Another driver's worker was faster.
            return known
        if not known.left_out:
            env.store.discard(job.stage, job.key)
    logger.info("%s is computed", job.label)
    started = time.time()
    with env.store.work(job) as work:
        context = JobContext(
            job=job,
            entries={role: found[key] for role, key in job.inputs.items()},
            series={r: tuple(found[key] for key in keys) for r, keys in job.series.items()},
            contents=contents,
            folder=work.folder,
            env=env,
        )
        # A plugin that draws from the shared ones must not depend on what ran here before.
        seed_shared(int(job.key, 16))
        value = STAGES[job.stage](context)
        cost = {
            "started": started,
            "seconds": time.perf_counter() - start,
            "worker": f"{socket.gethostname()}:{os.getpid()}",
            **context.cost,
        }
        published = work.publish(value, contents, cost, origin_of(env.device, precision_of(job)))
    if job.stage in CHECKPOINTED:
        env.store.checkpoint(job, contents).clear()
    return published


def limit_threads(threads: int) -> None:
    """Fix torch's threads: results depend on their number, and slots share the processors."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)


def warm_up(env: WorkerEnvironment) -> None:
    """Import what jobs need and the user's own code, so that the first one does not wait for it.

    What a job finds imported is also what can be watched, and put back if a method changes it.
    Methods' own processes are forked from what this leaves: a process that has read nothing yet.

    Raises:
        InputError: A plugin cannot be loaded here.
    """
    from oneshui.enclosure import keep_nursery

    limit_threads(env.threads)
    receive(env.plugins, runtime_folder() / "plugins")
    import_all()
    keep_nursery()


def import_all() -> None:
    """Import whatever a job may need, and what is found by name."""
    import oneshui.attacks.rmia
    import oneshui.audits.completeness
    import oneshui.audits.likelihood
    import oneshui.audits.reidentification
    import oneshui.audits.relearning
    import oneshui.data.cache
    import oneshui.data.simulated_requests
    import oneshui.measures
    import oneshui.methods
    import oneshui.preparation
    import oneshui.training.models
    import oneshui.training.predict
    import oneshui.training.train
    import oneshui.tuning.objectives
    import oneshui.tuning.simulated
    from oneshui.data.registry import DATASETS
    from oneshui.metrics.registry import MEASURES

    for known in (oneshui.methods, DATASETS, MEASURES):
        known.names()


STAGES: Mapping[Stage, Callable[[JobContext], dict[str, Any]]] = {
    "index": data.index,
    "cache": data.cache,
    "split": data.split,
    "weights": weights.weights,
    "pretrain": training.pretrain,
    "retrain": training.retrain,
    "prepare": unlearning.prepare,
    "simulate": tuning.simulate,
    "trial": tuning.trial,
    "choose": tuning.choose,
    "unlearn": unlearning.unlearn,
    "evaluate": evaluation.evaluate,
    "score": pooling.score,
    "true_tow": tuning.true_tow,
    "sequence": sequences.sequence,
    "examine": likelihood.examine,
    "lira": likelihood.lira,
    "memorisation": likelihood.memorisation,
    "probe": probes.probe,
    "untrained": completeness.untrained,
    "completeness": completeness.completeness,
}
