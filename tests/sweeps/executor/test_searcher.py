"""What the searcher hands to Tune and makes of what comes back; Tune and the cluster are played."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from sweeps.config import load
from sweeps.executor.lease_watch import LeaseWatch
from sweeps.executor.searcher import GraphSearcher
from sweeps.graph.job import Job
from sweeps.graph.launch import ClusterSpec
from sweeps.schedule.failure import Failure
from sweeps.schedule.resources import ResourceRequests
from sweeps.schedule.room import Node
from sweeps.schedule.scheduler import Scheduler
from sweeps.schedule.slots import Placement, Slots
from sweeps.store import LocalStore
from sweeps.store.leases import Holder

GIGABYTE = 2**30


def flat(count: int) -> dict[str, Job]:
    jobs = [
        Job(stage="unlearn", spec={"n": number, "method": "ssd"}, inputs={}, label=str(number))
        for number in range(count)
    ]
    return {job.key: job for job in jobs}


class Play:
    """A cluster of one machine, whose trials end when the test says so."""

    def __init__(self, folder: Path, jobs: Mapping[str, Job], node: Node) -> None:
        cluster = ClusterSpec()
        store = LocalStore(folder)
        self.jobs = jobs
        self.requests = ResourceRequests(
            load(["sweep=smoke"]).sweep, cluster, jobs, has_gpu=node.gpus > 0
        )
        self.slots = Slots(default=self.requests.default, nodes=[node])
        self.scheduler = Scheduler(jobs, request=self.requests.request)
        self.holder: Holder | None = None
        self.store_is_away = False
        self.gone: set[str] = set()
        self.nodes, self.now = [node], 0.0
        self.watch = LeaseWatch(
            self.scheduler,
            store,
            jobs,
            silence_seconds=60,
            job_seconds=3600,
            kill=lambda _holder: None,
            clock=lambda: self.now,
        )
        self.searcher = GraphSearcher(
            self.scheduler,
            self.slots,
            self.requests,
            self.watch,
            jobs=jobs,
            logs=folder,
            look=lambda: self.nodes,
            holder=lambda _job: self.whose(),
            is_gone=lambda name: name in self.gone,
            on_change=lambda: None,
            clock=lambda: self.now,
        )
        self.running: dict[str, dict[str, Any]] = {}
        self._count = 0

    def whose(self) -> Holder | None:
        if self.store_is_away:
            raise OSError("no answer")
        return self.holder

    def ask(self) -> None:
        """Take all that the searcher gives, as Tune does."""
        while True:
            name = f"t{self._count}"
            config = self.searcher.suggest(name)
            if config is None or config == Searcher.FINISHED:
                return
            self._count += 1
            self.running[name] = config

    def report_idle(self, gpu_bytes: int = 0) -> None:
        """Every idle trial reports; those that are told to end do, and their process lives on."""
        for name, config in list(self.running.items()):
            if not config["job"]:
                result = {"process": f"host:{name}", "refused": "", "gpu_bytes": gpu_bytes}
                if self.searcher.on_idle_result(name, result):
                    del self.running[name]
                    self.searcher.on_trial_complete(name, result)

    def warm_up(self, gpu_bytes: int = 0) -> None:
        for _ in range(3):
            self.ask()
            self.report_idle(gpu_bytes)
        self.ask()

    def started(self) -> dict[str, dict[str, Any]]:
        return {name: config for name, config in self.running.items() if config["job"]}

    def finish(
        self, name: str, failure: Failure | None = None, *, held: bool = False, **cost: float
    ) -> None:
        config = self.running.pop(name)
        assert config["job"]
        text = json.dumps(asdict(failure)) if failure else ""
        result = {
            "process": f"host:{name}",
            "node": "node",
            "refused": "",
            "gpu_bytes": 0,
            "failure": text,
            "held": held,
            "cost": json.dumps(cost),
        }
        self.searcher.on_trial_complete(name, result)

    def lose(self, name: str) -> None:
        del self.running[name]
        self.searcher.on_trial_complete(name, None, error=True)


def test_no_job_is_handed_out_before_every_slot_has_a_process(tmp_path: Path) -> None:
    play = Play(tmp_path, flat(8), Node(cpus=3))
    play.ask()
    assert len(play.running) == 3
    assert not play.started()
    play.warm_up()
    assert len(play.started()) >= 3


def test_places_are_given_back_when_another_sweep_wants_them(tmp_path: Path) -> None:
    play = Play(tmp_path, flat(40), Node(cpus=4))
    play.warm_up()
    assert play.slots.num_active() == 4
    play.slots.limit = 2
    # Those that were handed out ahead, four short jobs, run before a place is given back.
    for expected in (4, 4, 4, 4, 3, 2, 2, 2):
        play.finish(next(iter(play.started())), seconds=60.0)
        play.ask()
        play.report_idle()
        assert play.slots.num_active() == expected
    # Two at work, and for each one handed out ahead.
    assert len(play.running) == len(play.started()) == 4
    play.slots.limit = 0
    for _ in range(2):
        play.warm_up()
    assert play.slots.num_active() == 4


def test_processes_without_a_job_end_at_once_when_another_sweep_wants_their_places(
    tmp_path: Path,
) -> None:
    play = Play(tmp_path, flat(1), Node(cpus=4))
    play.scheduler.hold(next(iter(play.jobs)))
    play.slots.limit = 0
    for name in range(4):
        placement = Placement(request=play.requests.default, idle=True)
        play.slots.start(f"idle {name}", placement)
        play.running[f"idle {name}"] = {"job": ""}
        play.searcher._idle.add(f"idle {name}")
    play.report_idle()
    assert len(play.running) == 4
    play.slots.limit = 1
    play.report_idle()
    assert len(play.running) == 1


def test_later_jobs_of_a_kind_are_packed_by_the_memory_that_the_first_one_needed(
    tmp_path: Path,
) -> None:
    play = Play(tmp_path, flat(12), Node(cpus=8, gpus=1.0))
    play.warm_up(gpu_bytes=80 * GIGABYTE)
    first = play.started()
    assert {config["gpus"] for config in first.values()} == {0.5}
    play.finish(next(iter(first)), peak_gpu_bytes=6.0 * GIGABYTE, seconds=1.0)
    assert play.requests.request(next(iter(play.jobs.values()))).gpus == 0.125


def test_out_of_memory_is_tried_again_with_twice_the_share(tmp_path: Path) -> None:
    play = Play(tmp_path, flat(1), Node(cpus=8, gpus=1.0))
    play.warm_up(gpu_bytes=80 * GIGABYTE)
    (name,) = play.started()
    play.finish(name, Failure(kind="memory", message="CUDA out of memory"))
    (job,) = play.jobs.values()
    assert play.requests.request(job).gpus == 1.0
    play.warm_up()
    ((name, config),) = play.started().items()
    assert config["gpus"] == 1.0
    play.finish(name, Failure(kind="memory", message="CUDA out of memory"))
    assert play.scheduler.failures()[job.key].kind == "memory"


def test_a_worker_that_dies_is_replaced_and_its_job_runs_again(tmp_path: Path) -> None:
    play = Play(tmp_path, flat(3), Node(cpus=2))
    play.warm_up()
    name = next(iter(play.started()))
    key = play.running[name]["job"]
    play.lose(name)
    assert play.scheduler.keys("failed") == []
    play.warm_up()
    assert key in {config["job"] for config in play.started().values()} | set(
        play.scheduler.keys("ready")
    )
    while play.started():
        play.finish(next(iter(play.started())), seconds=0.1)
        play.warm_up()
    assert len(play.scheduler.keys("done")) == 3
    assert play.searcher.suggest("last") == Searcher.FINISHED


def test_a_worker_that_dies_while_the_store_is_away_is_tried_again(tmp_path: Path) -> None:
    play = Play(tmp_path, flat(1), Node(cpus=1))
    play.warm_up()
    (name,) = play.started()
    play.store_is_away = True
    play.lose(name)
    assert play.searcher.error is None
    play.warm_up()
    assert len(play.started()) == 1


@pytest.mark.parametrize(("gone", "attempts"), [(True, 20), (False, 6)])
def test_a_machine_that_leaves_is_not_the_jobs_fault(
    gone: bool, attempts: int, tmp_path: Path
) -> None:
    play = Play(tmp_path, flat(1), Node(cpus=1))
    lost = 0
    while lost < 20 and not play.scheduler.failures():
        play.warm_up()
        (name,) = play.started()
        play.searcher.processes.add("host:7")
        play.holder = Holder(generation=1, beat=1, host="host boot pid", pid=7, node="n1")
        if gone:
            play.gone.add("n1")
        play.lose(name)
        lost += 1
    assert lost == attempts
    assert bool(play.scheduler.failures()) == (not gone)


def test_a_worker_that_is_silent_before_its_job_begins_is_tried_again(tmp_path: Path) -> None:
    play = Play(tmp_path, flat(1), Node(cpus=1))
    for _ in range(3):
        play.warm_up()
        (name,) = play.started()
        assert not play.searcher.is_leased(name)
        play.searcher.on_silence(name, 45)
        play.lose(name)
    (failure,) = play.scheduler.failures().values()
    assert failure.kind == "hung"
    assert "no sign of life for 45 s" in failure.message


def test_workers_that_cannot_start_end_the_sweep_with_a_reason(tmp_path: Path) -> None:
    play = Play(tmp_path, flat(2), Node(cpus=1))
    for _ in range(20):
        play.ask()
        for name in list(play.running):
            play.lose(name)
    assert play.searcher.is_over
    assert "end as soon as they start" in str(play.searcher.error)


def test_what_a_worker_refuses_ends_the_sweep(tmp_path: Path) -> None:
    play = Play(tmp_path, flat(2), Node(cpus=1))
    play.ask()
    (name,) = play.running
    result = {"process": "host:1", "refused": "no dataset folder", "gpu_bytes": 0}
    assert play.searcher.on_idle_result(name, result)
    assert play.searcher.suggest("next") == Searcher.FINISHED
    assert "no dataset folder" in str(play.searcher.error)


def test_a_job_that_somebody_else_works_on_is_held(tmp_path: Path) -> None:
    play = Play(tmp_path, flat(2), Node(cpus=1))
    play.warm_up()
    name = next(iter(play.started()))
    key = play.running[name]["job"]
    play.finish(name, held=True)
    assert play.scheduler.keys("held") == [key]
    assert not play.scheduler.keys("done")


def test_jobs_are_packed_for_the_smallest_gpu_of_the_cluster(tmp_path: Path) -> None:
    play = Play(tmp_path, flat(4), Node(cpus=8, gpus=1.0))
    for size, known in ((80, 80), (40, 40), (80, 40), (0, 40)):
        play.searcher._note_process(
            {"process": "host:1", "refused": "", "gpu_bytes": size * GIGABYTE}
        )
        assert play.requests.gpu_bytes == known * GIGABYTE


@pytest.mark.parametrize(("process", "stale"), [("host:7", 4), ("elsewhere:7", 0)])
def test_only_a_lease_of_our_own_lost_worker_is_taken_over_at_once(
    tmp_path: Path, process: str, stale: int
) -> None:
    play = Play(tmp_path, flat(1), Node(cpus=1))
    play.warm_up()
    (name,) = play.started()
    key = play.running[name]["job"]
    play.searcher.processes.add(process)
    play.holder = Holder(generation=4, beat=1, host="host boot pid", pid=7, node="n1")
    play.lose(name)
    assert play.watch.stale_lease(key) == stale


def test_the_stale_lease_of_a_lost_job_is_told_to_its_next_worker(tmp_path: Path) -> None:
    play = Play(tmp_path, flat(1), Node(cpus=1))
    play.warm_up()
    ((name, config),) = play.started().items()
    assert config["stale_lease"] == 0
    play.searcher.processes.add("host:7")
    play.holder = Holder(generation=4, beat=1, host="host boot pid", pid=7, node="n1")
    play.lose(name)
    play.warm_up()
    ((_, config),) = play.started().items()
    assert config["stale_lease"] == 4


def test_an_idle_process_of_a_rented_machine_is_let_go_after_a_while(tmp_path: Path) -> None:
    for elastic, ends in ((True, True), (False, False)):
        play = Play(tmp_path, flat(2), Node(cpus=2))
        play.slots.elastic = elastic
        idle = Placement(request=play.slots.default, idle=True, process="host:1")
        play.slots.start("idle", idle)
        result = {"process": "host:1", "refused": "", "gpu_bytes": 0}
        for moment, over in ((0.0, False), (20.0, False), (20.1, ends)):
            play.now = moment
            assert play.searcher.on_idle_result("idle", result) == over


def test_machines_that_come_later_are_seen(tmp_path: Path) -> None:
    play = Play(tmp_path, flat(8), Node(cpus=1))
    play.ask()
    assert len(play.running) == 1
    play.nodes = [Node(cpus=1), Node(cpus=2)]
    play.now = 0.5
    play.ask()
    assert len(play.running) == 1
    play.now = 1.1
    play.ask()
    assert len(play.running) == 3


def test_a_process_that_never_comes_up_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    play = Play(tmp_path, flat(4), Node(cpus=2))
    play.ask()
    assert len(play.running) == 2
    result = {"process": "host:t0", "refused": "", "gpu_bytes": 0}
    assert not play.searcher.on_idle_result("t0", result)
    for moment, started in ((119.0, False), (121.0, True)):
        play.now = moment
        play.ask()
        assert bool(play.started()) == started
