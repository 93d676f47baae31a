"""Seconds to see that a dataset has not changed: what was hashed is remembered, against hash all.

    python benchmarks/contents.py [--pictures 200000] [--bytes 8000]

The plain way reads and hashes every file at each start, with as many threads. Ours lists the
folders and compares size and times with the record; it is run with the record whole, after one of a
hundred pictures was exchanged at equal size, and, as its first pass, without a record. Checks
alternate, medians count. The files are in the page cache, which favours the plain way. The bar is
10 s for the check of 200,000 unchanged files. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from oneshui.data import contents
from oneshui.data.contents import fingerprint, picture_contents
from oneshui.data.table import ImageTable

FOLDERS = 20
ROUNDS = 3
BAR_SECONDS = 10.0


def write_pictures(root: Path, count: int, size: int) -> ImageTable:
    """A table of files of noise: only their bytes matter here."""
    for folder in range(FOLDERS):
        (root / str(folder)).mkdir()
    paths = tuple(f"{number % FOLDERS}/{number}.bmp" for number in range(count))
    noise = np.random.default_rng(0).bytes(size)
    for number, path in enumerate(paths):
        (root / path).write_bytes(number.to_bytes(8, "little") + noise[8:])
    identity = np.arange(count, dtype=np.int64) // 10
    return ImageTable(
        dataset="table",
        task="multiclass",
        class_names=("a", "b"),
        root=root,
        paths=paths,
        identity=identity,
        label=np.arange(count, dtype=np.int64) % 2,
        identity_order=tuple(range(int(identity[-1]) + 1)),
        sizes=np.full(count, size, dtype=np.int64),
    )


def seconds(action: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def exchange(table: ImageTable) -> None:
    """Other bytes, but as many, in one of a hundred files."""
    for path in table.paths[::100]:
        content = (table.root / path).read_bytes()
        (table.root / path).write_bytes(content[::-1])


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=200_000)
    parser.add_argument("--bytes", type=int, default=8_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "pictures"
        root.mkdir()
        table = write_pictures(root, arguments.pictures, arguments.bytes)
        record = Path(folder) / "record"
        time.sleep(contents.SETTLED_SECONDS + 0.1)
        first = seconds(lambda: picture_contents(table, record))
        before = picture_contents(table, record)
        plain, ours, printed = [], [], []
        for _ in range(ROUNDS):
            plain.append(seconds(lambda: picture_contents(table)))
            ours.append(seconds(lambda: picture_contents(table, record)))
            printed.append(seconds(lambda: fingerprint(table, before)))
        exchange(table)
        changed = seconds(lambda: picture_contents(table, record))
        differing = sum(map(str.__ne__, before, picture_contents(table, record)))
        assert differing == len(table.paths[::100])
    result = {
        "pictures": len(table),
        "processors": os.cpu_count(),
        "plain": round(statistics.median(plain), 2),
        "check": round(statistics.median(ours), 2),
        "ratio": round(statistics.median(plain) / statistics.median(ours), 1),
        "first": round(first, 2),
        "changed": round(changed, 2),
        "fingerprint": round(statistics.median(printed), 2),
        "met": statistics.median(ours) + statistics.median(printed) < BAR_SECONDS,
    }
    print(
        f"{len(table)} pictures: check {result['check']} s, plain way {result['plain']} s "
        f"({result['ratio']} times); first pass {result['first']} s, one of 100 exchanged "
        f"{result['changed']} s, fingerprint {result['fingerprint']} s; bar {BAR_SECONDS:g} s"
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
