"""What fits on which machines, and what a request says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.played_cluster import HALF, LARGE, SMALL, nodes, requests

from oneshui.errors import InputError
from sweeps.schedule.room import Node, Request, fits, room_for
from sweeps.schedule.slots import Placement, Slots


def test_a_request_has_room_on_one_node_not_on_the_sum() -> None:
    nodes = [Node(cpus=2), Node(cpus=2)]
    assert not fits(nodes, [Request(cpus=3)])
    assert fits(nodes, [LARGE, LARGE])
    assert not fits(nodes, [LARGE, LARGE, SMALL])
    assert not fits(nodes, [Request(cpus=1, gpus=0.5)])
    assert fits([Node(cpus=1), Node(cpus=1, gpus=1)], [SMALL, HALF])
    assert not fits([Node(cpus=1, gpus=0.5), Node(cpus=1, gpus=0.5)], [Request(gpus=1)])
    assert not fits([Node(cpus=9, memory_gb=8)], [Request(memory_gb=5), Request(memory_gb=5)])
    assert fits([], [])
    assert not fits([], [SMALL])


@pytest.mark.parametrize(
    ("machines", "asked"),
    [
        ([Node(cpus=2), Node(cpus=1)], [SMALL, LARGE]),
        ([Node(cpus=3, gpus=1), Node(cpus=3)], [Request(cpus=3), HALF]),
        ([Node(cpus=2, memory_gb=8), Node(cpus=2)], [LARGE, Request(cpus=1, memory_gb=8)]),
    ],
    ids=["processors", "GPUs", "memory"],
)
def test_the_small_takes_no_room_that_the_large_needs(
    machines: list[Node], asked: list[Request]
) -> None:
    assert fits(machines, asked)
    assert fits(machines, asked[::-1])


def test_shares_that_add_up_in_floating_point_fit() -> None:
    shares = [Request(cpus=0.1, gpus=0.1)] * 10
    assert fits([Node(cpus=1, gpus=1)], shares)
    assert not fits([Node(cpus=1, gpus=1)], [*shares, Request(cpus=0.1)])
    assert room_for([Node(cpus=1, gpus=1)], Request(cpus=0.1, gpus=0.1)) == 10


def test_room_is_counted_node_by_node() -> None:
    nodes = [Node(cpus=3, gpus=1, memory_gb=10), Node(cpus=5, memory_gb=4), Node(cpus=1, gpus=8)]
    assert room_for(nodes, SMALL) == 9
    assert room_for(nodes, LARGE) == 3
    assert room_for(nodes, HALF) == 3
    assert room_for(nodes, Request(cpus=1, gpus=2)) == 1
    assert room_for(nodes, Request(cpus=1, memory_gb=3)) == 4
    assert room_for([], SMALL) == 0


@given(nodes, requests)
def test_as_many_equal_requests_fit_as_there_is_room_for(
    machines: list[Node], request: Request
) -> None:
    room = room_for(machines, request)
    assert fits(machines, [request] * room)
    assert not fits(machines, [request] * (room + 1))
    assert (room > 0) == any(node.holds(request) for node in machines)


@given(nodes, st.lists(requests, max_size=4), requests)
def test_what_fits_also_fits_with_less(
    machines: list[Node], several: list[Request], more: Request
) -> None:
    if fits(machines, [*several, more]):
        assert room_for(machines, more) > 0
        total = sum(request.cpus for request in [*several, more])
        assert total <= sum(node.cpus for node in machines)


def test_infeasible_is_what_no_machine_holds() -> None:
    slots = Slots(SMALL, [Node(cpus=2), Node(cpus=1, gpus=1, memory_gb=4)])
    assert slots.infeasible([SMALL, LARGE, HALF, Request(cpus=1, memory_gb=4)]) is None
    both = Request(cpus=2, gpus=0.5)
    assert slots.infeasible([SMALL, both, Request(cpus=9)]) == both
    # That it is occupied does not make it infeasible.
    slots.start("t", Placement(request=LARGE, idle=True))
    assert slots.infeasible([LARGE]) is None
    assert Slots(SMALL).infeasible([SMALL]) == SMALL


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cpus": 0}, "cpus"),
        ({"gpus": -0.5}, "gpus"),
        ({"gpus": 1.5}, "share of one GPU or a whole number"),
        ({"gpus": 9.0}, "gpus"),
        ({"memory_gb": -1.0}, "memory_gb"),
    ],
)
def test_requests_that_make_no_sense_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Request(**changes)


def test_a_request_says_what_it_asks_for() -> None:
    assert str(Request(cpus=2, gpus=0.5)) == "2 CPU and 0.5 GPU"
    assert str(Request(cpus=1, memory_gb=4)) == "1 CPU and 0 GPU and 4 GB of memory"
