"""Plants small faults in the code, one at a time, and counts those that the fast tests notice.

    uv run python scripts/plant_faults.py [PATTERN ...] [--jobs 2] [--least 0.9]

The faults are a fixed list, ``scripts/faults/*.toml``: where a text stands, and what to put in its
place. Each is planted in a copy of the working tree in which only the project's own files are, so
that golden data beside the checkout do not count. First the tests that mirror the file run, then
those of its folder, then all fast ones; a fault is noticed if any of them fails. Faults marked
``equivalent`` change nothing that anybody could see; they are planted too, and set apart.

Exit status 0 if at least the share ``--least`` is noticed, 1 if not, 2 if a fault does not fit the
code any more or the tests fail without one.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

PROJECT = Path(__file__).parents[1]
LISTS = Path(__file__).parent / "faults"
FAST = "not slow and not long"
SECONDS_A_ROUND = 3600.0
"""A round that is stopped counts as noticed, so this is more than all tests take on a busy machine;
a test that a fault makes hang is ended long before, by pytest's own timeout."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One small change that makes the code wrong.

    Attributes:
        name: What goes wrong, in a few words.
        file: Where, relative to the project.
        find: The text that is replaced; stands there exactly once.
        replace: What is put in its place.
        equivalent: Why nobody can see the change; empty for a true fault.
    """

    name: str
    file: str
    find: str
    replace: str
    equivalent: str = ""

    def planted(self, text: str) -> str:
        """The file's text with the fault.

        Raises:
            ValueError: The text to replace is not there exactly once, or nothing parses after it.
        """
        count = text.count(self.find)
        if count != 1:
            raise ValueError(f"{self.file}: {self.name!r} must find its text once, not {count}x")
        changed = text.replace(self.find, self.replace)
        try:
            if ast.dump(ast.parse(changed)) == ast.dump(ast.parse(text)):
                raise ValueError(f"{self.file}: {self.name!r} changes nothing")
        except SyntaxError as error:
            raise ValueError(f"{self.file}: {self.name!r} does not parse: {error}") from None
        return changed


def faults(patterns: Sequence[str] = ()) -> list[Fault]:
    """The list, or those of it whose file or name contains one of the patterns."""
    found = []
    for path in sorted(LISTS.glob("*.toml")):
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        found += [Fault(**one) for one in document["fault"]]
    return [
        fault
        for fault in found
        if not patterns or any(p in fault.file or p in fault.name for p in patterns)
    ]


def rounds(file: str, tests: Path) -> Iterator[list[str]]:
    """Tests to run for a fault in a file, from the nearest to all of them.

    Args:
        file: Relative to the project.
        tests: The project's folder of tests.
    """
    place = Path(file)
    name = place.parent.name if place.stem == "__init__" else place.stem.removeprefix("_")
    folder = tests / place.parent
    near = sorted(folder.glob(f"test_{name}*.py"))
    if near:
        yield [str(path.relative_to(tests.parent)) for path in near]
    if folder.is_dir():
        yield [str(folder.relative_to(tests.parent))]
    yield [str(tests.relative_to(tests.parent))]


def copy_project(folder: Path) -> Path:
    """A copy of the files that git knows or would take, in a folder of its own."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=PROJECT,
        capture_output=True,
        check=True,
    ).stdout
    root = folder / "project"
    for name in filter(None, listed.decode().split("\0")):
        if (PROJECT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, root / name)
    return root


def passes(root: Path, tests: Sequence[str]) -> bool:
    """Whether the fast tests among these pass in a copy; none to run is a pass."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "ONESHUI_GOLDEN": str(root / "tests" / "golden"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, "-m", FAST, *tests],
            cwd=root,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS_A_ROUND,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode in (0, 5)


def is_noticed(fault: Fault, root: Path) -> bool:
    """Plant the fault in a copy, run tests until one fails, and mend the copy again."""
    path = root / fault.file
    text = path.read_text(encoding="utf-8")
    path.write_text(fault.planted(text), encoding="utf-8")
    try:
        return any(not passes(root, tests) for tests in rounds(fault.file, root / "tests"))
    finally:
        path.write_text(text, encoding="utf-8")


def main() -> int:
    """Plant all faults and print what was noticed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("patterns", nargs="*", metavar="PATTERN")
    parser.add_argument("--jobs", type=int, default=2, help="copies in which faults are planted")
    parser.add_argument("--least", type=float, default=0.9, help="share that must be noticed")
    asked = parser.parse_args()
    wanted = faults(asked.patterns)
    try:
        for fault in wanted:
            fault.planted((PROJECT / fault.file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    begun = time.monotonic()
    noticed: dict[str, bool] = {}
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        copies: Queue[Path] = Queue()
        for number in range(asked.jobs):
            copies.put(copy_project(Path(scratch) / str(number)))
        root = copies.get()
        folders = sorted(
            {tests for one in wanted for tests in next(rounds(one.file, root / "tests"))}
        )
        if not passes(root, folders):
            print("the tests fail without any fault; mend them first", file=sys.stderr)
            return 2
        copies.put(root)

        def plant(fault: Fault) -> None:
            own = copies.get()
            try:
                noticed[fault.name] = is_noticed(fault, own)
            finally:
                copies.put(own)
            done = len(noticed)
            left = (time.monotonic() - begun) / done * (len(wanted) - done)
            mark = "noticed" if noticed[fault.name] else "MISSED"
            line = f"{done}/{len(wanted)} {mark:<7} {fault.file}: {fault.name}"
            print(f"{line} (about {left / 60:.0f} min left)", flush=True)

        with ThreadPoolExecutor(asked.jobs) as pool:
            list(pool.map(plant, wanted))
    return report(wanted, noticed, asked.least)


def report(wanted: Sequence[Fault], noticed: dict[str, bool], least: float) -> int:
    """Print a line a room, the faults that were missed, and the share; the exit status."""
    true = [fault for fault in wanted if not fault.equivalent]
    by_room: dict[str, list[Fault]] = {}
    for fault in true:
        by_room.setdefault(str(Path(fault.file).parent), []).append(fault)
    print()
    for room, those in sorted(by_room.items()):
        print(f"{room:<36} {sum(noticed[f.name] for f in those):>3} of {len(those)}")
    for fault in true:
        if not noticed[fault.name]:
            print(f"missed: {fault.file}: {fault.name}")
    for fault in wanted:
        if fault.equivalent:
            print(f"equivalent: {fault.file}: {fault.name} ({fault.equivalent})")
    count = sum(noticed[fault.name] for fault in true)
    share = count / len(true) if true else 1.0
    print(f"{count} of {len(true)} faults noticed by the fast tests: {share:.1%}")
    return 0 if share >= least else 1


if __name__ == "__main__":
    sys.exit(main())
