"""How the next machine is bought: as a spot machine, or on demand after refusals.

Knows no cloud: a provider of one adds the three answers that differ.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oneshui.errors import InputError, OneshuiError
from sweeps.store.private import runtime_folder

logger = logging.getLogger("oneshui.spot")

BOUGHT = "oneshui-bought"
"""Tag (label) of machines that were bought on demand in place of spot machines."""

PATIENCE_SECONDS = 50.0
"""Refusals for this long, about ten rounds of Ray's autoscaler, are not a moment's shortage."""

AGAIN_SECONDS = 900.0
"""After which spot machines are asked for again, though they were refused."""


def refusal_path() -> Path:
    """Where the driver on the same head finds what the provider said."""
    return runtime_folder() / "machines_refused.json"


class MachinesRefusedError(OneshuiError):
    """The provider gave no machine, or fewer than were asked for."""


@dataclass
class Market:
    """Whether spot machines are to be had, as far as their refusals tell.

    Attributes:
        patience: Seconds of refusals after which machines are bought on demand.
        again: Seconds after which spot machines are tried again.
        clock: Seconds.
    """

    patience: float = PATIENCE_SECONDS
    again: float = AGAIN_SECONDS
    clock: Callable[[], float] = time.monotonic
    reason: str = ""
    _first: float | None = None
    _last: float = 0.0

    @property
    def is_closed(self) -> bool:
        """Whether spot machines were refused for so long that others are bought."""
        return self._first is not None and self._last - self._first >= self.patience

    @property
    def is_worth_asking(self) -> bool:
        """Whether to ask for a spot machine now."""
        return not self.is_closed or self.clock() - self._last >= self.again

    def refused(self, reason: str) -> None:
        """Note a refusal, in the provider's own words."""
        now = self.clock()
        # Two refusals of different days are not one shortage.
        is_new = not self.is_closed and now - self._last > self.patience
        self._first = now if self._first is None or is_new else self._first
        self._last = now
        self.reason = reason

    def given(self) -> None:
        """Note that there was a spot machine."""
        self._first, self.reason = None, ""


def reason_of(error: BaseException) -> str:
    """What a provider says of a refusal, in one line: its own error behind Ray's."""
    told: BaseException = error
    while told.__cause__ is not None:
        told = told.__cause__
    described = [getattr(told, name, "") for name in ("category", "description")]
    first = told.args[0] if told.args else None
    if isinstance(first, Mapping) and first.get("errors"):
        # How an operation of Google Cloud's ends.
        described = [first["errors"][0].get(name, "") for name in ("code", "message")]
    words = ": ".join(str(one) for one in described if one) or str(told) or type(told).__name__
    return " ".join(words.split())


def _tell(reason: str) -> None:
    path = refusal_path()
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"at": time.time(), "reason": reason}), encoding="utf-8")
    new.replace(path)


class SpotFirst(ABC):
    """What is mixed into Ray's provider of a cloud: buys on demand where spot is refused.

    Two keys of ``provider`` in the launcher file are ours: ``on_demand_machines``, how many
    machines may be bought on demand at the same time, and ``on_demand_after_seconds``.
    """

    def __init__(self, provider_config: Mapping[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)  # type: ignore[call-arg]
        self._most = int(provider_config.get("on_demand_machines", 0))
        if self._most < 0:
            raise InputError(
                f"provider.on_demand_machines is {self._most}, but it must be 0 or more"
            )
        self.market = Market(
            patience=float(provider_config.get("on_demand_after_seconds", PATIENCE_SECONDS))
        )
        # Ray buys from several threads, and the limit holds for all of them together.
        self._buying = threading.Lock()

    @abstractmethod
    def is_spot(self, node_config: Mapping[str, Any]) -> bool:
        """Whether a machine is asked for as a spot machine."""

    @abstractmethod
    def on_demand(self, node_config: Mapping[str, Any]) -> dict[str, Any]:
        """The same machine, bought on demand."""

    @abstractmethod
    def buy(self, node_config: Mapping[str, Any], tags: dict[str, str], count: int) -> Any:
        """Ask the cloud for machines; raises what Ray's provider raises."""

    @abstractmethod
    def bought_on_demand(self) -> int:
        """Machines of this cluster that were bought on demand in place of spot machines."""

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> Any:
        """Buy machines; what Ray's autoscaler and ``ray up`` call.

        Raises:
            MachinesRefusedError: Not all that were asked for came; says why, in the provider's
                words.
        """
        if not self.is_spot(node_config):
            return self.buy(node_config, tags, count)
        with self._buying:
            try:
                bought = self._buy(node_config, tags, count)
            except MachinesRefusedError as error:
                _tell(str(error))
                raise
            refusal_path().unlink(missing_ok=True)
            return bought

    def _buy(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> Any:
        if self.market.is_worth_asking:
            try:
                bought = self.buy(node_config, tags, count)
            except Exception as error:  # each cloud's client has its own
                self.market.refused(reason_of(error))
                if not self.market.is_closed:
                    raise MachinesRefusedError(f"no spot machine: {self.market.reason}") from error
            else:
                self.market.given()
                return bought
        return self._buy_on_demand(node_config, tags, count)

    def _buy_on_demand(
        self, node_config: Mapping[str, Any], tags: dict[str, str], count: int
    ) -> Any:
        number = min(count, self._most - self.bought_on_demand())
        limit = (
            f"no spot machine: {self.market.reason}; of those bought on demand there may be "
            f"{self._most} (provider.on_demand_machines)"
        )
        if number <= 0:
            raise MachinesRefusedError(limit)
        try:
            bought = self.buy(self.on_demand(node_config), {**tags, BOUGHT: "on-demand"}, number)
        except Exception as error:
            raise MachinesRefusedError(
                f"no spot machine: {self.market.reason}; none on demand: {reason_of(error)}"
            ) from error
        logger.info("%d bought on demand: %s", number, self.market.reason)
        if number < count:
            raise MachinesRefusedError(limit)
        return bought
