"""Report and logs, sent where they outlive the machine that wrote them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from rich.console import Console

from oneshui.errors import OneshuiError
from sweeps.cli.words import several
from sweeps.cli.written import REPORT
from sweeps.graph.launch import LaunchSpec
from sweeps.store.objects import Bucket, in_parallel, is_bucket

SENT: Final = (REPORT, "logs")
"""Folders of the output folder that are sent."""

_PAGE: Final = f"{REPORT}/index.html"
_LIST: Final = f"{REPORT}/.sent.json"
"""Which files of the report were sent, so that no other is taken away when a later one comes."""
_PARALLEL: Final = 8


def destination(spec: LaunchSpec) -> str:
    """Where report and logs are sent; empty for nowhere.

    Raises:
        InputError: The address is of no service that is known.
    """
    places = spec.places
    to = places.copy_to
    if to is None and spec.cluster.head_idle_minutes and is_bucket(places.store_uri):
        name = re.sub(r"[^\w.=-]", "-", Path(places.output_dir).name)
        to = f"{places.store_uri.rstrip('/')}-results/{name}"
    if to and is_bucket(to):
        return Bucket(to, key="report.copy_to").uri
    return to or ""


def send(output: Path, to: str) -> int:
    """Copy report and logs; of a report that was sent there before nothing else stays.

    The page comes last, so that it names no absent file. What an earlier report held goes: pictures
    of people may have been withdrawn. Logs of other drivers stay, and so does what nobody sent.

    Args:
        output: Folder of the sweep.
        to: A folder, ``s3://`` or ``gs://``.

    Returns:
        How many files.

    Raises:
        InputError: The service does not take them.
        OSError: It does not answer, or the folder cannot be written.
    """
    files = [path.relative_to(output).as_posix() for path in _files(output)]
    page = [name for name in files if name == _PAGE]
    others = [name for name in files if name != _PAGE]
    there = _InBucket(to) if is_bucket(to) else _InFolder(to)
    in_parallel(lambda name: there.put(name, output / name), others, _PARALLEL)
    if page:
        there.put(_PAGE, output / _PAGE)
        earlier = _listed(there.get(_LIST))
        there.remove([name for name in earlier if name not in {*files}])
        of_report = [name for name in files if name.startswith(f"{REPORT}/")]
        there.put(_LIST, json.dumps(of_report).encode())
    return len(files)


def _listed(text: bytes | None) -> list[str]:
    """Names in the list that the last report left there; what is no name of a report is no name."""
    try:
        names = json.loads(text or b"[]")
    except ValueError:
        return []
    return [
        name
        for name in (names if isinstance(names, list) else [])
        if isinstance(name, str)
        and name.startswith(f"{REPORT}/")
        and ".." not in PurePosixPath(name).parts
    ]


class _InBucket:
    def __init__(self, to: str) -> None:
        self._bucket = Bucket(to, key="report.copy_to")

    def put(self, name: str, data: bytes | Path) -> None:
        self._bucket.put(name, data)

    def get(self, name: str) -> bytes | None:
        found = self._bucket.get(name)
        return None if found is None else found[0]

    def remove(self, names: Sequence[str]) -> None:
        self._bucket.remove(names)


class _InFolder:
    def __init__(self, to: str) -> None:
        self._folder = Path(to.removeprefix("file://"))

    def put(self, name: str, data: bytes | Path) -> None:
        to = self._folder / name
        to.parent.mkdir(parents=True, exist_ok=True)
        fresh = to.with_name(f".{to.name}-{os.getpid()}")
        try:
            fresh.write_bytes(data if isinstance(data, bytes) else data.read_bytes())
            fresh.replace(to)
        finally:
            fresh.unlink(missing_ok=True)

    def get(self, name: str) -> bytes | None:
        path = self._folder / name
        return path.read_bytes() if path.is_file() else None

    def remove(self, names: Sequence[str]) -> None:
        for name in names:
            (self._folder / name).unlink(missing_ok=True)


def send_away(output: Path, to: str, console: Console) -> bool:
    """Send what there is, and say so; whether it is there now.

    What cannot be sent ends no sweep: results are in the store, and the report can be written
    again from it.

    Args:
        output: Folder of the sweep.
        to: As for ``send``; empty for nowhere.
        console: Where it is said.
    """
    if not to:
        return False
    try:
        count = send(output, to)
    except (OneshuiError, OSError) as error:
        console.print(f"warning: report and logs were not sent: {error}", soft_wrap=True)
        return False
    console.print(f"report and logs, {several(count, 'file')}, are at {to}", soft_wrap=True)
    return True


def _files(output: Path) -> Iterator[Path]:
    for name in SENT:
        for path in sorted((output / name).rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield path
