"""Audits a dataset on disk: ``python -m oneshui.data.check --dataset mufac --data-dir data``.

Counts images, identities and labels, decodes every picture, and finds the same picture twice,
within an identity, across identities, and across the sets of the benchmark's split, where it would
leak. The exit status is 0 if nothing was found, 1 if something was, 2 if the input cannot be used.
Imports no torch.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, TextIO

import numpy as np

from oneshui.data.contents import content_hash, read_file
from oneshui.data.near import MOST_PAIRS, Thumbnail, near_pairs, thumbnail
from oneshui.data.pictures import read_rgb
from oneshui.data.registry import Dataset, get, load_dataset
from oneshui.data.splits import Split, make_split, require_shared_labels
from oneshui.data.table import ABSENT, AbsentDatasetError, ImageTable
from oneshui.errors import DataError, InputError
from oneshui.printable import cell
from oneshui.spec import ProgressCallback, Walk

_SETS: Final = ("train", "val", "test")
_EXAMPLES: Final = 5
_BATCH: Final = 256


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Pictures that are the same, or look it.

    Attributes:
        paths: Two files or more, in the dataset's order.
        identities: Whom they show according to the dataset, in the order of ``paths``.
        sets: In which set of the split they are, in that order; empty without a split.
    """

    paths: tuple[str, ...]
    identities: tuple[int, ...]
    sets: tuple[str, ...]

    @property
    def across_identities(self) -> bool:
        """Whether they are said to show different people."""
        return len(set(self.identities)) > 1

    @property
    def across_sets(self) -> bool:
        """Whether they are in different sets of the split: training pictures leak."""
        return len(set(self.sets)) > 1


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What is in a dataset, and what is wrong with it.

    Attributes:
        dataset: Its name.
        num_images: Images listed.
        num_identities: Identities with an image.
        images_per_identity: Least, quartiles and most images of an identity.
        labels: Name and number of images of every class, or of every attribute's ones.
        split_seed: Seed of the split.
        sets: Set, images and identities of the split; empty if there can be none.
        split_error: Why there can be no split, or what is wrong with it, or "".
        missing: Listed pictures without a file.
        unreadable: Pictures that do not decode, and why.
        plain: Pictures of one colour.
        duplicates: Groups of identical files.
        near: Pairs that look the same though their files differ.
    """

    dataset: str
    num_images: int
    num_identities: int
    images_per_identity: tuple[float, ...]
    labels: tuple[tuple[str, int], ...]
    split_seed: int
    sets: tuple[tuple[str, int, int], ...]
    split_error: str
    missing: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...]
    plain: tuple[str, ...]
    duplicates: tuple[Copies, ...]
    near: tuple[Copies, ...]

    @property
    def findings(self) -> tuple[str, ...]:
        """What is wrong, a line each; near duplicates of one person are no fault."""
        within = [c for c in self.duplicates if not c.across_identities]
        across = [c for c in self.duplicates if c.across_identities]
        near = [c for c in self.near if c.across_identities]
        found = [
            (len(self.missing), "listed pictures have no file"),
            (len(self.unreadable), "pictures do not decode"),
            (len(self.plain), "pictures of one colour"),
            (len(within), "groups of identical files within an identity"),
            (len(across), f"groups of identical files across identities{_across_sets(across)}"),
            (len(near), f"pairs that look the same across identities{_across_sets(near)}"),
        ]
        lines = [f"{number} {what}" for number, what in found if number]
        return (*lines, self.split_error) if self.split_error else tuple(lines)


def _across_sets(copies: Sequence[Copies]) -> str:
    return f", {sum(c.across_sets for c in copies)} of them across train, val and test"


def audit(
    table: ImageTable,
    *,
    split_seed: int = 0,
    walk: Walk = "reference",
    threads: int | None = None,
    progress: ProgressCallback | None = None,
) -> Audit:
    """Look at every picture of a dataset.

    Args:
        table: The dataset, loaded with ``require_files=False`` so that pictures may be missing.
        split_seed: Seed of the benchmark's split.
        walk: How its people are split.
        threads: Threads that decode; None uses one per processor.
        progress: Called with (done, total) now and then.
    """
    split, split_error = _split(table, split_seed, walk)
    present = np.flatnonzero(table.sizes != ABSENT).tolist()
    files = [table.root / table.paths[row] for row in present]
    rows_of: dict[str, list[int]] = defaultdict(list)
    unreadable: list[tuple[str, str]] = []
    plain: list[str] = []
    looks: dict[int, Thumbnail] = {}
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for start in range(0, len(present), _BATCH):
            batch = present[start : start + _BATCH]
            seen = pool.map(_inspect, files[start : start + _BATCH])
            for row, one in zip(batch, seen, strict=True):
                rows_of[one.digest].append(row)
                if one.look is None:
                    unreadable.append((table.paths[row], one.problem))
                elif one.is_plain:
                    plain.append(table.paths[row])
                elif len(rows_of[one.digest]) == 1:
                    looks[row] = one.look
            if progress is not None:
                progress(start + len(batch), len(present))
    sets = _set_names(table, split)

    def copies(rows: Sequence[int]) -> Copies:
        return Copies(
            paths=tuple(table.paths[row] for row in rows),
            identities=tuple(int(table.identity[row]) for row in rows),
            sets=tuple(sets[row] for row in rows) if split else (),
        )

    distinct = list(looks)
    stacked = np.stack(list(looks.values())) if looks else np.empty((0, 256), np.uint8)
    per_identity = np.unique(table.identity, return_counts=True)[1]
    return Audit(
        dataset=table.dataset,
        num_images=len(table),
        num_identities=len(per_identity),
        images_per_identity=tuple(np.quantile(per_identity, [0, 0.25, 0.5, 0.75, 1]).tolist()),
        labels=_label_counts(table),
        split_seed=split_seed,
        sets=_set_sizes(split),
        split_error=split_error,
        missing=tuple(table.paths[row] for row in np.flatnonzero(table.sizes == ABSENT)),
        unreadable=tuple(unreadable),
        plain=tuple(plain),
        duplicates=tuple(copies(rows) for rows in rows_of.values() if len(rows) > 1),
        near=tuple(copies([distinct[i], distinct[j]]) for i, j in near_pairs(stacked)),
    )


@dataclass(frozen=True, kw_only=True)
class _Inspected:
    """What was seen of one file: its digest, and its thumbnail or why there is none."""

    digest: str
    look: Thumbnail | None = None
    is_plain: bool = False
    problem: str = ""


def _inspect(path: Path) -> _Inspected:
    digest = str(path)  # equals no other file's if this one cannot even be read
    try:
        content = read_file(path)
        digest = content_hash(content)
        rgb = read_rgb(content)
    except DataError as error:
        return _Inspected(digest=digest, problem=str(error))
    is_plain = rgb.getcolors(maxcolors=1) is not None
    return _Inspected(digest=digest, look=thumbnail(rgb), is_plain=is_plain)


def _split(table: ImageTable, seed: int, walk: Walk) -> tuple[Split | None, str]:
    """The benchmark's split, and what is wrong with it.

    The sets are the same whatever the number of forget identities.
    """
    try:
        split = make_split(table.identity, table.identity_order, num_forget=2, seed=seed, walk=walk)
    except InputError as error:
        return None, f"no split is possible: {error}"
    try:
        require_shared_labels(split, table.label)
    except InputError as error:
        return split, str(error)
    return split, split.uneven


def _set_names(table: ImageTable, split: Split | None) -> list[str]:
    """The set of every image, by its identity."""
    if split is None:
        return []
    of_identity = {identity: name for name in _SETS for identity in getattr(split, name)}
    return [of_identity[identity] for identity in table.identity.tolist()]


def _set_sizes(split: Split | None) -> tuple[tuple[str, int, int], ...]:
    if split is None:
        return ()
    return tuple(
        (
            name,
            int(np.isin(split.identity_of_image, getattr(split, name)).sum()),
            len(set(getattr(split, name)) & set(split.identity_of_image.tolist())),
        )
        for name in _SETS
    )


def _label_counts(table: ImageTable) -> tuple[tuple[str, int], ...]:
    if table.task == "multilabel":
        counts = table.label.sum(axis=0, dtype=np.int64)
    else:
        counts = np.bincount(table.label.astype(np.int64), minlength=len(table.class_names))
    return tuple(zip(table.class_names, counts.tolist(), strict=True))


def report(audit: Audit) -> str:
    """The audit as text, with a few examples of everything that was found."""
    least, *quartiles, most = (f"{value:g}" for value in audit.images_per_identity)
    shares = ", ".join(
        f"{cell(name)} {100 * n / audit.num_images:.1f}%" for name, n in audit.labels
    )
    lines = [
        f"{audit.dataset}: {audit.num_images} images of {audit.num_identities} identities",
        f"images per identity: {least} to {most}, quartiles {', '.join(quartiles)}",
        *textwrap.wrap(f"labels: {shares}", 100, subsequent_indent="  "),
    ]
    if audit.sets:
        sets = ", ".join(f"{name} {n} images of {people}" for name, n, people in audit.sets)
        lines.append(f"split with seed {audit.split_seed}: {sets} identities")
    lines += _section("missing files", [cell(path) for path in audit.missing])
    lines += _section(
        "unreadable pictures", [f"{cell(path)}: {why}" for path, why in audit.unreadable]
    )
    lines += _section("pictures of one colour", [cell(path) for path in audit.plain])
    for what, groups in (("identical files", audit.duplicates), ("look the same", audit.near)):
        for where, across in (("within an identity", False), ("across identities", True)):
            chosen = [_told(c) for c in groups if c.across_identities == across]
            lines += _section(f"{what} {where}", chosen)
    if len(audit.near) == MOST_PAIRS:
        lines.append(f"the search for pictures that look the same ended after {MOST_PAIRS} pairs")
    lines.append(_verdict(audit.findings))
    return "\n".join(lines) + "\n"


def _section(what: str, entries: Sequence[str]) -> Iterable[str]:
    yield f"{what}: {len(entries) or 'none'}"
    yield from (f"  {entry}" for entry in entries[:_EXAMPLES])
    if len(entries) > _EXAMPLES:
        yield f"  and {len(entries) - _EXAMPLES} more"


def _told(copies: Copies) -> str:
    sets = copies.sets or ("no set",) * len(copies.paths)
    parts = zip(copies.paths, copies.identities, sets, strict=True)
    return " = ".join(f"{cell(path)} (identity {person}, {name})" for path, person, name in parts)


def _verdict(findings: Sequence[str]) -> str:
    return f"findings: {'; '.join(findings)}" if findings else "no findings"


class _Parser(argparse.ArgumentParser):
    """Answers wrong arguments with one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; --help lists the arguments\n")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="oneshui.data.check", description="Audit a dataset on disk.")
    parser.add_argument("--dataset", required=True, help="layout, for example celeba or table")
    parser.add_argument(
        "--data-dir",
        type=Path,
        help="folder that contains it; not needed where an installed package brings it",
    )
    parser.add_argument("--split-seed", type=int, default=0, help="seed of the split (0)")
    parser.add_argument("--threads", type=int, help="threads that decode (one per processor)")
    arguments = parser.parse_args(argv)
    if arguments.threads is not None and arguments.threads < 1:
        parser.error(f"--threads is {arguments.threads}, but it must be at least 1")
    return arguments


def _show(done: int, total: int) -> None:
    """ProgressCallback on one line of a terminal; in a file only every tenth part."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\rchecked {done} of {total} pictures" + "\n" * (done == total))
    elif 10 * done // total > 10 * max(done - _BATCH, 0) // total:
        sys.stderr.write(f"checked {done} of {total} pictures\n")


def _say(stream: TextIO, text: str) -> None:
    """Write whatever the stream can encode, and escapes for the rest."""
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _folder(arguments: argparse.Namespace, dataset: Dataset) -> Path:
    """The folder that was given, or that of the package that brings the dataset."""
    if arguments.data_dir is not None:
        return Path(arguments.data_dir)
    if dataset.installed is None:
        raise InputError(f"say where {dataset.name} is by --data-dir")
    return dataset.installed()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Its arguments; None takes the process's.

    Returns:
        The exit status.
    """
    arguments = _arguments(argv)
    try:
        dataset = get(arguments.dataset)
        table = load_dataset(dataset.name, _folder(arguments, dataset), require_files=False)
    except DataError as error:
        if not isinstance(error, AbsentDatasetError):
            _say(sys.stdout, f"{arguments.dataset}: {_verdict([str(error)])}\n")
            return 1
        _say(sys.stderr, f"{error}\n")
        return 2
    except (InputError, OSError) as error:
        _say(sys.stderr, f"{error}\n")
        return 2
    result = audit(
        table,
        split_seed=arguments.split_seed,
        walk=dataset.walk,
        threads=arguments.threads,
        progress=_show,
    )
    _say(sys.stdout, report(result))
    return 1 if result.findings else 0


if __name__ == "__main__":
    sys.exit(main())
