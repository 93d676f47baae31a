from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.job_graphs import DIAMOND, by_key, graph, run_inline

from sweeps.graph.cells import remaining_chain
from sweeps.graph.job import Job
from sweeps.schedule.estimates import Estimates
from sweeps.schedule.failure import Failure, FailureKind
from sweeps.schedule.room import Request
from sweeps.schedule.scheduler import Scheduler


@st.composite
def random_graphs(draw: st.DrawFn) -> dict[str, Job]:
    edges: dict[str, list[str]] = {}
    for number in range(draw(st.integers(1, 14))):
        known = sorted(edges)
        edges[f"j{number:02d}"] = (
            draw(st.lists(st.sampled_from(known), unique=True)) if known else []
        )
    return graph(edges)


@given(random_graphs(), st.integers(1, 4), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_every_job_runs_once_and_after_its_inputs(
    jobs: dict[str, Job], workers: int, rng: object
) -> None:
    scheduler = Scheduler(by_key(jobs), workers=workers)
    running: list[Job] = []
    finished: list[str] = []
    while not scheduler.finished:
        while len(running) < workers and (job := scheduler.next()) is not None:
            assert set(job.needs) <= set(finished)
            running.append(job)
        assert running, "the graph is stuck"
        done = running.pop(rng.randrange(len(running)))  # type: ignore[attr-defined]
        scheduler.succeed(done.key)
        finished.append(done.key)
    assert sorted(finished) == sorted(job.key for job in jobs.values())


def test_the_longest_remaining_chain_comes_first() -> None:
    jobs = graph(
        {"short": [], "long": [], "after": ["long"]},
        {"short": "split", "long": "split", "after": "pretrain"},
    )
    scheduler = Scheduler(by_key(jobs))
    first = scheduler.next()
    assert first is not None
    assert first.label == "long"


def test_wanted_are_the_places_of_jobs_that_run_or_could() -> None:
    jobs = graph({"one": [], "two": [], "after": ["one"]})
    scheduler = Scheduler(by_key(jobs))
    assert scheduler.num_wanted == 2
    first, second = scheduler.next(), scheduler.next()
    assert first is not None
    assert second is not None
    assert scheduler.num_wanted == 2
    scheduler.hold(second.key)
    assert scheduler.num_wanted == 1
    scheduler.succeed(first.key)
    assert scheduler.num_wanted == (1 if first.label == "one" else 0)


@pytest.mark.parametrize("large", ["short", "long"])
def test_the_longest_remaining_chain_comes_first_whatever_it_asks_for(large: str) -> None:
    jobs = graph(
        {"short": [], "long": [], "after": ["long"]},
        {"short": "split", "long": "split", "after": "pretrain"},
    )
    scheduler = Scheduler(
        by_key(jobs), request=lambda job: Request(cpus=2 if job.label == large else 1)
    )
    handed_out = [scheduler.next(), scheduler.next()]
    assert [job.label for job in handed_out if job] == ["long", "short"]


@pytest.mark.parametrize(
    ("workers", "in_order"), [(1, ["shown", "seen"]), (4, ["long 0", "long 1"])]
)
def test_what_is_shown_first_goes_first_unless_chains_decide_about_the_end(
    workers: int, in_order: list[str]
) -> None:
    edges: dict[str, list[str]] = {"shown": [], "seen": ["shown"]}
    for n in range(6):
        edges |= {f"long {n}": [], f"after {n}": [f"long {n}"], f"end {n}": [f"after {n}"]}
    jobs = graph(edges)
    first = [jobs["shown"].key, jobs["seen"].key]
    scheduler = Scheduler(by_key(jobs), workers=workers, first=first)
    labels: list[str] = []
    run_inline(scheduler, lambda job: labels.append(job.label))
    assert labels[:2] == in_order


def test_a_first_look_that_is_done_leaves_the_order_as_it_was() -> None:
    jobs = graph({"shown": [], "short": [], "long": [], "end": ["long"]})
    scheduler = Scheduler(by_key(jobs), [jobs["shown"].key], first=[jobs["shown"].key])
    handed_out = scheduler.next()
    assert handed_out is not None
    assert handed_out.label == "long"


def test_what_is_done_is_not_handed_out() -> None:
    jobs = graph(DIAMOND)
    scheduler = Scheduler(by_key(jobs), [jobs["a"].key, jobs["b"].key])
    labels = []
    run_inline(scheduler, lambda job: labels.append(job.label))
    assert labels == ["c", "d"]


def test_a_failure_blocks_what_needs_it_and_nothing_else() -> None:
    jobs = graph(DIAMOND | {"e": ["a"]})
    scheduler = Scheduler(by_key(jobs))
    broken = Failure(kind="numerical", message="NaN")
    run_inline(scheduler, lambda job: broken if job.label == "b" else None)
    assert scheduler.finished
    assert scheduler.failures() == {jobs["b"].key: broken}
    assert scheduler.keys("blocked") == [jobs["d"].key]
    assert scheduler.keys("done") == [jobs[name].key for name in "ace"]


@pytest.mark.parametrize(
    ("kind", "most"),
    [
        ("input", 1),
        ("disk", 1),
        ("numerical", 1),
        ("access", 1),
        ("memory", 2),
        ("damaged", 3),
        ("hung", 3),
        ("lost", 6),
        ("preempted", 1000),
        ("error", 2),
    ],
)
def test_each_class_of_failure_has_its_number_of_attempts(kind: FailureKind, most: int) -> None:
    jobs = graph({"a": []})
    scheduler = Scheduler(by_key(jobs))
    attempts = []

    def execute(job: Job) -> Failure:
        attempts.append(job)
        return Failure(kind=kind, message="no")

    run_inline(scheduler, execute)
    assert len(attempts) == most
    assert list(scheduler.failures()) == [jobs["a"].key]


def test_a_job_that_recovers_counts_as_done() -> None:
    jobs = graph(DIAMOND)
    scheduler = Scheduler(by_key(jobs))
    answers = iter([Failure(kind="lost", message="killed")] * 3)
    run_inline(scheduler, lambda job: next(answers, None) if job.label == "a" else None)
    assert len(scheduler.keys("done")) == 4
    assert not scheduler.failures()


def test_a_damaged_input_is_computed_again_before_its_dependant() -> None:
    jobs = graph(DIAMOND)
    scheduler = Scheduler(by_key(jobs), [jobs["a"].key])
    order = []

    def execute(job: Job) -> Failure | None:
        order.append(job.label)
        if job.label in "bc" and "a" not in order:
            return Failure(kind="damaged", message="bit flip", damaged=jobs["a"].key)
        return None

    run_inline(scheduler, execute)
    assert order[0] in "bc"
    assert order[1] == "a"
    assert sorted(order[2:]) == ["b", "c", "d"]
    assert not scheduler.failures()


def test_every_damaged_input_of_a_job_is_computed_again_and_told() -> None:
    inputs: dict[str, list[str]] = {name: [] for name in "abcde"}
    jobs = graph({**inputs, "z": list(inputs)})
    scheduler = Scheduler(by_key(jobs), [jobs[name].key for name in inputs])
    damaged = [jobs[name] for name in inputs]

    def execute(job: Job) -> Failure | None:
        if job.label == "z" and damaged:
            return Failure(kind="damaged", message=damaged[0].label, damaged=damaged[0].key)
        damaged[:] = [it for it in damaged if it.key != job.key]
        return None

    run_inline(scheduler, execute)
    assert not scheduler.failures()
    assert scheduler.damage == list("abcde")


def test_bad_input_ends_the_sweep() -> None:
    jobs = graph({"a": [], "b": [], "c": ["b"]})
    scheduler = Scheduler(by_key(jobs))
    refused = Failure(kind="input", message="3.jpg does not decode")
    run_inline(scheduler, lambda job: refused if job.label == "b" else None)
    assert scheduler.finished
    assert list(scheduler.failures().values()) == [refused]
    assert len(scheduler.keys("blocked")) >= 1


def test_the_estimate_follows_measured_times() -> None:
    now = [0.0]
    jobs = graph({f"j{i}": [] for i in range(10)})
    scheduler = Scheduler(by_key(jobs), workers=2, clock=lambda: now[0])
    for _ in range(4):
        job = scheduler.next()
        assert job is not None
        now[0] += 10.0
        scheduler.succeed(job.key, 10.0)
    snapshot = scheduler.snapshot()
    assert snapshot.elapsed == 40.0
    assert snapshot.left.seconds == pytest.approx(6 * 10.0 / 2, abs=1.0)
    assert snapshot.total("done") == 4
    assert snapshot.total("ready") == 6


def test_a_chain_cannot_be_finished_faster_by_more_workers() -> None:
    jobs = graph({"a": [], "b": ["a"], "c": ["b"]}, dict.fromkeys("abc", "pretrain"))
    few, many = (Scheduler(by_key(jobs), workers=n).snapshot().left.seconds for n in (1, 64))
    assert few == many


SMALL, LARGE = Request(cpus=1), Request(cpus=2)


def started(scheduler: Scheduler, request: Request | None = None) -> Job:
    job = scheduler.next(request)
    assert job is not None
    return job


def test_a_held_job_is_neither_handed_out_nor_forgotten() -> None:
    jobs = graph(DIAMOND)
    scheduler = Scheduler(by_key(jobs))
    key = started(scheduler).key
    scheduler.hold(key)
    assert scheduler.keys("held") == [key]
    assert scheduler.next() is None
    assert scheduler.ready() == {}
    assert not scheduler.finished
    assert scheduler.num_open == 4
    scheduler.release(key)
    assert started(scheduler).key == key
    scheduler.release(key)
    assert scheduler.keys("running") == [key]


def test_a_held_job_that_somebody_else_finished_opens_the_way() -> None:
    jobs = graph(DIAMOND)
    scheduler = Scheduler(by_key(jobs))
    key = started(scheduler).key
    scheduler.hold(key)
    scheduler.succeed(key)
    scheduler.succeed(key)
    assert {started(scheduler).label, started(scheduler).label} == {"b", "c"}
    assert scheduler.keys("done") == [key]


def test_a_held_job_whose_input_was_damaged_waits_for_it_after_its_release() -> None:
    jobs = graph({"a": [], "b": ["a"], "c": ["a"]})
    scheduler = Scheduler(by_key(jobs), [jobs["a"].key])
    first, second = started(scheduler), started(scheduler)
    scheduler.hold(first.key)
    scheduler.fail(second.key, Failure(kind="damaged", message="!", damaged=jobs["a"].key))
    scheduler.release(first.key)
    assert started(scheduler).label == "a"
    assert scheduler.next() is None


@pytest.mark.parametrize("state", ["held", "running"])
def test_a_job_that_comes_back_when_its_input_has_failed_is_blocked(state: str) -> None:
    jobs = graph({"a": [], "b": ["a"], "c": ["a"], "d": ["b"]})
    scheduler = Scheduler(by_key(jobs), [jobs["a"].key])
    first, second = started(scheduler), started(scheduler)
    assert (first.label, second.label) == ("b", "c")
    if state == "held":
        scheduler.hold(first.key)
    scheduler.fail(second.key, Failure(kind="damaged", message="!", damaged=jobs["a"].key))
    assert not scheduler.fail(started(scheduler).key, Failure(kind="numerical", message="NaN"))
    if state == "held":
        scheduler.release(first.key)
    else:
        assert not scheduler.fail(first.key, Failure(kind="lost", message="killed"))
    assert scheduler.finished
    assert scheduler.keys("blocked") == [jobs[name].key for name in "bcd"]


def test_jobs_are_handed_out_by_what_they_ask_for() -> None:
    edges: dict[str, list[str]] = {"s1": [], "l1": [], "s2": [], "l2": [], "after": ["s2"]}
    jobs = graph(edges)
    scheduler = Scheduler(
        by_key(jobs), request=lambda job: LARGE if job.label.startswith("l") else SMALL
    )
    chain = remaining_chain(by_key(jobs), Estimates(by_key(jobs)).seconds)
    each = chain[jobs["after"].key]
    ready = scheduler.ready()
    assert set(ready) == {SMALL, LARGE}
    assert ready[SMALL].seconds == pytest.approx(2 * each)
    assert ready[SMALL].priority == pytest.approx(2 * each)
    assert ready[LARGE].seconds == pytest.approx(2 * each)
    assert ready[LARGE].priority == pytest.approx(each)
    assert [started(scheduler, LARGE).label for _ in range(2)] == ["l1", "l2"]
    assert scheduler.next(LARGE) is None
    assert set(scheduler.ready()) == {SMALL}
    assert started(scheduler, SMALL).label == "s2"
    assert started(scheduler).label == "s1"
    assert scheduler.ready() == {}


def test_a_request_is_looked_up_when_the_job_becomes_ready() -> None:
    jobs = graph({"a": [], "b": ["a"]})
    asked: dict[str, Request] = {"a": SMALL, "b": SMALL}
    scheduler = Scheduler(by_key(jobs), request=lambda job: asked[job.label])
    a = started(scheduler, SMALL)
    asked["b"] = LARGE
    scheduler.succeed(a.key)
    assert set(scheduler.ready()) == {LARGE}


def test_a_job_that_ran_out_of_memory_is_tried_once_more_with_what_it_asks_for_now() -> None:
    jobs = graph({"a": []})
    asked = [SMALL]
    scheduler = Scheduler(by_key(jobs), request=lambda _job: asked[0])
    a = started(scheduler, SMALL)
    asked[0] = LARGE
    assert scheduler.fail(a.key, Failure(kind="memory", message="CUDA out of memory"))
    assert scheduler.next(SMALL) is None
    assert started(scheduler, LARGE) == a
    assert not scheduler.fail(a.key, Failure(kind="memory", message="CUDA out of memory"))
    assert scheduler.finished


def test_a_job_whose_request_changed_while_it_waited_again_is_not_found_under_the_old_one() -> None:
    jobs = graph({"a": [], "b": ["a"], "c": ["a"]})
    asked = {"a": SMALL, "b": SMALL, "c": SMALL}
    scheduler = Scheduler(by_key(jobs), [jobs["a"].key], request=lambda job: asked[job.label])
    first = started(scheduler)
    (other,) = {"b", "c"} - {first.label}
    asked[other] = LARGE
    scheduler.fail(first.key, Failure(kind="damaged", message="!", damaged=jobs["a"].key))
    scheduler.succeed(started(scheduler, SMALL).key)
    assert set(scheduler.ready()) == {SMALL, LARGE}
    assert started(scheduler, SMALL).label == first.label
    assert set(scheduler.ready()) == {LARGE}
    assert scheduler.next(SMALL) is None
    assert started(scheduler, LARGE).label == other


def test_machines_that_are_taken_away_do_not_use_up_the_attempts() -> None:
    jobs = graph({"a": []})
    scheduler = Scheduler(by_key(jobs))
    for _ in range(50):
        assert scheduler.fail(started(scheduler).key, Failure(kind="preempted", message="gone"))
    assert scheduler.fail(started(scheduler).key, Failure(kind="lost", message="killed"))
    assert scheduler.fail(started(scheduler).key, Failure(kind="error", message="no"))
    scheduler.succeed(started(scheduler).key)
    assert scheduler.failures() == {}


@pytest.mark.parametrize("kind", ["disk", "input"])
@pytest.mark.parametrize("after", ["lost", "succeed", "hold", "damaged"])
def test_after_what_the_user_must_mend_nothing_starts_any_more(
    kind: FailureKind, after: str
) -> None:
    jobs = graph({"a": [], "b": ["a"], "c": ["a"], "d": ["b"], "e": []})
    scheduler = Scheduler(by_key(jobs), [jobs["a"].key])
    running = [started(scheduler), started(scheduler)]
    assert not scheduler.fail(running[0].key, Failure(kind=kind, message="full"))
    key = running[1].key
    assert scheduler.keys("running") == [key]
    assert scheduler.num_open == 1
    damage = Failure(kind="damaged", message="!", damaged=jobs["a"].key)
    what_happens: Mapping[str, Callable[[], object]] = {
        "succeed": lambda: scheduler.succeed(key),
        "hold": lambda: scheduler.hold(key),
        "lost": lambda: scheduler.fail(key, Failure(kind="lost", message="killed")),
        "damaged": lambda: scheduler.fail(key, damage),
    }
    what_happens[after]()
    scheduler.release(key)
    assert scheduler.next() is None
    assert scheduler.ready() == {}
    assert scheduler.finished
    assert list(scheduler.failures()) == [running[0].key]


def test_other_failures_stop_nothing_but_what_needs_the_job() -> None:
    jobs = graph({"a": [], "b": [], "after a": ["a"]})
    for kind in ("numerical", "access"):
        scheduler = Scheduler(by_key(jobs))
        first = started(scheduler)
        assert first.label == "a"
        assert not scheduler.fail(first.key, Failure(kind=kind, message="no"))
        assert started(scheduler).label == "b"


def test_a_stop_waits_for_what_runs_and_gives_up_what_is_held_ready_or_waiting() -> None:
    jobs = graph({"held": [], "running": [], "ready": [], "after": ["running"]})
    scheduler = Scheduler(by_key(jobs))
    first = {job.label: job for job in (started(scheduler) for _ in range(2))}
    assert set(first) == {"running", "held"}
    scheduler.hold(first["held"].key)
    scheduler.stop()
    assert scheduler.keys("blocked") == [jobs[name].key for name in ("held", "ready", "after")]
    assert scheduler.num_open == 1
    # Whoever holds it may go on; here it is over.
    scheduler.release(first["held"].key)
    assert scheduler.next() is None
    scheduler.succeed(first["running"].key)
    assert scheduler.finished
    assert scheduler.keys("done") == [first["running"].key]
    assert scheduler.failures() == {}


def test_what_somebody_else_turns_out_to_hold_after_a_stop_is_not_waited_for() -> None:
    scheduler = Scheduler(by_key(graph({"a": []})))
    key = started(scheduler).key
    scheduler.stop()
    scheduler.hold(key)
    assert scheduler.keys("blocked") == [key]
    assert scheduler.finished


def test_a_failure_blocks_everything_behind_it_at_any_distance() -> None:
    jobs = graph({"a": [], "b": ["a"], "c": ["b"], "d": ["c"], "free": []})
    scheduler = Scheduler(by_key(jobs))
    assert not scheduler.fail(started(scheduler).key, Failure(kind="numerical", message="NaN"))
    assert scheduler.keys("blocked") == [jobs[name].key for name in "bcd"]
    assert scheduler.num_open == 1


def test_a_damaged_input_that_runs_again_holds_back_all_that_needs_it() -> None:
    jobs = graph({"a": [], "b": ["a"], "c": ["a"], "d": ["a"]})
    scheduler = Scheduler(by_key(jobs), [jobs["a"].key])
    first = started(scheduler)
    assert len(scheduler.keys("ready")) == 2
    damage = Failure(kind="damaged", message="!", damaged=jobs["a"].key)
    assert scheduler.fail(first.key, damage), "it waits for its input"
    assert scheduler.keys("ready") == [jobs["a"].key]
    assert len(scheduler.keys("waiting")) == 3
    assert scheduler.snapshot().total("done") == 0
    scheduler.succeed(started(scheduler).key)
    assert len(scheduler.keys("ready")) == 3


def test_each_class_of_failure_is_counted_by_itself() -> None:
    jobs = graph({"a": []})
    scheduler = Scheduler(by_key(jobs))
    for kind in ("memory", "error", "hung", "hung"):
        assert scheduler.fail(started(scheduler).key, Failure(kind=kind, message="no"))
    last = Failure(kind="error", message="the last")
    assert not scheduler.fail(started(scheduler).key, last)
    assert scheduler.failures() == {jobs["a"].key: last}


def test_the_estimate_is_kept_for_a_while_and_is_nothing_at_the_end() -> None:
    now = [0.0]
    jobs = graph({"a": [], "b": []})
    estimates = Estimates(by_key(jobs), [(jobs["a"], 100.0)])
    scheduler = Scheduler(by_key(jobs), workers=2, estimates=estimates, clock=lambda: now[0])
    assert scheduler.snapshot().left.seconds == pytest.approx(100.0, abs=1.0)
    for _ in range(2):
        scheduler.fail(started(scheduler).key, Failure(kind="numerical", message="NaN"))
    assert scheduler.snapshot().left.seconds == 0.0


def test_a_worker_that_knows_the_inputs_is_preferred_among_the_equally_urgent() -> None:
    names = [f"m{n}" for n in range(4)]
    edges: dict[str, list[str]] = {name: [] for name in names}
    edges |= {f"u {name}": [name] for name in names}
    jobs = graph(edges)
    scheduler = Scheduler(by_key(jobs), [jobs[name].key for name in names])
    known = [jobs["m2"].key, jobs["u m0"].key, "of another sweep"]
    assert getattr(scheduler.next(known=known), "label", "") == "u m2"
    # Nothing it knows is left: the order of the plan.
    labels = [getattr(scheduler.next(SMALL, known), "label", "") for _ in range(3)]
    assert labels == ["u m0", "u m1", "u m3"]
    assert scheduler.next(known=known) is None


def test_the_job_with_most_known_inputs_goes_first() -> None:
    jobs = graph({"m": [], "p": [], "one": ["m"], "two": ["m", "p"], "none": []})
    scheduler = Scheduler(by_key(jobs), [jobs["m"].key, jobs["p"].key])
    known = {jobs["m"].key, jobs["p"].key}
    labels = [getattr(scheduler.next(known=known), "label", "") for _ in range(3)]
    assert labels == ["two", "one", "none"]


def test_what_a_worker_knows_does_not_outweigh_a_longer_chain() -> None:
    jobs = graph({"m": [], "urgent": [], "after": ["urgent"], "known": ["m"]})
    scheduler = Scheduler(by_key(jobs), [jobs["m"].key])
    assert getattr(scheduler.next(known=[jobs["m"].key]), "label", "") == "urgent"
    assert getattr(scheduler.next(known=[jobs["m"].key]), "label", "") == "known"


def test_the_estimate_counts_down_while_a_job_runs() -> None:
    now = [0.0]
    jobs = graph({"a": [], "b": ["a"]})
    estimates = Estimates(by_key(jobs), [(jobs["a"], 100.0)])
    scheduler = Scheduler(by_key(jobs), estimates=estimates, clock=lambda: now[0])
    assert scheduler.snapshot().left.seconds == pytest.approx(200.0, abs=1.0)
    a = started(scheduler)
    now[0] = 60.0
    assert scheduler.snapshot().left.seconds == pytest.approx(140.0, abs=1.0)
    now[0] = 500.0
    # It is overdue: some of its time comes again.
    assert 105.0 < scheduler.snapshot().left.seconds < 200.0
    scheduler.succeed(a.key, 500.0)
    now[0] = 600.0
    # What was measured counts from now on: the mean of 100 and 500.
    assert scheduler.snapshot().left.seconds == pytest.approx(300.0, abs=1.0)
    scheduler.succeed(started(scheduler).key)
    assert scheduler.snapshot().left.seconds == 0.0


def test_jobs_that_are_queued_ahead_are_not_shown_as_running() -> None:
    scheduler = Scheduler(by_key(graph({f"j{i}": [] for i in range(6)})), workers=2)
    first = [scheduler.next() for _ in range(4)]
    snapshot = scheduler.snapshot()
    assert (snapshot.total("running"), snapshot.total("ready")) == (2, 4)
    assert first[0] is not None
    scheduler.succeed(first[0].key)
    snapshot = scheduler.snapshot()
    assert (snapshot.total("running"), snapshot.total("ready")) == (2, 3)
