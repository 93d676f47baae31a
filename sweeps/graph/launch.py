"""What one command asks for: a sweep, where it runs, and what is wanted of it. Pure.

Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from oneshui.errors import InputError
from oneshui.plugins import Plugin
from oneshui.spec import require
from sweeps.graph.artifacts import Without
from sweeps.graph.job import Stage
from sweeps.graph.spec import AT_MOST_ONE_GPU, StageResources, SweepSpec

Device = Literal["auto", "cpu", "cuda", "mps", "xpu"]
"""What jobs compute on: "auto" is Ray's GPUs where there are any, else the processor."""
Listed = Literal["sweeps", "datasets", "methods", "keys"]
"""What ``mode=list`` can be asked about."""


@dataclass(frozen=True, kw_only=True)
class MachineType:
    """Machines that the cluster's autoscaler adds when a job waits for one.

    Attributes:
        cpus: Processors of one machine.
        gpus: GPUs of one machine.
        memory_gb: What Ray may give to its jobs, in 2**30 bytes.
        most: Machines at the same time.
    """

    cpus: float
    gpus: float = 0.0
    memory_gb: float = 0.0
    most: int

    def __post_init__(self) -> None:
        require(self.cpus > 0, "cluster.machines cpus", self.cpus, "above 0")
        for name in ("gpus", "memory_gb"):
            value = getattr(self, name)
            require(value >= 0, f"cluster.machines {name}", value, "0 or more")
        require(1 <= self.most <= 1024, "cluster.machines most", self.most, "1 to 1024")


@dataclass(frozen=True, kw_only=True)
class ClusterSpec:
    """Where jobs run, and what each of them gets.

    Attributes:
        mode: "local" starts Ray here; "existing" joins the cluster that the driver is on.
        dashboard: Whether Ray's own dashboard is started, on loopback.
        machines: What an autoscaler may add, by Ray's name for the type; where there are any,
            ready jobs ask for machines, and machines without jobs are let go.
        machines_file: Launcher file of Ray's that says which machines may be added, instead of
            ``machines``; on a head the one that Ray's autoscaler goes by. Empty for none.
        launcher_file: That of the checkout, which ``mode=plan`` reads on a machine that is no head.
        workers: Jobs at the same time; 0 means one per processor (or per GPU share).
        machine_workers: Jobs at the same time on one machine, of all this user's sweeps that say
            so; 0 counts no others.
        gpus: GPUs that Ray may use on this machine, counted from 0 among those that
            CUDA_VISIBLE_DEVICES shows; None means all of them.
        cpus_per_worker: Processors reserved for each.
        gpus_per_worker: Share of one GPU reserved for each, 0 to 1; None means half a GPU where
            the cluster has GPUs, and none elsewhere.
        memory_gb_per_worker: Main memory reserved for each, in 2**30 bytes; 0 reserves none.
        stages: What jobs of a stage get instead.
        pack_gpus: Whether GPU shares follow the memory that the first job of a kind needed.
        heartbeat_seconds: Silence after which a worker that runs a job counts as hung and is
            replaced.
        start_seconds: The same for one that starts, or waits for a job.
        max_job_hours: Time after which a job that still runs counts as hung.
        checkpoint_seconds: A training keeps a checkpoint at the end of an epoch, if this much
            time has passed since the last.
        price_per_gpu_hour: For the cost in ``mode=plan``; 0 prints none.
        price_per_cpu_hour: The same for processors.
        interruptions_per_hour: How often a spot machine is taken back, for ``mode=plan``.
        head_idle_minutes: A head of ``cluster/aws.yaml`` or ``gcp.yaml`` that no sweep drives for
            so long ends itself, and ten minutes after one that is done and sent; 0: never.
    """

    mode: Literal["local", "existing"] = "local"
    dashboard: bool = False
    machines: Mapping[str, MachineType] = field(default_factory=dict)
    machines_file: str = ""
    launcher_file: str = ""
    workers: int = 0
    machine_workers: int = 0
    gpus: tuple[int, ...] | None = None
    cpus_per_worker: int = 1
    gpus_per_worker: float | None = None
    memory_gb_per_worker: float = 0.0
    stages: Mapping[Stage, StageResources] = field(default_factory=dict)
    pack_gpus: bool = True
    heartbeat_seconds: float = 120.0
    start_seconds: float = 300.0
    max_job_hours: float = 48.0
    checkpoint_seconds: float = 10.0
    price_per_gpu_hour: float = 0.0
    price_per_cpu_hour: float = 0.0
    interruptions_per_hour: float = 0.05
    head_idle_minutes: int = 0

    def __post_init__(self) -> None:
        for name in ("machines", "machines_file", "launcher_file"):
            if getattr(self, name) and self.mode == "local":
                raise InputError(f"cluster.{name} is for cluster=existing: nothing is added here")
        if self.gpus is not None and self.mode == "existing":
            raise InputError(
                "cluster.gpus is for cluster=local: machines of a running cluster were started "
                "with theirs"
            )
        given = self.gpus or ()
        require(
            len(set(given)) == len(given) and all(gpu >= 0 for gpu in given),
            "cluster.gpus",
            list(given),
            "whole numbers from 0 upwards, each once",
        )
        for name in ("workers", "machine_workers"):
            value = getattr(self, name)
            require(0 <= value <= 1024, f"cluster.{name}", value, "0 to 1024")
        idle = self.head_idle_minutes
        require(
            idle == 0 or 10 <= idle <= 100_000,
            "cluster.head_idle_minutes",
            idle,
            "0 for never, or 10 to 100000",
        )
        require(
            self.cpus_per_worker >= 1, "cluster.cpus_per_worker", self.cpus_per_worker, "1 or more"
        )
        share = self.gpus_per_worker
        require(0 <= (share or 0.0) <= 1, "cluster.gpus_per_worker", share, AT_MOST_ONE_GPU)
        for name, lowest in (
            ("heartbeat_seconds", 2.0),
            ("start_seconds", 5.0),
            ("max_job_hours", 0.01),
        ):
            value = getattr(self, name)
            require(value >= lowest, f"cluster.{name}", value, f"{lowest:g} or more")
        for name in (
            "memory_gb_per_worker",
            "checkpoint_seconds",
            "price_per_gpu_hour",
            "price_per_cpu_hour",
            "interruptions_per_hour",
        ):
            require(getattr(self, name) >= 0, f"cluster.{name}", getattr(self, name), "0 or more")


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where things are read and written; no part of any identity.

    Attributes:
        data_dir: Folder that contains the datasets, or ``s3://`` or ``gs://``.
        output_dir: Folder of this sweep.
        store_uri: Folder of the results, or ``s3://`` or ``gs://``; empty for
            ``<output_dir>/store``.
        tracking_uri: MLflow's; empty for a database in ``output_dir``.
        tracking_models: Whether MLflow gets every row's weights as well.
        other_results: Further folders of results, which no method may reach.
        copy_to: Folder, ``s3://`` or ``gs://`` that report and logs are copied to; empty for
            nowhere, None for beside the store where the head ends itself.
    """

    data_dir: str = "data"
    output_dir: str = ""
    store_uri: str = ""
    tracking_uri: str = ""
    tracking_models: bool = False
    other_results: tuple[str, ...] = ()
    copy_to: str | None = None


EQUIVALENCE_MARGIN = 0.02
"""Of ToW: what is shown to be so near to retraining again counts as good as retrained."""


@dataclass(frozen=True, kw_only=True)
class ArchiveSpec:
    """What is done with finished sweeps.

    Attributes:
        to: The archive that mode "export" writes.
        without: What it leaves out.
        other: Output folder of the sweep that mode "diff" compares with.
        sweeps: Output folders of those that mode "join" joins.
        prune: What mode "store" shows or removes; None only tells what there is.
        keep: Output folders whose results stay besides.
        yes: Whether it removes.
    """

    to: str = ""
    without: tuple[Without, ...] = ("images",)
    other: str = ""
    sweeps: tuple[str, ...] = ()
    prune: Literal["unreachable"] | None = None
    keep: tuple[str, ...] = ()
    yes: bool = False


Mode = Literal[
    "run", "plan", "status", "report", "ui", "why", "list", "export", "diff", "join", "store"
]


@dataclass(frozen=True, kw_only=True)
class LaunchSpec:
    """All that one command asks for.

    Attributes:
        mode: "run" runs what is missing, "plan" only counts, "status" says what runs now, "report"
            rebuilds the report, "ui" shows MLflow's pages, "why" says where a number comes from,
            "list" what there is; "export", "diff", "join" and "store" as ``archive`` says.
        sweep: What to compute.
        cluster: Where.
        places: Folders and addresses.
        command: The user's overrides, for messages that say how to go on.
        configuration: What they were composed to, whole.
        row: What mode "why" asks about: dataset, forget size, method and metric.
        run_again: Whether it computes that row again, to compare.
        archive: What modes for finished sweeps are told.
        what: What mode "list" is asked about; None for everything.
        replace: Whether mode "report" may replace another sweep's finished report.
        margin: Of ToW, a fraction: rows that are shown to be so near to retraining again count as
            good as retrained. What is computed does not depend on it.
        show_faces: Whether report and MLflow show pictures of real people; drawn faces they show
            always. What is computed does not depend on it either.
        reference: Row that the report holds every other against; empty for doing nothing alone.
        plugins: The user's own code that the sweep uses.
        device: What jobs compute on; no part of any identity.
    """

    mode: Mode
    sweep: SweepSpec
    cluster: ClusterSpec
    places: Places
    command: tuple[str, ...] = field(default=())
    configuration: Mapping[str, Any] = field(default_factory=dict)
    row: str = ""
    run_again: bool = False
    archive: ArchiveSpec = field(default_factory=ArchiveSpec)
    what: Listed | None = None
    replace: bool = False
    margin: float = EQUIVALENCE_MARGIN
    show_faces: bool = False
    reference: str = ""
    plugins: tuple[Plugin, ...] = ()
    device: Device = "auto"
