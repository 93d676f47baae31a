"""``mode=ui``: MLflow's pages of a sweep, on this machine alone, until Ctrl-C or a signal."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NoReturn, TextIO

from rich.console import Console

from oneshui.errors import InputError
from sweeps.command import without_secrets
from sweeps.tracking.client import database, is_server, is_sqlite, settle, tracking_uri
from sweeps.tracking.publisher import links
from sweeps.tracking.runs import ARTIFACTS

PORT = 5000
START_SECONDS = 120.0
"""A server takes ten seconds to start, and more than a minute on a busy machine."""
STOP_SECONDS = 10.0
SERVER_ENVIRONMENT = {
    # Its job runner and queues take 1.4 GB and outlive the server.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def show(given_uri: str, output: Path, console: Console) -> None:
    """Start the UI on the sweep's own tracking store, say where, and wait for Ctrl-C.

    A tracking server that runs already gets no second one: its links are printed.

    Args:
        given_uri: The user's tracking address; empty for the database in the output folder.
        output: Folder of the sweep.
        console: Where to print.

    Raises:
        InputError: Nothing was published yet, or the server did not start.
    """
    uri = tracking_uri(given_uri, output)
    if is_server(uri):
        _say(console, without_secrets(uri).rstrip("/"), links(output, uri))
        return
    if is_sqlite(uri) and not database(uri).is_file():
        raise InputError(
            f"there is no MLflow database at {database(uri)}; run the sweep, or mode=report, first"
        )
    if uri == tracking_uri("", output):
        with contextlib.suppress(sqlite3.Error):
            # One that cannot be written, or is none, is shown as it is.
            settle(database(uri), output.absolute() / ARTIFACTS)
    console.print("starting MLflow's UI, which takes ten seconds or more")
    with serve(uri, free_port(PORT), output / "logs" / "mlflow-ui.log") as (process, address):
        _say(console, address, links(output, uri))
        console.print("Ctrl-C ends it")
        process.wait()
        raise InputError(
            f"MLflow's UI ended by itself with status {process.returncode}; its last words are in "
            f"{output / 'logs' / 'mlflow-ui.log'}"
        )


def _say(console: Console, server: str, found: Mapping[str, str]) -> None:
    for name, path in found.items():
        console.print(f"  {name}: {server}{path}", soft_wrap=True)
    if not found:
        console.print(f"  {server}/#/experiments", soft_wrap=True)


def free_port(wanted: int) -> int:
    """The port if it is free on loopback, else any that is."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise InputError("no port is free on 127.0.0.1; end another server first")


@contextlib.contextmanager
def serve(
    uri: str, port: int, log: Path, *options: str
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """An MLflow server on loopback with one worker; it ends with all its children.

    Args:
        uri: Of the database.
        port: On 127.0.0.1.
        log: Where its words go.
        options: Further ones of ``mlflow server``.

    Yields:
        The process, and the server's address, once it answers.

    Raises:
        InputError: It did not start.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", *options]
    address = f"http://127.0.0.1:{port}"
    with log.open("w", encoding="utf-8") as words, _left_in_order():
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # The address may hold a password, and everybody sees the words of a command.
            env={**os.environ, **SERVER_ENVIRONMENT, "MLFLOW_BACKEND_STORE_URI": uri},
            # A group of its own: Ctrl-C reaches us alone, and the group can be ended whole.
            start_new_session=True,
        )
        words.write(f"MLflow's server of {without_secrets(uri)} at {address}\n")
        words.flush()
        said = threading.Thread(target=_copy, args=(process.stdout, words), daemon=True)
        said.start()
        try:
            _wait_until_it_answers(process, address, log)
            yield process, address
        finally:
            _end(process)
            said.join(STOP_SECONDS)


def _copy(said: IO[bytes], log: TextIO) -> None:
    """Write what a server says, without passwords."""
    with said:
        for line in said:
            log.write(without_secrets(line.decode("utf-8", errors="replace")))
            log.flush()


@contextlib.contextmanager
def _left_in_order() -> Iterator[None]:
    """Leave the block by SystemExit when the terminal closes or this process is terminated.

    Both would end it at once otherwise, and what it started would stay.
    """
    numbers = (signal.SIGTERM, signal.SIGHUP)
    # Under nohup a closed terminal shall change nothing.
    ours = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]

    def leave(number: int, _frame: object) -> NoReturn:
        for one in ours:
            signal.signal(one, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in ours:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _wait_until_it_answers(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise InputError(
                f"MLflow's server ended with status {process.returncode}; its last words are in "
                f"{log}"
            )
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(f"{address}/health", timeout=2),
        ):
            return
        time.sleep(0.3)
    raise InputError(f"MLflow's server did not answer within {START_SECONDS:.0f} s; see {log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole group: first politely, then not."""
    for way in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, way)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            process.poll()
            try:
                os.killpg(process.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.05)
