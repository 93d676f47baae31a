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
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from oneshui.errors import OneshuiError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from sqlalchemy.engine import Engine

COMPANIONS = ("-wal", "-shm")
"""Endings of the names of files that belong to a database."""

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
    if not given:
        return _address(output.absolute() / "mlflow.db")
    return _address(database(given)) if is_sqlite(given) else given


def _address(path: Path) -> str:
    """SQLAlchemy's address of a file: a "?" or "%" in its name must not end or change it."""
    return f"sqlite:///{quote(str(path), safe='/ +')}"


def connect(uri: str) -> MlflowClient:
    """A client; a sqlite database that is not there is made, whole.

    Raises:
        UnusableDatabaseError: The file is no database, damaged, or of another version of MLflow.
        Exception: Whatever mlflow raises when it cannot use the address.
    """
    quieten()
    from mlflow import MlflowClient

    if not is_sqlite(uri):
        return MlflowClient(tracking_uri=uri)
    path = database(uri)
    if path.exists() and not path.is_file():
        raise UnusableDatabaseError("it is no file")
    if not path.exists():
        # What was left of one that is gone would be read into the new one.
        _let_go(path)
        for ending in COMPANIONS:
            path.with_name(path.name + ending).unlink(missing_ok=True)
        make_database(path)
    _wait_for_no_disk(path)
    try:
        _check(path)
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    except Exception as error:
        if _may_pass(error):
            raise
        _let_go(path)
        raise UnusableDatabaseError(f"{type(error).__name__}: {error}") from error
    return client


def _let_go(path: Path) -> None:
    """Close this process's connections to a database: they would go on with the old file."""
    for engine in _engines:
        if engine.url.database == str(path):
            engine.dispose()


def _check(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != ("ok",):
        raise sqlite3.DatabaseError(*found)


def is_lost(path: Path) -> bool:
    """Whether a database is absent or damaged, as far as sqlite itself can tell."""
    if not path.is_file():
        return True
    try:
        _check(path)
    except sqlite3.DatabaseError as error:
        return not _may_pass(error)
    return False


_ADDRESSES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
}


def settle(path: Path, artifacts: Path) -> None:
    """Make a database find its artefacts where it lies now: a folder may be copied or moved.

    MLflow writes the whole path into every experiment and run. One that lay in a folder of the same
    name is taken to have come along.

    Args:
        path: Of a database that belongs to an output folder.
        artifacts: The folder beside it.

    Raises:
        sqlite3.Error: It cannot be read or written.
    """
    here, mark = artifacts.as_uri(), f"/{artifacts.name}"
    with contextlib.closing(sqlite3.connect(path, timeout=20)) as connection, connection:
        for table, column in _ADDRESSES.items():
            rows = connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall()
            changed = []
            for row, known in rows:
                before, found, after = (known or "").rpartition(mark)
                if before.startswith("file:") and found and f"{here}{after}" != known:
                    changed.append((f"{here}{after}", row))
            connection.executemany(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", changed)


class UnusableDatabaseError(OneshuiError):
    """A file in the place of MLflow's database that MLflow cannot use, now or later."""


_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
    }
)


def _may_pass(error: BaseException | None) -> bool:
    """Whether a busy, full or unreachable disk is behind the error, and not the file's content."""
    while error is not None:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            return True
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in _PASSING:
            return True
        error = error.__cause__ or error.__context__
    return False


def is_sqlite(uri: str) -> bool:
    """Whether the address is a sqlite file."""
    return uri.startswith("sqlite:///")


def is_server(uri: str) -> bool:
    """Whether the address is a tracking server."""
    return urlsplit(uri).scheme in ("http", "https")


def database(uri: str) -> Path:
    """The file behind a sqlite address."""
    return Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0])).absolute()


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
_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
"""MLflow keeps an engine for every address, and an engine its connections to the file."""


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
        event.listen(Engine, "engine_connect", lambda connection: _engines.add(connection.engine))
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
        MlflowClient(tracking_uri=_address(scratch)).search_experiments(max_results=1)
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
