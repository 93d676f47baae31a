"""Ray's provider for tests, whose machines have folders of their own, as machines have.

Ray's own starts its machines in the head's folder, and the first that leaves takes the code of the
jobs that still run with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE


class Raylets(FakeMultiNodeProvider):
    """Each machine is a raylet of this one.

    The launcher file's ``provider`` names the ``folder`` below which they have their own.
    """

    def _create_node_with_resources_and_labels(
        self,
        node_config: dict[str, Any],  # noqa: ARG002
        tags: dict[str, str],
        count: int,  # noqa: ARG002
        resources: dict[str, float],
        labels: dict[str, str],  # noqa: ARG002
    ) -> None:
        with self.lock:
            # Ray's own has no types.
            mine: Any = self
            name, kind = mine._next_hex_node_id(), tags[TAG_RAY_USER_NODE_TYPE]
            folder = tempfile.mkdtemp(prefix="m-", dir=self.provider_config["folder"])
            process = subprocess.Popen(
                [
                    str(Path(sys.executable).parent / "ray"),
                    "start",
                    f"--address={self._gcs_address}",
                    "--node-ip-address=127.0.0.1",
                    f"--num-cpus={resources['CPU']:g}",
                    f"--num-gpus={resources.get('GPU', 0):g}",
                    "--min-worker-port=0",
                    "--max-worker-port=0",
                    f"--temp-dir={folder}",
                    "--object-store-memory=80000000",
                    "--block",
                ],
                env={
                    **os.environ,
                    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": name,
                    "RAY_CLOUD_INSTANCE_ID": name,
                    "RAY_NODE_TYPE_NAME": kind,
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            mine._nodes[name] = {"tags": dict(tags), "node": process}

    def _terminate_node(self, node: dict[str, Any]) -> None:
        # ``ray start --block`` takes what it started with it.
        node["node"].terminate()
