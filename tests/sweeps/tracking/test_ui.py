"""``mode=ui`` as a person runs it: its server ends with it, however it ends."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import children, wait_for

from oneshui.errors import InputError
from sweeps.tracking.client import make_database
from sweeps.tracking.ui import free_port, serve

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
IN_A_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from sweeps.cli import main
sys.exit(main(["sweep=smoke", f"output_dir={sys.argv[1]}", "mode=ui"]))
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    make_database(folder / "mlflow.db")
    return folder


def is_alive(pid: int) -> bool:
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return bool(state) and not state.startswith("Z")


@pytest.mark.parametrize("how", ["its terminal closes", "it is terminated"])
def test_the_server_ends_with_the_command(how: str, output: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, str(output)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as command:
        os.close(theirs)
        said = b""
        while b"Ctrl-C ends it" not in said:
            said += os.read(ours, 4096)
        family = children(command.pid)
        assert len(family) >= 2, "the server and its worker"
        assert not any("sqlite:" in words for _, words in family), "everybody sees them"
        if how == "it is terminated":
            command.send_signal(signal.SIGTERM)
        else:
            os.close(ours)
        number = signal.SIGTERM if how == "it is terminated" else signal.SIGHUP
        assert command.wait(30) == 128 + number
    wait_for(lambda: not any(is_alive(pid) for pid, _ in family), "the server's end", 10)
    if how == "it is terminated":
        os.close(ours)


def test_the_log_of_a_server_shows_no_password(tmp_path: Path) -> None:
    log = tmp_path / "log"
    address = "nothing+psycopg2://me:secret@127.0.0.1:1/db?password=secret"
    with (
        pytest.raises(InputError, match=r"server ended with status .* last words are in"),
        serve(address, free_port(0), log),
    ):
        pass
    assert "nothing+psycopg2://127.0.0.1:1/db?password=***" in log.read_text()
    assert "secret" not in log.read_text()
