"""The shell scripts: linted, and run with programs that stand in for a cluster's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.cluster_files import FOLDER, write_program
from support.processes import wait_for

SCRIPTS = sorted([*FOLDER.rglob("*.sh"), *FOLDER.rglob("*.sbatch")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    for command in (["bash", "-n", str(script)], [str(shellcheck), str(script)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


class Machine:
    """A machine whose programs and paths are files of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.seen = folder / "seen"
        (folder / "units").mkdir()
        write_program(self.bin, "pgrep", f'test "$*" = "-x raylet" && test -e "{folder}/raylet"')
        write_program(self.bin, "shutdown", f'echo "$*" >>"{folder}/shutdowns"')
        write_program(self.bin, "systemctl", f'echo "$*" >>"{folder}/systemctl"')

    def run(self, *arguments: str) -> None:
        environment = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "ONESHUI_SEEN": str(self.seen),
            "ONESHUI_DEADMAN": str(self.folder / "installed"),
            "ONESHUI_UNITS": str(self.folder / "units"),
        }
        script = str(FOLDER / "deadman.sh")
        subprocess.run([script, *arguments], env=environment, check=True, timeout=60)

    def was_shut_down(self) -> bool:
        return (self.folder / "shutdowns").exists()

    def age(self, minutes: float) -> None:
        moment = self.seen.stat().st_mtime - minutes * 60
        os.utime(self.seen, (moment, moment))


def test_a_worker_with_a_raylet_lives(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (tmp_path / "raylet").touch()
    machine.run("check")
    machine.age(60)
    machine.run("check")
    assert not machine.was_shut_down()


def test_a_worker_without_one_ends_itself_after_a_quarter_of_an_hour(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (tmp_path / "raylet").touch()
    machine.run("check")
    (tmp_path / "raylet").unlink()
    machine.age(14)
    machine.run("check")
    assert not machine.was_shut_down()
    machine.age(3)
    machine.run("check")
    assert (tmp_path / "shutdowns").read_text(encoding="utf-8") == "-h now\n"


def test_a_new_worker_has_half_an_hour_to_install(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.run("check")
    machine.age(29)
    machine.run("check")
    assert not machine.was_shut_down()
    machine.age(3)
    machine.run("check")
    assert machine.was_shut_down()


def test_the_switch_installs_itself_as_a_timer(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.run()
    assert (tmp_path / "installed").read_bytes() == (FOLDER / "deadman.sh").read_bytes()
    service = (tmp_path / "units/oneshui-deadman.service").read_text(encoding="utf-8")
    assert f"ExecStart={tmp_path}/installed check" in service
    assert "OnUnitActiveSec=60s" in (tmp_path / "units/oneshui-deadman.timer").read_text()
    assert "enable --now oneshui-deadman.timer" in (tmp_path / "systemctl").read_text()


def test_mlflow_is_started_on_loopback_and_checks_hosts(tmp_path: Path) -> None:
    write_program(tmp_path / "bin", "mlflow", 'echo "$@"; env | grep ^MLFLOW_ | sort')
    done = subprocess.run(
        [str(FOLDER / "mlflow.sh"), str(tmp_path / "db"), "s3://bucket/mlflow"],
        env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "server --host 127.0.0.1 --port 5000 --workers 1" in done.stdout
    assert "--allowed-hosts localhost:*,127.0.0.1:*" in done.stdout
    assert f"sqlite:///{tmp_path}/db/mlflow.db --artifacts-destination s3://bucket" in done.stdout
    assert "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false" in done.stdout
    assert "MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false" in done.stdout


class Allocation:
    """An allocation of two nodes: srun runs on this machine, ray runs what follows ``--``."""

    def __init__(self, folder: Path, driver: str, ray: str | None = None) -> None:
        self.folder = folder
        programs = folder / "bin"
        # Like Slurm's, it hands a signal to every process of its tasks.
        write_program(
            programs,
            "srun",
            'echo "$*" >asked; while [[ $1 == --* ]]; do shift; done; setsid "$@" & tasks=$!\n'
            "trap 'kill -TERM -- -$tasks' TERM; wait $tasks",
        )
        write_program(
            programs,
            "ray",
            ray
            or 'echo "$RAY_AUTH_MODE $(stat -c %a "$RAY_AUTH_TOKEN_PATH") $*" >started\n'
            'while [ "$1" != "--" ]; do shift; done; shift; exec "$@"',
        )
        write_program(programs, "scontrol", 'echo "$*" >>requeued')
        write_program(programs, "hostname", "echo 10.1.2.3 172.17.0.1")
        write_program(
            folder / ".venv/bin",
            "python",
            f'if [ "$1" = -c ]; then exec {sys.executable} "$@"; fi\necho "$*" >driven\n{driver}',
        )

    def start(self, **others: str) -> subprocess.Popen[str]:
        environment = {
            "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
            "SLURM_SUBMIT_DIR": str(self.folder),
            "SLURM_JOB_ID": "1234567",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_ON_NODE": "16",
            **others,
        }
        return subprocess.Popen(
            ["bash", str(FOLDER / "slurm/oneshui.sbatch"), "sweep=full", "data_dir=/a b"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, **others: str) -> tuple[int, str]:
        process = self.start(**others)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output

    def requeues(self) -> list[str]:
        log = self.folder / "requeued"
        return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def test_a_finished_sweep_ends_the_job_with_0(tmp_path: Path) -> None:
    allocation = Allocation(tmp_path, "exit 0")
    status, output = allocation.run()
    assert (status, allocation.requeues()) == (0, []), output
    assert "every job of the sweep is done" in output
    driven = (tmp_path / "driven").read_text(encoding="utf-8")
    assert driven == "launch.py cluster=existing sweep=full data_dir=/a b\n"


def test_ray_gets_address_nodes_and_a_token_that_goes_away(tmp_path: Path) -> None:
    Allocation(tmp_path, "exit 0").run()
    started = (tmp_path / "started").read_text(encoding="utf-8")
    assert started.startswith("token 600 symmetric-run --address 10.1.2.3:34567 --min-nodes 2 ")
    assert "--head" not in started
    assert "dashboard" not in started
    assert list(tmp_path.glob(".oneshui-*")) == []


@pytest.mark.parametrize(("given", "asked"), [({}, 16), ({"SLURM_CPUS_PER_TASK": "6"}, 6)])
def test_each_task_gets_its_processors(tmp_path: Path, given: dict[str, str], asked: int) -> None:
    """Since Slurm 22.05 srun does not inherit what sbatch was told."""
    Allocation(tmp_path, "exit 0").run(**given)
    assert f"--cpus-per-task={asked} ray " in (tmp_path / "asked").read_text(encoding="utf-8")


def test_a_launcher_that_ran_nothing_and_ends_with_0_is_not_believed(tmp_path: Path) -> None:
    allocation = Allocation(tmp_path, "exit 0", ray="exit 0")
    _, output = allocation.run()
    assert allocation.requeues() == ["requeue 1234567"]
    assert "Ray did not start" in output
    assert "done" not in output


def test_after_enough_turns_it_gives_up(tmp_path: Path) -> None:
    allocation = Allocation(tmp_path, "exit 0", ray="exit 0")
    status, output = allocation.run(SLURM_RESTART_COUNT="20")
    assert (status, allocation.requeues()) == (1, [])
    assert "not queued again after 20 restarts" in output


@pytest.mark.parametrize("status", [1, 2])
def test_what_another_turn_would_not_mend_is_not_queued_again(tmp_path: Path, status: int) -> None:
    allocation = Allocation(tmp_path, f"exit {status}")
    assert allocation.run()[0] == status
    assert allocation.requeues() == []


def test_a_sweep_that_was_ended_from_outside_is_queued_again(tmp_path: Path) -> None:
    allocation = Allocation(tmp_path, "kill -KILL $$")
    _, output = allocation.run()
    assert allocation.requeues() == ["requeue 1234567"]
    assert "was ended with status 137" in output


def test_when_the_time_is_up_it_is_queued_again(tmp_path: Path) -> None:
    allocation = Allocation(tmp_path, "exec sleep 60")
    process = allocation.start()
    deadline = time.monotonic() + 30
    while not (tmp_path / "driven").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert allocation.requeues() == ["requeue 1234567"], output
    assert "the time is up; queued again" in output
    assert list(tmp_path.glob(".oneshui-*")) == []


def shared(folder: Path, driver: str, **others: str) -> subprocess.Popen[str]:
    """A job on a part of a node: the command itself is a program of the test."""
    write_program(folder / ".venv/bin", "oneshui", f'echo "$RAY_TMPDIR $*" >driven\n{driver}')
    write_program(folder / "bin", "scontrol", 'echo "$*" >>requeued')
    return subprocess.Popen(
        ["bash", str(FOLDER / "slurm/shared.sbatch"), "sweep=full", "data_dir=/a b"],
        env={
            "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
            "SLURM_SUBMIT_DIR": str(folder),
            "SLURM_JOB_ID": "1234567",
            "SLURM_CPUS_PER_TASK": "8",
            **others,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize(("ended", "status", "queued"), [(0, 0, 0), (2, 2, 0), (137, 0, 1)])
def test_a_job_on_a_part_of_a_node_ends_as_its_sweep_does(
    ended: int, status: int, queued: int, tmp_path: Path
) -> None:
    process = shared(tmp_path, f"exit {ended}")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status, output
    place, _, words = (tmp_path / "driven").read_text().partition(" ")
    assert words == "cluster=local cluster.workers=8 sweep=full data_dir=/a b\n"
    assert place.startswith("/tmp/oneshui-1234567-")
    assert not Path(place).exists()
    assert (tmp_path / "requeued").exists() == bool(queued)


def test_a_job_on_a_part_of_a_node_comes_back_when_its_time_is_up(tmp_path: Path) -> None:
    process = shared(tmp_path, "exec sleep 60")
    wait_for((tmp_path / "driven").exists, "the sweep to begin")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "the time is up; queued again" in output
    assert (tmp_path / "requeued").read_text() == "requeue 1234567\n"


def test_a_part_of_a_node_is_not_asked_for_whole() -> None:
    lines = (FOLDER / "slurm/shared.sbatch").read_text().splitlines()
    asked = [line for line in lines if line.startswith("#SBATCH")]
    assert not any("exclusive" in line for line in asked)
    assert {"#SBATCH --nodes=1", "#SBATCH --gpus=1", "#SBATCH --cpus-per-task=8"} <= {*asked}
