"""Spot machines first on AWS: ``provider: {type: external, module: ...}`` in cluster/aws.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

from sweeps.executor.spot.purchase import BOUGHT, SpotFirst


class AwsSpotFirst(SpotFirst, AWSNodeProvider):
    """Ray's provider of EC2 machines; RunInstances refuses at once, with a code and a sentence."""

    def is_spot(self, node_config: Mapping[str, Any]) -> bool:
        """Whether the machine is asked for as a spot machine."""
        return "InstanceMarketOptions" in node_config

    def on_demand(self, node_config: Mapping[str, Any]) -> dict[str, Any]:
        """The same machine without the market's options."""
        return {key: value for key, value in node_config.items() if key != "InstanceMarketOptions"}

    def buy(self, node_config: Mapping[str, Any], tags: dict[str, str], count: int) -> Any:
        """One RunInstances per subnet until one gives machines."""
        return AWSNodeProvider.create_node(self, dict(node_config), tags, count)

    def bought_on_demand(self) -> int:
        """Machines that run or come up with our tag."""
        return len(self.non_terminated_nodes({BOUGHT: "on-demand"}))  # type: ignore[no-untyped-call]
