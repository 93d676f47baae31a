"""When a machine is bought as a spot machine and when on demand, without any cloud."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from oneshui.errors import InputError
from sweeps.executor.machine_watch import MachineWatch, refusal
from sweeps.executor.spot.purchase import (
    BOUGHT,
    MachinesRefusedError,
    Market,
    SpotFirst,
    reason_of,
    refusal_path,
)

SPOT: dict[str, Any] = {"kind": "spot"}


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


class Cloud:
    """Gives machines unless it is told to refuse them."""

    def __init__(self, provider_config: Mapping[str, Any], cluster_name: str) -> None:
        self.name = cluster_name
        self.refused: dict[str, str] = {}
        self.bought: list[tuple[str, int, str]] = []
        self.config = provider_config

    def sell(self, kind: str, count: int, label: str) -> dict[str, int]:
        if kind in self.refused:
            raise ConnectionError(self.refused[kind])
        self.bought.append((kind, count, label))
        return {"machines": count}


class Played(SpotFirst, Cloud):
    def is_spot(self, node_config: Mapping[str, Any]) -> bool:
        return bool(node_config["kind"] == "spot")

    def on_demand(self, node_config: Mapping[str, Any]) -> dict[str, Any]:
        return {**node_config, "kind": "on demand"}

    def buy(self, node_config: Mapping[str, Any], tags: dict[str, str], count: int) -> Any:
        return self.sell(node_config["kind"], count, tags.get(BOUGHT, ""))

    def bought_on_demand(self) -> int:
        return sum(count for kind, count, _ in self.bought if kind == "on demand")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder for locks of this test's own."""
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))


def provider(most: int = 2) -> tuple[Played, Clock]:
    made, clock = Played({"on_demand_machines": most, "on_demand_after_seconds": 50}, "c"), Clock()
    made.market.clock = clock
    return made, clock


def ask(made: Played, count: int = 1) -> str:
    """What a refusal says; "" where all machines came."""
    try:
        made.create_node(SPOT, {"a": "b"}, count)
    except MachinesRefusedError as error:
        return str(error)
    return ""


def test_spot_machines_are_bought_while_there_are_any() -> None:
    made, clock = provider()
    for _ in range(3):
        assert ask(made, 4) == ""
        clock.now += 100
    assert made.bought == [("spot", 4, "")] * 3


def test_on_demand_machines_come_after_refusals_that_last_and_no_more_than_allowed() -> None:
    made, clock = provider()
    made.refused["spot"] = "no capacity"
    for _ in range(10):
        assert ask(made) == "no spot machine: no capacity"
        clock.now += 5
    assert made.bought == []
    assert ask(made, 1) == ""
    assert made.bought == [("on demand", 1, "on-demand")]
    clock.now += 5
    said = ask(made, 4)
    assert "no spot machine: no capacity; of those bought on demand there may be 2" in said
    assert made.bought_on_demand() == 2
    assert "there may be 2" in ask(made)
    assert made.bought_on_demand() == 2


def test_a_spot_machine_in_between_starts_the_count_anew() -> None:
    made, clock = provider()
    made.refused["spot"] = "no capacity"
    ask(made)
    clock.now += 49
    ask(made)
    made.refused.clear()
    assert ask(made) == ""
    made.refused["spot"] = "no capacity"
    clock.now += 49
    assert ask(made) == "no spot machine: no capacity"
    assert made.bought_on_demand() == 0


def test_spot_machines_are_tried_again_after_a_quarter_of_an_hour() -> None:
    made, clock = provider(most=9)
    made.refused["spot"] = "no capacity"
    ask(made)
    clock.now += 50
    assert ask(made) == ""
    made.refused.clear()
    clock.now += 899
    assert ask(made) == ""
    assert made.bought[-1][0] == "on demand"
    clock.now += 1
    assert ask(made) == ""
    assert made.bought[-1][0] == "spot"


def test_a_refused_second_try_closes_the_market_for_as_long_again() -> None:
    made, clock = provider(most=9)
    made.refused["spot"] = "no capacity"
    ask(made)
    clock.now += 50
    ask(made)
    clock.now += 900
    assert ask(made) == ""
    made.refused.clear()
    clock.now += 899
    ask(made)
    assert made.bought[-1][0] == "on demand"


def test_the_driver_reads_what_was_refused_until_a_machine_comes() -> None:
    made, _ = provider()
    assert refusal(refusal_path()) == ""
    made.refused["spot"] = "no capacity"
    ask(made)
    assert refusal(refusal_path()) == "no spot machine: no capacity"
    assert refusal(refusal_path(), lambda: time.time() + 901) == ""
    made.refused.clear()
    ask(made)
    assert refusal(refusal_path()) == ""
    refusal_path().write_text("{")
    assert refusal(refusal_path()).startswith("what the provider said cannot be read")


def test_ten_minutes_without_a_machine_are_said_with_the_providers_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    watch = MachineWatch(lambda: "VcpuLimitExceeded: 0 of 0", clock=clock)
    said = []
    for machines, waiting in [(0, 5)] * 13 + [(1, 5)] + [(0, 0)] * 13 + [(0, 5)] * 10:
        caplog.clear()
        watch.look(machines, waiting)
        said += [record.getMessage() for record in caplog.records]
        clock.now += 60
    text = "no machine for 10 minutes: quota, capacity or role? VcpuLimitExceeded: 0 of 0"
    assert said == [text]
    caplog.clear()
    watch.look(0, 5)
    watch.why = lambda: ""
    clock.now += 600
    watch.look(0, 5)
    assert "kubectl describe pod" in caplog.text


def test_both_refusals_are_told() -> None:
    made, clock = provider()
    made.refused = {"spot": "no capacity", "on demand": "quota of 0"}
    ask(made)
    clock.now += 50
    assert ask(made) == "no spot machine: no capacity; none on demand: quota of 0"


def test_a_machine_that_is_no_spot_machine_is_just_bought() -> None:
    made, _ = provider()
    made.create_node({"kind": "head"}, {}, 1)
    assert made.bought == [("head", 1, "")]
    made.refused["head"] = "no role"
    with pytest.raises(ConnectionError, match="no role"):
        made.create_node({"kind": "head"}, {}, 1)


def test_a_number_below_zero_is_refused() -> None:
    with pytest.raises(InputError, match=r"provider\.on_demand_machines is -1"):
        Played({"on_demand_machines": -1}, "c")
    assert Played({}, "c").market == Market()


def test_refusals_that_are_far_apart_are_not_one_shortage() -> None:
    now = [0.0]
    market = Market(clock=lambda: now[0])
    for at in (0.0, 3600.0, 3640.0):
        now[0] = at
        market.refused("none")
        assert not market.is_closed
    now[0] = 3651.0
    market.refused("none")
    assert market.is_closed
    # Tried again a quarter of an hour later, and refused again: others are bought at once.
    now[0] += 900.0
    assert market.is_worth_asking
    market.refused("none")
    assert market.is_closed


def test_the_reason_is_what_the_provider_said_behind_rays_error() -> None:
    class LaunchError(Exception):
        category, description = "VcpuLimitExceeded", "You have requested\n more"

    outer = RuntimeError("Ray's")
    outer.__cause__ = LaunchError()
    assert reason_of(outer) == "VcpuLimitExceeded: You have requested more"
    assert reason_of(ValueError()) == "ValueError"
    ended = Exception({"errors": [{"code": "QUOTA_EXCEEDED", "message": "of GPUS_ALL_REGIONS"}]})
    assert reason_of(ended) == "QUOTA_EXCEEDED: of GPUS_ALL_REGIONS"
