"""What each job asks of its node: from the configuration, then from measured memory.

Pure. Ray's GPU shares are bookkeeping: nothing limits memory, so the shares must be honest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from sweeps.graph.cells import index_job
from sweeps.graph.job import Job
from sweeps.graph.launch import ClusterSpec
from sweeps.graph.spec import StageResources, SweepSpec
from sweeps.schedule.estimates import JobKind, dataset_of, kinds_of
from sweeps.schedule.room import Request

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Few sizes, because a warm process is reused only for an equal request."""

HEADROOM = 1.25
"""Measured peak times this must fit: the allocator's reserve and the CUDA context come on top."""

GPU_SHARE = 0.5
"""Of a job that was never measured, where nothing is configured: two trainings share a GPU."""


def default_request(cluster: ClusterSpec, *, has_gpu: bool) -> Request:
    """Shape of the slots that are kept warm."""
    share = cluster.gpus_per_worker
    if share is None:
        share = GPU_SHARE if has_gpu else 0.0
    return Request(cpus=cluster.cpus_per_worker, gpus=share, memory_gb=cluster.memory_gb_per_worker)


class ResourceRequests:
    """The requests of a sweep's jobs; learns peaks and enlarges after an out of memory."""

    def __init__(
        self,
        sweep: SweepSpec,
        cluster: ClusterSpec,
        jobs: Mapping[str, Job],
        measured: Iterable[tuple[Job, float]] = (),
        *,
        has_gpu: bool = False,
        gpu_bytes: int = 0,
    ) -> None:
        """Start from the configuration and what earlier runs measured.

        Args:
            sweep: Its datasets may have resources of their own.
            cluster: Resources of one job and of stages.
            jobs: The graph.
            measured: Finished jobs with their peak GPU memory in bytes.
            has_gpu: Whether the cluster has GPUs.
            gpu_bytes: Memory of one GPU; 0 while that is not known.
        """
        self._jobs = jobs
        self._cluster = cluster
        self._default = default_request(cluster, has_gpu=has_gpu)
        self._dataset_of = _names(sweep)
        self._resources = {name: spec.resources for name, spec in sweep.datasets.items()}
        self._peaks: dict[JobKind, float] = {}
        self._enlarged: dict[str, Request] = {}
        self.gpu_bytes = gpu_bytes
        for job, peak in measured:
            self.record(job, peak)

    @property
    def default(self) -> Request:
        """Shape of a job of which nothing particular is known."""
        return self._default

    def _kind(self, job: Job) -> JobKind:
        # Memory depends on model, method and batch, hardly on how many people are forgotten.
        return kinds_of(job, self._jobs)[1]

    def record(self, job: Job, peak: float) -> None:
        """Note the peak GPU memory in bytes of a finished job."""
        if peak:
            kind = self._kind(job)
            self._peaks[kind] = max(self._peaks.get(kind, 0.0), peak)

    def _configured(self, job: Job) -> tuple[Request, bool]:
        """What the configuration says, and whether it says so for this stage."""
        request, particular = self._default, False
        dataset = dataset_of(job, self._jobs)
        name = self._dataset_of.get(dataset.key, "") if dataset else ""
        for table in (self._cluster.stages, self._resources.get(name, {})):
            own = table.get(job.stage)
            if own is not None:
                request, particular = _changed(request, own), True
        return request, particular

    def request(self, job: Job) -> Request:
        """What a job asks of its node now."""
        if job.key in self._enlarged:
            return self._enlarged[job.key]
        request, particular = self._configured(job)
        peak = self._peaks.get(self._kind(job))
        packed = self._cluster.pack_gpus and not particular and request.gpus > 0
        if not packed or peak is None or not self.gpu_bytes:
            return request
        wanted = peak * HEADROOM / self.gpu_bytes
        return replace(request, gpus=next((s for s in SHARES if s >= wanted), 1.0))

    def enlarge(self, job: Job, fits: Callable[[Request], bool] = lambda _request: True) -> None:
        """Ask for twice as much after the job ran out of memory: the neighbour gets none of it.

        Args:
            job: The job.
            fits: Whether any machine has so much; what none has is not asked for.
        """
        request = self.request(job)
        gpus = min(1.0, 2 * request.gpus)
        for larger in (
            replace(request, gpus=gpus, memory_gb=2 * request.memory_gb),
            replace(request, gpus=gpus),
        ):
            if fits(larger):
                self._enlarged[job.key] = larger
                return

    def all_requests(self) -> list[Request]:
        """The different requests of the whole graph."""
        return sorted({self.request(job) for job in self._jobs.values()})


def _changed(request: Request, own: StageResources) -> Request:
    given = {"cpus": own.cpus, "gpus": own.gpus, "memory_gb": own.memory_gb}
    return replace(request, **{name: value for name, value in given.items() if value is not None})


def _names(sweep: SweepSpec) -> dict[str, str]:
    return {index_job(spec, sweep.versions).key: name for name, spec in sweep.datasets.items()}
