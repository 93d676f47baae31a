"""The guard that ends a head nobody drives, run with programs that stand in for the system's."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from support.cluster_files import FOLDER, write_program

SCRIPT = FOLDER / "idle_head.sh"


class Head:
    """A machine that has been up for ten days, whose programs and paths are files of the test."""

    def __init__(self, folder: Path, curl: str = "exit 6") -> None:
        self.folder, self.bin, self.signs = folder, folder / "bin", folder / "signs"
        self.signs.mkdir()
        (folder / "units").mkdir()
        self.up(days=10)
        write_program(self.bin, "shutdown", f'echo "$*" >>"{folder}/shutdowns"')
        write_program(self.bin, "systemctl", f'echo "$*" >>"{folder}/systemctl"')
        write_program(self.bin, "curl", curl)

    def up(self, *, days: float = 0, minutes: float = 0) -> None:
        (self.folder / "uptime").write_text(f"{days * 86400 + minutes * 60:.2f} 1.00\n")

    def signed(self, text: str, minutes_ago: float) -> None:
        path = self.signs / "driven"
        path.write_text(text)
        moment = time.time() - minutes_ago * 60
        os.utime(path, (moment, moment))

    def run(self, *arguments: str) -> None:
        environment = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "ONESHUI_HEAD": str(self.signs),
            "ONESHUI_IDLE_HEAD": str(self.folder / "installed"),
            "ONESHUI_UNITS": str(self.folder / "units"),
            "ONESHUI_UPTIME": str(self.folder / "uptime"),
        }
        subprocess.run([SCRIPT, *arguments], env=environment, check=True, timeout=60)

    def ends(self) -> bool:
        self.run("check")
        return (self.folder / "shutdowns").exists()


@pytest.mark.parametrize(
    ("said", "minutes_ago", "ends"),
    [
        ("120\n", 0, False),
        ("120\n", 118, False),
        ("120\n", 121, True),
        ("10\n", 11, True),  # done, and sent
        ("0\n", 100_000, False),  # cluster.head_idle_minutes=0
        ("none of a number\n", 119, False),
        ("none of a number\n", 121, True),
        ("0900\n", 890, False),  # not read as octal
    ],
)
def test_a_head_ends_when_its_last_sign_is_older_than_it_says(
    said: str, minutes_ago: float, ends: bool, tmp_path: Path
) -> None:
    head = Head(tmp_path)
    head.signed(said, minutes_ago)
    assert head.ends() == ends


@pytest.mark.parametrize(("minutes", "ends"), [(119, False), (121, True)])
def test_a_head_that_was_never_driven_ends(minutes: int, ends: bool, tmp_path: Path) -> None:
    head = Head(tmp_path)
    head.up(minutes=minutes)
    assert head.ends() == ends


def test_a_sign_from_before_the_machine_was_stopped_does_not_end_it_at_once(tmp_path: Path) -> None:
    head = Head(tmp_path)
    head.signed("120\n", 100_000)
    head.up(minutes=3)
    assert not head.ends()


def test_a_head_with_results_on_its_disk_stays(tmp_path: Path) -> None:
    head = Head(tmp_path)
    head.signed("120\n", 100_000)
    (head.signs / "keep").touch()
    assert not head.ends()
    (head.signs / "keep").unlink()
    assert head.ends()
    assert (tmp_path / "shutdowns").read_text() == "-h now\n"


GOOGLE = """
printf '%s\n' "$*" >>"$(dirname "$0")/../asked"
case "$*" in
  *token) printf '{"access_token":"secret-token","expires_in":3599,"token_type":"Bearer"}' ;;
  *instance/zone) printf projects/12/zones/us-west1-a ;;
  *instance/name) printf ray-oneshui-head-1 ;;
  *DELETE*) cat >>"$(dirname "$0")/../headers" ;;
esac
"""


def test_on_google_cloud_the_machine_is_deleted_with_its_disk(tmp_path: Path) -> None:
    head = Head(tmp_path, GOOGLE)
    head.signed("120\n", 121)
    assert head.ends()
    asked = (tmp_path / "asked").read_text()
    where = "https://compute.googleapis.com/compute/v1/projects/12/zones/us-west1-a/instances/"
    assert f"-X DELETE -H @- {where}ray-oneshui-head-1\n" in asked
    assert (tmp_path / "headers").read_text() == "Authorization: Bearer secret-token\n"
    assert "secret-token" not in asked


def test_where_the_machine_cannot_be_deleted_it_is_shut_down(tmp_path: Path) -> None:
    head = Head(tmp_path, GOOGLE + 'case "$*" in *DELETE*) exit 22 ;; esac')
    head.signed("120\n", 121)
    assert head.ends()


def test_the_guard_installs_itself_and_lets_every_user_sign(tmp_path: Path) -> None:
    head = Head(tmp_path)
    head.signs.rmdir()
    head.run()
    assert (tmp_path / "installed").read_bytes() == SCRIPT.read_bytes()
    assert head.signs.stat().st_mode & 0o7777 == 0o1777
    service = (tmp_path / "units/oneshui-idle-head.service").read_text()
    assert f"ExecStart={tmp_path}/installed check" in service
    assert "OnUnitActiveSec=60s" in (tmp_path / "units/oneshui-idle-head.timer").read_text()
    assert "enable --now oneshui-idle-head.timer" in (tmp_path / "systemctl").read_text()
    assert not (tmp_path / "shutdowns").exists()
