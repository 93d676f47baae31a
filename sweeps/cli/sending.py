"""Report and logs, sent where they outlive the machine that wrote them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.console import Console

from oneshui.errors import OneshuiError
from sweeps.cli.words import several
from sweeps.cli.written import REPORT
from sweeps.graph.spec import LaunchSpec
from sweeps.store.objects import Bucket, in_parallel, is_bucket

SENT: Final = (REPORT, "logs")
"""Folders of the output folder that are sent."""

_PAGE: Final = f"{REPORT}/index.html"
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
    """Copy report and logs; of the report nothing else stays there.

    The page comes last, so that it names no absent file. What was in an earlier report goes:
    pictures of people may have been withdrawn. Logs of other drivers stay.

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
    if is_bucket(to):
        bucket = Bucket(to, key="report.copy_to")
        in_parallel(lambda name: bucket.put(name, output / name), others, _PARALLEL)
        for name in page:
            bucket.put(name, output / name)
        if page:
            bucket.remove([one.name for one in bucket.list(REPORT) if one.name not in {*files}])
    else:
        folder = Path(to.removeprefix("file://"))
        for name in [*others, *page]:
            _copy(output / name, folder / name)
        for path in (folder / REPORT).rglob("*") if page else ():
            if path.is_file() and path.relative_to(folder).as_posix() not in files:
                path.unlink()
    return len(files)


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


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    fresh = to.with_name(f".{to.name}-{os.getpid()}")
    try:
        fresh.write_bytes(path.read_bytes())
        fresh.replace(to)
    finally:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
