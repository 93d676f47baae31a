"""Spot machines first on Google Cloud: ``provider.module`` in cluster/gcp.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.autoscaler._private.gcp.node_provider import GCPNodeProvider

from sweeps.executor.spot.purchase import BOUGHT, SpotFirst


class GoogleSpotFirst(SpotFirst, GCPNodeProvider):
    """Ray's provider of Compute Engine; the operation that makes a machine ends with an error."""

    def is_spot(self, node_config: Mapping[str, Any]) -> bool:
        """Whether the machine is asked for as a spot machine."""
        scheduling: Mapping[str, Any] = node_config.get("scheduling", {})
        return scheduling.get("provisioningModel") == "SPOT"

    def on_demand(self, node_config: Mapping[str, Any]) -> dict[str, Any]:
        """The same machine of the standard model."""
        scheduling = {**node_config["scheduling"], "provisioningModel": "STANDARD"}
        return {**node_config, "scheduling": scheduling}

    def buy(self, node_config: Mapping[str, Any], tags: dict[str, str], count: int) -> Any:
        """One operation per machine; raises if one of them ends with an error."""
        return GCPNodeProvider.create_node(self, dict(node_config), tags, count)

    def bought_on_demand(self) -> int:
        """Machines that run or come up with our label."""
        return len(self.non_terminated_nodes({BOUGHT: "on-demand"}))
