"""One Ray Tune run for a whole sweep: trials are jobs, handed out as their inputs get done.

What was measured, and why it is done this way, is in docs/decisions/0002 and 0007.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from typing_extensions import override

from oneshui.errors import InputError, OneshuiError
from sweeps.executor.before_ray import guard_token, only_gpus, require_short_paths
from sweeps.executor.lease_watch import LeaseWatch
from sweeps.graph.job import Job
from sweeps.graph.launch import ClusterSpec, Device
from sweeps.schedule.resources import ResourceRequests
from sweeps.schedule.room import Node, Room
from sweeps.schedule.scheduler import Scheduler
from sweeps.schedule.slots import Slots
from sweeps.stages.context import WorkerEnvironment
from sweeps.stages.devices import count_named
from sweeps.store.leases import Holder, this_host
from sweeps.store.private import lock_of, runtime_folder

_SETTINGS = {
    # Ray would ship the whole environment to the workers when the driver was started by uv.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # At Ray's 15 a busy machine starves workers until they look as if they hung.
    "RAY_worker_niceness": "5",
    "RAY_DEDUP_LOGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Ctrl-C must end the sweep, not only ask Tune to stop at its convenience.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # Its snapshots are not what we resume from.
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # The searcher limits what is handed out, by the room that it sees.
    "TUNE_MAX_PENDING_TRIALS_PG": "1024",
}
for _name, _value in _SETTINGS.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray._private.accelerators import NvidiaGPUAcceleratorManager  # noqa: E402
from ray.job_config import JobConfig  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

from sweeps.executor.machine_watch import MachineWatch, refusal  # noqa: E402
from sweeps.executor.process_watch import ProcessWatch  # noqa: E402
from sweeps.executor.searcher import GraphSearcher, IdleStopper  # noqa: E402
from sweeps.executor.sharing import Sharing  # noqa: E402
from sweeps.executor.spot.purchase import refusal_path  # noqa: E402
from sweeps.executor.trainable import Execute, JobTrainable, prepare_worker  # noqa: E402
from sweeps.executor.worker import execute  # noqa: E402

OBJECT_STORE_BYTES = 100 * 1024 * 1024
_GIGABYTE = 2.0**30
_count_gpus = NvidiaGPUAcceleratorManager.get_current_node_num_accelerators
_STARTS = 3
_CODE = Path(__file__).parents[2]
"""The folder of our packages."""

_GROUP_LABEL = "ray.io/node-group"


class _OurCode(JobConfig):
    """Has workers look for modules where ours are, and not in the driver's working folder.

    Ray would put that first, and it is the user's: a folder in it may be called as ours.
    """

    def __init__(self) -> None:
        super().__init__(_py_driver_sys_path=[str(_CODE)])

    @override
    def _runtime_env_has_working_dir(self) -> bool:
        # What Ray asks before it adds the working folder.
        return True


@contextlib.contextmanager
def ray_cluster(cluster: ClusterSpec, output_dir: Path, device: Device = "auto") -> Iterator[str]:
    """Start Ray on this machine, or join the cluster that the driver is on.

    The block is given the address of Ray's dashboard, or nothing where none was asked for.

    Args:
        cluster: Which of the two, and with what.
        output_dir: Folder of the sweep.
        device: What the command names: Ray hands out accelerators that it does not know itself.

    Raises:
        InputError: There is no cluster to join, none can be started here, or the device that is
            named is not here.
    """
    if cluster.dashboard:
        _require_dashboard()
    for name in ("ray", "ray.tune", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    guard_token(output_dir, create=cluster.mode == "local")
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    common["job_config"] = _OurCode()
    if cluster.mode == "existing":
        try:
            context = ray.init(address="auto", **common)
        except ConnectionError:
            raise InputError(
                "cluster=existing found no Ray cluster on this machine; start one, or use "
                "cluster=local"
            ) from None
    else:
        given = count_named(device)
        with only_gpus(cluster.gpus, _count_gpus):
            context = _start_here(
                **({} if given is None else {"num_gpus": given}),
                num_cpus=_local_workers(cluster) * cluster.cpus_per_worker,
                include_dashboard=cluster.dashboard,
                dashboard_host="127.0.0.1",
                object_store_memory=OBJECT_STORE_BYTES,
                **common,
            )
    address = context.dashboard_url if cluster.dashboard else ""
    try:
        yield f"http://{address}" if address else ""
    finally:
        ray.shutdown()


def _require_dashboard() -> None:
    try:
        importlib.import_module("ray.dashboard.optional_deps")
    except ImportError:
        raise InputError(
            "cluster.dashboard=true needs what Ray's dashboard is made of; install it with "
            "uv sync --extra cluster, or leave cluster.dashboard out"
        ) from None


def _start_here(**options: Any) -> Any:
    """Start Ray on this machine, after others that are starting it now.

    Ray gives its own start half a minute, whatever it is told; several drivers that begin at the
    same moment would not make that.
    """
    require_short_paths()
    with lock_of(runtime_folder() / "ray.lock"):
        for attempt in range(_STARTS):
            try:
                return ray.init(address="local", **options)
            except Exception as error:
                # Ray raises no more special class when its processes do not come up in time.
                if attempt == _STARTS - 1:
                    raise InputError(
                        f"Ray did not start on this machine ({str(error).splitlines()[0]}); is it "
                        "short of memory or busy with other work? finished jobs are kept: run the "
                        "same command again"
                    ) from error
                ray.shutdown()
    raise AssertionError("the last attempt returns or raises")


def _local_workers(cluster: ClusterSpec) -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cluster.workers or max(1, (available or 1) // cluster.cpus_per_worker)


def _alive() -> list[dict[str, Any]]:
    known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in known if node["Alive"]]


def _node(resources: Mapping[str, float]) -> Node:
    return Node(
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        memory_gb=resources.get("memory", 0.0) / _GIGABYTE,
    )


def cluster_nodes(cluster: ClusterSpec) -> list[Node]:
    """The machines of the running cluster, and those that its autoscaler may add."""
    alive = _alive()
    found = [_node(node["Resources"]) for node in alive]
    there = Counter(node["Labels"].get(_GROUP_LABEL, "") for node in alive)
    for name, kind in cluster.machines.items():
        new = Node(cpus=kind.cpus, gpus=kind.gpus, memory_gb=kind.memory_gb)
        found += [new] * max(0, kind.most - there[name])
    return found


def has_gpus(cluster: ClusterSpec, device: Device) -> bool:
    """Whether jobs compute on GPUs, or accelerators that count as such.

    Args:
        cluster: The running one.
        device: What the command names.

    Raises:
        InputError: It names one, and no machine has any.
    """
    found = device != "cpu" and any(node.gpus for node in cluster_nodes(cluster))
    if device not in ("auto", "cpu") and not found:
        raise InputError(
            f"device is {device!r}, but no machine of the cluster has a GPU in Ray's books; start "
            "Ray there with --num-gpus, or leave device out"
        )
    return found


def make_slots(cluster: ClusterSpec, requests: ResourceRequests) -> Slots:
    """The slots of the running cluster.

    Raises:
        InputError: A job asks for more than any machine has: it would wait for ever.
    """
    slots = Slots(
        default=requests.default,
        nodes=cluster_nodes(cluster),
        limit=cluster.workers,
        elastic=bool(cluster.machines),
    )
    too_large = slots.infeasible([requests.default, *requests.all_requests()])
    if too_large is not None:
        largest = max(slots.nodes, key=lambda node: (node.gpus, node.cpus), default=Node(cpus=0))
        raise InputError(
            f"a job asks for {too_large}, but no machine of the cluster has that (the largest has "
            f"{largest.cpus:g} CPU, {largest.gpus:g} GPU and {largest.memory_gb:.0f} GB); lower "
            "cluster.cpus_per_worker, cluster.gpus_per_worker, cluster.memory_gb_per_worker, "
            "cluster.stages or the dataset's resources" + _unnamed_machines(cluster)
        )
    return slots


def _unnamed_machines(cluster: ClusterSpec) -> str:
    """What to do where an autoscaler would add machines, which Ray's books do not show."""
    if cluster.mode != "existing" or cluster.machines:
        return ""
    return (
        "; if the cluster adds machines when they are needed, name them, as in "
        "cluster.machines={gpu: {cpus: 4, gpus: 1, most: 8}}"
    )


def _is_gone(node: str) -> bool:
    return all(known["NodeID"] != node for known in _alive())


def _end_process(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _end_on_node(pid: int, node: str) -> None:
    """End a process that Ray itself says it has on a node."""
    _call_on_node(node, _end_process, pid)


def _end_holder(holder: Holder) -> None:
    """Kill the process that holds a lease, on whichever machine of the cluster it runs."""
    if holder.host == this_host():
        holder.kill()
    elif holder.node:
        _call_on_node(holder.node, Holder.kill, holder)


def _call_on_node(node: str, function: Callable[..., None], *arguments: Any) -> None:
    if not _is_gone(node):
        where = NodeAffinitySchedulingStrategy(node, soft=False)
        call: Any = ray.remote(function).options(num_cpus=0, scheduling_strategy=where)
        call.remote(*arguments)


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What a run cost beside its jobs.

    Attributes:
        processes: Worker processes that did something.
        idle_trials: Trials that only kept a process warm.
    """

    processes: int
    idle_trials: int


def _resources_of(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    bundle = {"CPU": float(config["cpus"])}
    if config["gpus"]:
        bundle["GPU"] = float(config["gpus"])
    if config["memory_gb"]:
        bundle["memory"] = config["memory_gb"] * _GIGABYTE
    return tune.PlacementGroupFactory([bundle])


def run_sweep(
    scheduler: Scheduler,
    jobs: Mapping[str, Job],
    env: WorkerEnvironment,
    cluster: ClusterSpec,
    slots: Slots,
    requests: ResourceRequests,
    on_change: Callable[[], None],
    *,
    run: Execute = execute,
    prepare: Callable[[Mapping[str, Job], WorkerEnvironment], str] = prepare_worker,
) -> Statistics:
    """Run all jobs that the scheduler hands out, on the running cluster, as one Tune run.

    Args:
        scheduler: The graph's state; says in the end what was done and what failed.
        jobs: The whole graph.
        env: What workers need to know.
        cluster: Limits of time.
        slots: What ``make_slots`` returned.
        requests: What jobs ask for.
        on_change: Called when a job starts or ends.
        run: Runs one job in a worker.
        prepare: Makes a worker's process ready for its first job.

    Raises:
        InputError: A worker cannot do what the sweep asks for.
        OneshuiError: Tune ended before the graph did.
    """
    env = replace(
        env,
        heartbeat_seconds=cluster.heartbeat_seconds,
        checkpoint_seconds=cluster.checkpoint_seconds,
        machine_workers=cluster.machine_workers,
    )
    watch = LeaseWatch(
        scheduler,
        env.store,
        jobs,
        silence_seconds=cluster.heartbeat_seconds,
        job_seconds=cluster.max_job_hours * 3600,
        kill=_end_holder,
    )
    machines = MachineWatch(lambda: refusal(refusal_path()))
    sharing = Sharing() if cluster.mode == "existing" else None

    def look() -> list[Node]:
        if cluster.machines:
            there = sum(node["Resources"].get("CPU", 0) > 0 for node in _alive())
            machines.look(there, scheduler.num_open)
        found = cluster_nodes(cluster)
        if sharing is not None:
            places = Room(found).count(requests.default)
            slots.limit = sharing.limit(places, scheduler.num_wanted, cluster.workers)
        return found

    searcher = GraphSearcher(
        scheduler,
        slots,
        requests,
        watch,
        jobs=jobs,
        logs=env.logs,
        look=look,
        holder=env.store.leases.holder,
        is_gone=_is_gone,
        on_change=on_change,
    )
    # A sweep that joins others asks for its share from the first trial on.
    slots.nodes = look()
    trainable = tune.with_parameters(
        JobTrainable, jobs=dict(jobs), env=env, run=run, prepare=prepare
    )
    with tempfile.TemporaryDirectory(prefix="oneshui-tune-") as folder, watch:
        tuner = tune.Tuner(
            tune.with_resources(trainable, _resources_of),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=folder,
                stop=IdleStopper(searcher),
                callbacks=[
                    ProcessWatch(searcher, limit=cluster.start_seconds, end_process=_end_on_node)
                ],
                failure_config=tune.FailureConfig(max_failures=0),
                # Tune saves class trainables at the end unless told not to; ours have no state.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        finally:
            if sharing is not None:
                sharing.end()
    if searcher.error is not None:
        raise searcher.error
    if not scheduler.finished:
        raise OneshuiError("Ray Tune ended before the sweep did; run the same command again")
    return Statistics(processes=len(searcher.processes), idle_trials=searcher.num_idle_trials)
