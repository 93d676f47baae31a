"""What others on the network see of a running sweep."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import ONE, start
from support.processes import children, kill_tree, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.ray]
RAYS_OWN = ("gcs_server", "raylet", "ray::", "core/src/ray", "ray/_private", "ray/dashboard")
ASK = """
import sys
from ray._raylet import GcsClient
try:
    print("answered", GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None, timeout=10))
except Exception as error:
    print("refused", type(error).__name__)
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


def ask(port: int, home: Path, **auth: str) -> str:
    """What Ray's control service says to somebody with this home and these variables."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_AUTH")}
    done = subprocess.run(
        [sys.executable, "-c", ASK, f"127.0.0.1:{port}"],
        env={**env, "HOME": str(home), **auth},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.stdout


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")
def test_nothing_of_ours_listens_to_others_and_ray_wants_its_token(tmp_path: Path) -> None:
    # Many seeds: the sweep shall still run when the last question is asked.
    many = (f"sweep.seeds={list(range(20))}".replace(" ", ""), "cluster.workers=1")
    with start("sweep=smoke", ONE, f"output_dir={tmp_path}", *many) as driver:
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
            ours = [one for one in open_to_others if not any(word in one[0] for word in RAYS_OWN)]
            assert {name for name, *_ in ours} <= {"driver"}, "what Ray's driver listens on"
            (port,) = [port for name, _, port in found if "gcs_server" in name]
            stranger = tmp_path / "stranger"
            stranger.mkdir()
            wrong = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 32}
            for auth in ({}, {"RAY_AUTH_MODE": "disabled"}, wrong):
                assert ask(port, stranger, **auth) == "refused AuthenticationError\n"
            assert ask(port, Path.home(), RAY_AUTH_MODE="token").startswith("answered")
        finally:
            kill_tree(driver.pid)
