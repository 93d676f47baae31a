"""Which trial gets which slot, and which process stays."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.played_cluster import LARGE, SMALL, cluster, nodes, ready, requests, warmed

from sweeps.schedule.room import Node, Request
from sweeps.schedule.slots import SWITCH_SECONDS, Placement, Ready, Slots


@pytest.mark.parametrize(("limit", "expected"), [(0, 4), (3, 3), (9, 4)])
def test_every_slot_is_warmed_up_before_the_first_job(limit: int, expected: int) -> None:
    found = cluster([Node(cpus=3), Node(cpus=1)], {SMALL: 20}, limit=limit)
    assert found.slots.count() == expected
    placed = found.settle()
    assert len(placed) == expected
    assert all(p.idle and p.request == SMALL and not p.process for p in placed)
    for name in found.cold()[:-1]:
        found.come_up(name)
        assert found.settle() == []
        assert not found.slots.is_warm(found.most)
    found.come_up(found.cold()[0])
    assert found.slots.is_warm(found.most)
    placed = found.settle()
    assert [p.idle for p in placed] == [False] * expected
    assert all(len(p.displaced) == 1 for p in placed)


def test_no_more_processes_are_warmed_up_than_there_are_jobs() -> None:
    found = cluster([Node(cpus=8)], {SMALL: 2})
    assert len(found.settle()) == 2
    assert cluster([Node(cpus=8)], {}).settle() == []


def test_while_a_process_comes_up_no_job_of_its_shape_starts_unless_impatient() -> None:
    found = cluster([Node(cpus=2)], {SMALL: 5})
    found.settle()
    found.come_up(found.cold()[0])
    assert found.slots.place(found.ready(), 5) is None
    placement = found.slots.place(found.ready(), 5, patient=False)
    assert placement is not None
    assert not placement.idle
    assert placement.process == "p1"


def test_a_machine_that_appears_is_warmed_up_and_used() -> None:
    found = warmed([Node(cpus=1)], {SMALL: 20})
    assert len(found.idle()) == 1
    for name in found.idle():
        found.look(name)
    found.slots.nodes = [Node(cpus=1), Node(cpus=2)]
    placed = found.settle()
    assert [(p.idle, p.process) for p in placed] == [(True, "")] * 2
    for name in found.cold():
        found.come_up(name)
    found.settle()
    for name in found.idle():
        found.look(name)
    assert len(found.running()) == 3


@given(
    st.integers(1, 5),
    st.integers(1, 40),
    st.integers(0, 6),
    st.data(),
)
@settings(deadline=None)
def test_with_one_shape_every_end_is_followed_by_a_reuse(
    count: int, jobs: int, limit: int, data: st.DataObject
) -> None:
    found = cluster([Node(cpus=count)], {SMALL: jobs}, limit=limit)
    found.settle()
    room = min(count, limit) if limit else count
    for _ in range(10 * (jobs + count)):
        if found.done == jobs:
            break
        cold, idle, running = found.cold(), found.idle(), found.running()
        choice = data.draw(st.sampled_from([*cold, *idle, *running]))
        if choice in cold:
            found.come_up(choice)
        elif choice in idle:
            found.look(choice)
        else:
            process = found.trials[choice].process
            left = found.waiting[SMALL]
            found.finish(choice)
            if left and not found.cold():
                placement = found.step()
                assert placement is not None
                assert not placement.idle
                assert placement.process == process
        found.settle()
        for trial in found.trials.values():
            # Nothing is told to start for a process that is at work already.
            assert not trial.placement.is_heir
    while found.done < jobs:
        for name in found.cold():
            found.come_up(name)
        for name in found.idle():
            found.look(name)
        assert found.running()
        found.finish(found.running()[0])
        found.settle()
    assert found.started.total() == min(room, jobs)


def test_a_process_that_died_is_replaced_once() -> None:
    found = warmed([Node(cpus=2)], {SMALL: 10})
    for name in found.idle():
        found.look(name)
    assert len(found.running()) == 2
    found.end(found.running()[0], "")
    placed = found.settle()
    assert [(p.idle, p.process) for p in placed] == [(True, "")]
    # Its neighbour's next job waits for nothing but that process.
    found.come_up(found.cold()[0])
    assert [p.idle for p in found.settle()] == [False]
    assert found.started.total() == 3


def test_a_slot_without_a_job_keeps_its_process() -> None:
    found = warmed([Node(cpus=2)], {SMALL: 2})
    for name in found.idle():
        found.look(name)
    found.waiting[SMALL] = 0
    found.finish(found.running()[0])
    # Another job runs and its dependants will come: the process is kept by an idle trial.
    placement = found.slots.place({}, 5)
    assert placement is not None
    assert placement.idle
    assert placement.process == "p1"
    found.slots.start("keeper", placement)
    assert not found.slots.warm("keeper", "p1")
    assert found.slots.place({}, 5) is None
    follow = found.slots.place({SMALL: ready()}, 5)
    assert follow is not None
    assert (follow.displaced, follow.process) == (("keeper",), "p1")


def test_a_shape_without_a_process_gets_one_and_its_job_waits_for_it() -> None:
    found = warmed([Node(cpus=4)], {SMALL: 4})
    for name in found.idle():
        found.look(name)
    assert len(found.running()) == 4
    for name in found.running()[:3]:
        found.finish(name)
    found.waiting = Counter({LARGE: 3})
    placed = found.settle()
    new = [p for p in placed if p.request == LARGE]
    assert [(p.idle, p.process) for p in new] == [(True, "")]
    assert not [p for p in placed if not p.idle]
    cold = [n for n in found.cold() if found.trials[n].placement.request == LARGE]
    found.come_up(cold[0])
    jobs = [p for p in found.settle() if not p.idle and not p.is_heir]
    assert [(p.request, p.process) for p in jobs] == [(LARGE, found.trials[cold[0]].process)]


def test_a_shape_that_needs_the_room_of_idle_ones_displaces_them() -> None:
    found = warmed([Node(cpus=2)], {SMALL: 2})
    found.waiting = Counter()
    for name in found.idle():
        found.look(name)
    for name in found.running():
        found.finish(name)
    for number in range(2):
        placement = found.slots.place({}, 5)
        assert placement is not None
        found.slots.start(f"keeper{number}", placement)
        found.slots.warm(f"keeper{number}", placement.process)
    placement = found.slots.place({LARGE: ready()}, 5)
    assert placement is not None
    assert (placement.request, placement.idle) == (LARGE, True)
    assert sorted(placement.displaced) == ["keeper0", "keeper1"]


def test_the_most_urgent_shape_gets_its_first_process_before_others_are_served() -> None:
    slots = Slots(SMALL, [Node(cpus=2)])
    for name in ("k1", "k2"):
        slots.start(name, Placement(request=SMALL, idle=True))
        slots.warm(name, f"process {name}")
    urgent = slots.place({SMALL: ready(priority=1.0), LARGE: ready(1.0, priority=2.0)}, 9)
    assert urgent is not None
    assert (urgent.request, urgent.idle) == (LARGE, True)
    other = slots.place({SMALL: ready(priority=2.0), LARGE: ready(1.0, priority=1.0)}, 9)
    assert other is not None
    assert (other.request, other.idle) == (SMALL, False)


def test_a_running_job_is_never_displaced() -> None:
    found = warmed([Node(cpus=2)], {SMALL: 2})
    for name in found.idle():
        found.look(name)
    assert len(found.running()) == 2
    found.waiting = Counter({LARGE: 5})
    placed = found.settle()
    assert not [p for p in placed if p.displaced or not p.idle]
    assert found.slots.place({LARGE: ready(1e9, 1e9)}, 9) is None


def test_a_second_process_of_a_shape_must_pay() -> None:
    def second(seconds: float) -> Placement | None:
        slots = Slots(SMALL, [Node(cpus=4)])
        for name, shape in (("large", LARGE), ("keeper 1", SMALL), ("keeper 2", SMALL)):
            slots.start(name, Placement(request=shape, idle=True))
            slots.warm(name, f"process of {name}")
        process = "process of large"
        slots.start("job", Placement(request=LARGE, displaced=("large",), process=process))
        slots.end("large", process)
        heir = slots.place({}, 9)
        assert heir == Placement(request=LARGE, idle=True, is_heir=True)
        slots.start("heir", heir)
        return slots.place({LARGE: ready(seconds)}, 9)

    assert second(SWITCH_SECONDS - 1) is None
    dear = second(SWITCH_SECONDS + 1)
    assert dear is not None
    assert (dear.request, dear.idle, dear.process) == (LARGE, True, "")
    assert sorted(dear.displaced) == ["keeper 1", "keeper 2"]


def test_heirs_appear_only_with_several_shapes() -> None:
    found = warmed([Node(cpus=4)], {SMALL: 6})
    for name in found.idle():
        found.look(name)
    while found.running():
        found.finish(found.running()[0])
        found.settle()
        for name in found.idle():
            found.look(name)
    assert found.done == 6
    assert found.heirs == 0


def test_where_two_shapes_live_every_running_trial_gets_an_heir_of_its_shape() -> None:
    slots = Slots(SMALL, [Node(cpus=3)])
    for name, shape in (("small", SMALL), ("large", LARGE)):
        slots.start(name, Placement(request=shape, idle=True))
        slots.warm(name, f"p {name}")
    for name, shape in (("small", SMALL), ("large", LARGE)):
        slots.start(f"job {name}", Placement(request=shape, displaced=(name,), process=f"p {name}"))
        slots.end(name, f"p {name}")
    heirs = []
    for number in range(3):
        placement = slots.place({SMALL: ready(1.0, 1.0)}, 9)
        if placement is not None:
            heirs.append(placement)
            slots.start(f"heir {number}", placement)
    assert all(p.is_heir and not p.displaced for p in heirs)
    # A job that is ready, or an idle trial where there is none.
    assert {(p.request, p.idle) for p in heirs} == {(SMALL, False), (LARGE, True)}
    assert len(heirs) == 2
    assert slots.num_active() == 2
    slots.end("job large", "p large")
    assert slots.num_active() == 2
    (large,) = [n for n in range(2) if heirs[n].request == LARGE]
    assert slots.warm(f"heir {large}", "p large") is False


@given(
    nodes,
    st.lists(requests, min_size=1, max_size=3, unique=True),
    st.integers(0, 5),
    st.data(),
)
@settings(deadline=None, max_examples=150)
def test_whatever_happens_all_jobs_get_done_and_never_more_run_than_fit(
    machines: list[Node], shapes: list[Request], limit: int, data: st.DataObject
) -> None:
    shapes = [s for s in shapes if any(node.holds(s) for node in machines)]
    jobs = {shape: data.draw(st.integers(1, 6)) for shape in shapes}
    found = cluster(machines, jobs, limit=limit, seconds=data.draw(st.sampled_from([0.1, 100.0])))
    total = sum(jobs.values())
    deaths = data.draw(st.integers(0, 3))
    found.settle()
    for turn in range(40 * (total + 5)):
        if found.done == total:
            break
        cold, idle, running = found.cold(), found.idle(), found.running()
        choices = [*cold, *idle, *running]
        assert choices, f"nothing can happen any more, {found.waiting}"
        # At first in any order, at last fairly.
        draw = st.sampled_from(choices) if turn < 30 else st.just(choices[turn % len(choices)])
        choice = data.draw(draw)
        if choice in cold:
            found.come_up(choice)
        elif choice in idle:
            found.look(choice)
        elif deaths and not found.heirs and data.draw(st.booleans()):
            deaths -= 1
            shape = found.trials[choice].placement.request
            found.end(choice, "")
            found.done -= 1
            found.waiting[shape] += 1
        else:
            found.finish(choice)
        found.settle()
    assert found.done == total


def test_a_short_job_is_queued_behind_a_running_one_and_a_long_one_is_not() -> None:
    def behind(seconds: float, count: int) -> Placement | None:
        slots = Slots(SMALL, [Node(cpus=1)])
        slots.start("first", Placement(request=SMALL, idle=True))
        slots.warm("first", "p")
        slots.start("job", Placement(request=SMALL, displaced=("first",), process="p"))
        slots.end("first", "p")
        return slots.place({SMALL: Ready(seconds=seconds, priority=1.0, count=count)}, 9)

    assert behind(1.9, 1) == behind(5.7, 3) == Placement(request=SMALL, is_heir=True)
    assert behind(2.0, 1) is None
    assert behind(6.0, 3) is None


def test_an_heir_takes_the_process_of_the_trial_that_ends_and_its_slot() -> None:
    slots = Slots(SMALL, [Node(cpus=1)])
    slots.start("first", Placement(request=SMALL, idle=True))
    slots.warm("first", "p")
    slots.start("job", Placement(request=SMALL, displaced=("first",), process="p"))
    slots.end("first", "p")
    slots.start("heir", Placement(request=SMALL, is_heir=True))
    assert slots.num_active() == 1
    # One running job has one heir, not two.
    assert slots.place({SMALL: ready(0.1)}, 9) is None
    slots.end("job", "p")
    assert slots.num_active() == 1
    # The process is not free as well: the next short job queues behind the heir.
    assert slots.place({SMALL: ready(0.1)}, 9) == Placement(request=SMALL, is_heir=True)


def test_a_process_that_dies_with_its_trial_is_not_used_again() -> None:
    slots = Slots(SMALL, [Node(cpus=1)])
    slots.start("first", Placement(request=SMALL, idle=True))
    slots.warm("first", "p")
    slots.end("first")
    again = slots.place({SMALL: ready()}, 9)
    assert again == Placement(request=SMALL, idle=True)


def test_a_trial_that_was_displaced_ends_and_gives_nothing_back() -> None:
    slots = Slots(SMALL, [Node(cpus=2)])
    for name in ("one", "two"):
        slots.start(name, Placement(request=SMALL, idle=True))
        assert slots.warm(name, f"p {name}") is False
    slots.start("large", Placement(request=LARGE, idle=True, displaced=("one", "two")))
    assert slots.warm("one", "p one") is True
    assert slots.num_active() == 1
    slots.end("one", "p one")
    slots.end("two", "p two")
    slots.warm("large", "p large")
    # Were one of their processes still known, it would be used, and no new one started.
    assert slots.place({SMALL: ready(1.0)}, 9) == Placement(
        request=SMALL, idle=True, displaced=("large",)
    )
    assert slots.warm("unknown", "p") is False


def test_an_idle_trial_that_is_let_go_ends_at_its_next_report() -> None:
    slots = Slots(SMALL, [Node(cpus=1)])
    slots.start("first", Placement(request=SMALL, idle=True))
    assert slots.warm("first", "p") is False
    slots.release("first")
    assert slots.num_active() == 0
    assert slots.warm("first", "p") is True


def test_no_more_trials_than_the_limit_and_no_more_idle_ones_than_are_of_use() -> None:
    slots = Slots(SMALL, [Node(cpus=8)], limit=2)
    placed: list[Placement] = []
    while (placement := slots.place({SMALL: ready()}, 9)) is not None:
        slots.start(f"t{len(placed)}", placement)
        placed.append(placement)
    assert placed == [Placement(request=SMALL, idle=True)] * 2
    one = Slots(SMALL, [Node(cpus=8)])
    one.start("t", Placement(request=SMALL, idle=True))
    assert one.place({SMALL: ready()}, 1) is None
    assert one.place({SMALL: ready()}, 2) == Placement(request=SMALL, idle=True)


def test_the_first_request_that_no_machine_can_hold_is_named() -> None:
    slots = Slots(SMALL, [Node(cpus=1, memory_gb=4), Node(cpus=4)])
    both = Request(cpus=2, memory_gb=4)
    assert slots.infeasible([SMALL, LARGE, Request(cpus=1, memory_gb=4)]) is None
    assert slots.infeasible([SMALL, both, Request(cpus=9)]) == both


def occupied(cpus: int, **trials: Request) -> Slots:
    """Slots with a running job of each shape; names that begin with "keeper" stay idle."""
    slots = Slots(SMALL, [Node(cpus=cpus)])
    for name, shape in trials.items():
        slots.start(name, Placement(request=shape, idle=True))
        slots.warm(name, f"p {name}")
        if not name.startswith("keeper"):
            slots.start(
                f"{name} job", Placement(request=shape, displaced=(name,), process=f"p {name}")
            )
            slots.end(name, f"p {name}")
    return slots


def test_an_heir_that_ends_while_it_waits_leaves_the_others_waiting() -> None:
    slots = occupied(2, one=SMALL, two=SMALL)
    for name in ("heir 1", "heir 2"):
        slots.start(name, Placement(request=SMALL, is_heir=True))
    assert slots.num_active() == 2
    slots.end("heir 1")
    assert slots.num_active() == 2


@pytest.mark.parametrize(("others", "enough"), [(1, 8.0), (2, 16.0), (3, 24.0)])
def test_each_further_process_of_a_shape_needs_more_work_to_pay(others: int, enough: float) -> None:
    def further(seconds: float) -> Placement | None:
        large = {f"large{number}": LARGE for number in range(others)}
        slots = occupied(2 * others + 2, **large, keeper1=SMALL, keeper2=SMALL)
        for number in range(others):
            slots.start(f"heir {number}", Placement(request=LARGE, idle=True, is_heir=True))
        return slots.place({LARGE: ready(seconds)}, 99)

    assert further(enough) is None
    dear = further(enough + 0.1)
    assert dear is not None
    assert sorted(dear.displaced) == ["keeper1", "keeper2"]


def test_no_heir_comes_while_a_process_of_its_shape_is_given_up_for_another() -> None:
    slots = occupied(3, small=SMALL, keeper1=SMALL, keeper2=SMALL)
    large = slots.place({LARGE: ready(priority=9.0)}, 9)
    assert large is not None
    assert sorted(large.displaced) == ["keeper1", "keeper2"]
    slots.start("large", large)
    # It would take a process that ends.
    assert slots.place({LARGE: ready()}, 9) is None
    for name in large.displaced:
        assert slots.warm(name, f"p {name}")
        slots.end(name, f"p {name}")
    assert slots.place({LARGE: ready()}, 9) == Placement(request=SMALL, idle=True, is_heir=True)
