"""How oneshui reaches MLflow: quietly, with short waits, and never through half a database.

With the other ``sweeps/tracking*.py`` the only importers of mlflow.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # Its progress bars would be drawn through ours.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def tracking_uri(given: str, output: Path) -> str:
    """The address to use: a sqlite file with its absolute path, or what was given.

    Args:
        given: The user's; empty for a database in the output folder.
        output: Folder of the sweep.
    """
    uri = given or f"sqlite:///{output.absolute() / 'mlflow.db'}"
    return f"sqlite:///{database(uri)}" if is_sqlite(uri) else uri


def connect(uri: str) -> MlflowClient:
    """A client; a sqlite database that is not there is made, whole.

    Raises:
        Exception: Whatever mlflow raises when it cannot use the address.
    """
    quieten()
    from mlflow import MlflowClient

    if is_sqlite(uri):
        if not database(uri).exists():
            make_database(database(uri))
        _wait_for_no_disk(database(uri))
    return MlflowClient(tracking_uri=uri)


def is_sqlite(uri: str) -> bool:
    """Whether the address is a sqlite file."""
    return uri.startswith("sqlite:///")


def is_server(uri: str) -> bool:
    """Whether the address is a tracking server."""
    return urlsplit(uri).scheme in ("http", "https")


def database(uri: str) -> Path:
    """The file behind a sqlite address."""
    return Path(uri.removeprefix("sqlite:///")).absolute()


def quieten() -> None:
    """Settings that count only before mlflow is imported, and no chatter on the user's console."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # MLflow's own use of SQLAlchemy; where warnings are errors it would not even start.
    warnings.filterwarnings(
        "ignore", category=DeprecationWarning, module=r"(mlflow|sqlalchemy|alembic)\b"
    )


_opened: set[str] = set()


def _wait_for_no_disk(path: Path) -> None:
    """Let commits to this database return before the disk has them.

    MLflow commits a dozen times a run, and each would wait for the disk. With a write-ahead log
    a crash of the machine can cost the last runs and never the database, and the store, which is
    the truth, publishes them again.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    if not _opened:
        event.listen(Engine, "connect", _relax)
    _opened.add(str(path))


def _relax(connection: Any, _record: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        files = {str(row[2]) for row in connection.execute("PRAGMA database_list")}
        if files & _opened:
            connection.execute("PRAGMA synchronous=NORMAL")


def make_database(path: Path) -> None:
    """Create MLflow's tables in a file of their own and publish it whole.

    Creating them takes seconds, and a process that is killed meanwhile would leave a database
    that MLflow refuses for ever.
    """
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".mlflow-", dir=path.parent) as folder:
        scratch, whole = Path(folder) / "scratch.db", Path(folder) / "whole.db"
        MlflowClient(tracking_uri=f"sqlite:///{scratch}").search_experiments(max_results=1)
        with (
            contextlib.closing(sqlite3.connect(scratch)) as source,
            contextlib.closing(sqlite3.connect(whole)) as target,
        ):
            source.backup(target)
            # Twice as fast, and readers do not wait; the file remembers it.
            target.execute("PRAGMA journal_mode=WAL")
        # Unlike a rename, a link leaves a database alone that somebody else made meanwhile.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(whole)
