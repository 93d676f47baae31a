"""A sweep's results as one file that a stranger unpacks and reads.

A tar of zstd: what describes the sweep, its plugins, its report and the results that its plan
reaches, with their sha256 in a list that ``sha256sum --check`` reads. The same results give the
same bytes: no times, no owners, one order. What is left out is noted beside the result, so that a
store tells it from what was lost.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from oneshui.errors import InputError
from sweeps.graph.artifacts import LEFT_OUT, Without
from sweeps.graph.plan import Plan
from sweeps.report.figures.catalogue import KINDS
from sweeps.report.tables import anchor
from sweeps.store import Entry
from sweeps.store.base import LEFT_OUT_NOTE, MANIFEST, encoded, manifest_of, sha256

ENDING = ".tar.zst"
SUMS = "SHA256SUMS"
REPORT = "report"
FOLDERS = ("plugins", REPORT)
"""Of the output folder: what is handed on beside the results."""
PICTURES = [name for name, kind in KINDS.items() if kind.has_pictures]
"""Kinds of figures that show support pictures."""
Content = bytes | Path


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an archive holds.

    Attributes:
        entries: Number of results.
        left_out: Number of files that were left out of them.
        left_out_bytes: Their bytes.
        shows_faces: Whether the report's page was left out because it shows real people.
    """

    entries: int
    left_out: int
    left_out_bytes: int
    shows_faces: bool


def check_target(to: Path, *, replace: bool) -> None:
    """Refuse a place that no archive can be written to.

    Raises:
        InputError: Another ending, a file that is there, or no folder.
    """
    if not to.name.endswith(ENDING):
        raise InputError(f"to is {str(to)!r}, but the archive's name must end with {ENDING}")
    if not to.parent.is_dir():
        raise InputError(f"to is {str(to)!r}, but there is no folder {to.parent}; make it first")
    if to.is_dir() or (to.exists() and not replace):
        raise InputError(f"{to} is there already; name another file, or say replace=true")


def export(
    plan: Plan,
    entries: Mapping[str, Entry],
    output: Path,
    to: Path,
    without: Collection[Without],
    description: Mapping[str, bytes],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Exported:
    """Write the archive whole or not at all.

    Args:
        plan: The sweep's graph.
        entries: Finished jobs by key; those that the plan does not reach are not written.
        output: Folder of the sweep.
        to: The archive.
        without: What is left out.
        description: Files that say what the sweep is, from ``sweeps.described.elsewhere``.
        progress: Called with the number of written files and of all.

    Raises:
        DamagedEntryError: A file of an entry is not as it was written.
        OSError: The archive cannot be written.
    """
    names = frozenset().union(*(LEFT_OUT[what] for what in without))
    reached = {key: entries[key] for key in plan.jobs if key in entries}
    hidden = _hidden(plan, output) if "images" in without else frozenset[str]()
    files: dict[str, Content] = {**description, **dict(_beside(output, hidden))}
    absent = {}
    for key, entry in reached.items():
        gone = {name for name in entry.files if name in names} | entry.left_out
        files |= _stored(entry, gone)
        absent[key] = [entry.files[name]["bytes"] for name in gone]
    sums = (f"{_sha256(files[name])}  {name}\n" for name in sorted(files))
    files[SUMS] = "".join(sums).encode()
    _write(to, anchor(plan.sweep.name), files, progress)
    return Exported(
        entries=len(reached),
        left_out=sum(map(len, absent.values())),
        left_out_bytes=sum(map(sum, absent.values())),
        shows_faces=bool(hidden),
    )


def _hidden(plan: Plan, output: Path) -> frozenset[str]:
    """Files of the report that show support pictures of real people, by name in it."""
    real = [name for name, dataset in plan.sweep.datasets.items() if dataset.generate is None]
    report = output / REPORT
    shown = {
        path.relative_to(report).as_posix()
        for kind in PICTURES
        for name in real
        for path in report.glob(f"figures/{kind}-{anchor(name)}-n*")
    }
    # The page holds copies of its figures.
    return frozenset(shown | {"index.html"} if shown else shown)


def _beside(output: Path, hidden: Collection[str]) -> Iterator[tuple[str, Content]]:
    for name in FOLDERS:
        for path in (output / name).rglob("*"):
            within = path.relative_to(output / name).as_posix()
            is_hidden = name == REPORT and within in hidden
            if path.is_file() and not path.is_symlink() and not is_hidden:
                yield path.relative_to(output).as_posix(), path


def _stored(entry: Entry, gone: Collection[str]) -> Iterator[tuple[str, Content]]:
    above = f"store/{entry.stage}/{entry.key}"
    for name in sorted(entry.files.keys() - gone):
        yield f"{above}/{name}", entry.file(name)
    yield f"{above}/{MANIFEST}", encoded(manifest_of(entry))
    if gone:
        note = {name: entry.files[name] for name in gone}
        yield f"{above}/{LEFT_OUT_NOTE}", encoded(note)


def _sha256(content: Content) -> str:
    return sha256(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()


def _write(
    to: Path, folder: str, files: Mapping[str, Content], progress: Callable[[int, int], None]
) -> None:
    import pyarrow as pa

    partial = to.with_name(f".{to.name}.{uuid.uuid4().hex[:8]}")
    try:
        with (
            pa.CompressedOutputStream(str(partial), "zstd") as stream,
            tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            for number, name in enumerate(sorted(files), start=1):
                _add(tar, str(PurePosixPath(folder, name)), files[name])
                progress(number, len(files))
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(to)
    finally:
        partial.unlink(missing_ok=True)


def _add(tar: tarfile.TarFile, name: str, content: Content) -> None:
    member = tarfile.TarInfo(name)
    member.mode = 0o644
    if isinstance(content, Path):
        member.size = content.stat().st_size
        with content.open("rb") as stream:
            tar.addfile(member, stream)
    else:
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
