"""What others on the network see of a running sweep."""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ONE, children, kill_tree, start, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.ray]
RAYS_OWN = ("gcs_server", "raylet", "ray::", "core/src/ray", "ray/_private", "ray/dashboard")
STRANGER = """
import sys
import ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False)
except Exception as error:
    print(type(error).__name__, error)
else:
    print("connected", ray.cluster_resources())
"""


def listeners(pids: dict[int, str]) -> list[tuple[str, str, int]]:
    """Name, address and port of every TCP socket on which one of the processes listens."""
    sockets: dict[str, str] = {}
    for pid, name in pids.items():
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = str(link.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                sockets[target[8:-1]] = name
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                address, port = fields[1].split(":")
                found.append((sockets[fields[9]], _address(address), int(port, 16)))
    return found


def _address(text: str) -> str:
    raw = b"".join(bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8))
    address = ipaddress.ip_address(raw)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def ask_as_a_stranger(port: int, home: Path, **more: str) -> str:
    """What somebody without the token gets from Ray."""
    home.mkdir(exist_ok=True)
    private = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE")
    env = {key: value for key, value in os.environ.items() if key not in private}
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, f"127.0.0.1:{port}"],
        env={**env, "HOME": str(home), "RAY_gcs_server_request_timeout_seconds": "5", **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    return done.stdout + done.stderr


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")
def test_nothing_of_ours_listens_to_others_and_ray_wants_its_token(tmp_path: Path) -> None:
    with start("sweep=smoke", ONE, f"output_dir={tmp_path}", "cluster.workers=1") as driver:
        try:
            wait_for(
                lambda: any("Trainable" in name for _, name in children(driver.pid)), seconds=300
            )
            family = {driver.pid: "driver", **dict(children(driver.pid))}
            found = listeners(family)
            assert found, "Ray listens at least to itself"
            open_to_others = [
                (name, address, port)
                for name, address, port in found
                if not ipaddress.ip_address(address).is_loopback
            ]
            ours = [
                one for one in open_to_others if not any(word in one[0] for word in RAYS_OWN)
            ]
            # The driver and its workers are Ray's too; each has one port for the others.
            assert {name for name, *_ in ours} <= {"driver"}
            (port,) = [port for name, _, port in found if "gcs_server" in name][:1]
            for more in ({}, {"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "0" * 32}):
                answer = ask_as_a_stranger(port, tmp_path / "stranger", **more)
                assert "connected" not in answer, answer
            assert "uthenticat" in answer, answer
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                pass
        finally:
            kill_tree(driver.pid)
