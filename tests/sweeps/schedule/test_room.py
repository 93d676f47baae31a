"""Which requests have room together, however many machines there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.played_cluster import HALF, nodes, requests

from sweeps.schedule import room
from sweeps.schedule.room import Node, Request, Room
from sweeps.schedule.slots import Placement, Ready, Slots

WHOLE = Request(gpus=1.0, memory_gb=16)


def one_by_one(machines: Sequence[Node], asked: Sequence[Request]) -> bool:
    """The same, written as a person would pack: request after request, machine after machine."""
    left = [[node.cpus, node.gpus, node.memory_gb] for node in machines]
    for request in sorted(asked, key=lambda r: (r.gpus, r.memory_gb, r.cpus), reverse=True):
        wanted = (request.cpus, request.gpus, request.memory_gb)
        place = next(
            (
                have
                for have in left
                if all(a <= h + 1e-6 for a, h in zip(wanted, have, strict=True))
            ),
            None,
        )
        if place is None:
            return False
        place[:] = [have - ask for have, ask in zip(place, wanted, strict=True)]
    return True


@given(
    nodes,
    st.integers(1, 3),
    st.floats(0.0, 0.01),
    st.dictionaries(requests, st.integers(0, 5), max_size=4),
)
def test_runs_of_machines_hold_what_each_of_them_holds(
    machines: list[Node], times: int, more: float, asked: dict[Request, int]
) -> None:
    unequal = [
        Node(cpus=node.cpus, gpus=node.gpus, memory_gb=node.memory_gb + place * more)
        for place, node in enumerate(machines * times)
    ]
    found = Room(unequal).fits(asked)
    assert found == one_by_one(unequal, list(Counter(asked).elements()))


def test_a_request_of_all_of_a_machines_memory_fits_to_the_byte() -> None:
    machine = Node(cpus=4, memory_gb=7.43)
    assert Room([machine, machine]).fits({Request(memory_gb=7.43): 2})
    assert not Room([machine]).fits({Request(memory_gb=7.43 + 2**-29): 1})
    assert Room([machine]).count(Request(memory_gb=7.43 / 2)) == 2


@pytest.mark.parametrize("number", [8, 512])
def test_an_answer_takes_as_many_steps_for_512_machines_as_for_eight(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    real = room._times

    def counted(left: tuple[float, float, float], wanted: tuple[float, float, float]) -> int:
        nonlocal steps
        steps += 1
        return real(left, wanted)

    slots = Slots(HALF, [Node(cpus=4, gpus=1, memory_gb=32 + n / 1000) for n in range(number)])
    for place in range(2 * number):
        slots.start(f"t{place}", Placement(request=HALF, idle=True))
        slots.warm(f"t{place}", f"p{place}")
    monkeypatch.setattr(room, "_times", counted)
    found = slots.place({WHOLE: Ready(seconds=1e6, priority=1.0)}, 4 * number)
    assert found is not None
    assert (found.request, len(found.displaced)) == (WHOLE, 2)
    assert 0 < steps < 40
