"""Plants small faults in the code, one at a time, and counts those that the fast tests notice.

    uv run python scripts/plant_faults.py [PATTERN ...] [--jobs 2] [--least 0.9]

The faults are a fixed list, ``scripts/faults/*.toml``: where a text stands, and what to put in its
place. Each is planted in a copy of the working tree in which only the project's own files are, so
that golden data beside the checkout do not count. First the tests that mirror the file run, or
import it where none has its name, then those of its folder, then all fast ones; a fault is noticed
if any of them fails. Faults marked ``equivalent`` change nothing that anybody could see; they are
set apart, and only the nearest tests are asked: to run all in vain takes as long as many faults do.

Tests run in processes forked from one that has the foreign packages loaded already: that is most
of what the few tests of a file take otherwise.

Exit status 0 if at least the share ``--least`` is noticed, 1 if not, 2 if a fault does not fit the
code any more or the tests fail without one.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode
from queue import Queue
from typing import Literal

PROJECT = Path(__file__).parents[1]
LISTS = Path(__file__).parent / "faults"
FAST = "not slow and not long"
SECONDS_A_ROUND = 3600.0
"""A round that is stopped counts as noticed, so this is more than all tests take on a busy machine;
a test that a fault makes hang is ended long before, by pytest's own timeout."""

Round = Literal["nearest", "folder", "all"]
FORKED = multiprocessing.get_context("forkserver")


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


def rounds(file: str, tests: Path) -> Iterator[tuple[Round, list[str]]]:
    """Tests to run for a fault in a file, from the nearest to all of them.

    Args:
        file: Relative to the project.
        tests: The project's folder of tests.
    """
    place = Path(file).with_suffix("")
    module = place.parent if place.name == "__init__" else place
    folder = tests / place.parent
    near = sorted(folder.glob(f"test_{module.name.removeprefix('_')}*.py")) or [
        path for path in sorted(folder.rglob("test_*.py")) if _imports(path, module)
    ]
    if near:
        yield "nearest", [str(path.relative_to(tests.parent)) for path in near]
    if folder.is_dir():
        yield "folder", [str(folder.relative_to(tests.parent))]
    yield "all", [str(tests.relative_to(tests.parent))]


def _imports(test: Path, module: Path) -> bool:
    package, dotted = (".".join(place.parts) for place in (module.parent, module))
    pattern = rf"from ({re.escape(dotted)} import|{re.escape(package)} import .*\b{module.name}\b)"
    return re.search(pattern, test.read_text(encoding="utf-8")) is not None


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


def foreign_modules(root: Path) -> list[str]:
    """Modules of other packages that the code and its tests import anywhere, pytest at least."""
    names = {"pytest"}
    for path in (
        file for room in ("oneshui", "sweeps", "tests") for file in root.glob(f"{room}/**/*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
    own = {path.stem for folder in (root, root / "tests") for path in folder.iterdir()}
    return sorted(name for name in names if name.partition(".")[0] not in own)


def _run_tests(root: Path, tests: Sequence[str]) -> None:
    """In a process of its own: run the fast tests among these in a copy; leave the exit status."""
    os.setsid()
    os.chdir(root)
    sys.path.insert(0, str(root))
    os.environ |= {"PYTHONPATH": str(root), "ONESHUI_GOLDEN": str(root / "tests" / "golden")}
    with _log(root).open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    import pytest

    # Plugins that are loaded already cannot have their assertions rewritten.
    quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning", "-p", "no:cacheprovider"]
    status = pytest.main(["-x", "-q", "-n", "0", *quiet, "-m", FAST, *tests])
    _outcome(root).write_text(str(int(status)))
    sys.stdout.flush()
    os._exit(0)  # whatever threads are left


def _log(root: Path) -> Path:
    return root.parent / "tests.log"


def _outcome(root: Path) -> Path:
    return root.parent / "outcome"


def failing(root: Path, tests: Sequence[str]) -> str:
    """Which of the fast tests among these fails first in a copy; empty if none does.

    Args:
        root: The copy.
        tests: Files and folders, relative to the copy.
    """
    outcome = _outcome(root)
    outcome.unlink(missing_ok=True)
    process = FORKED.Process(target=_run_tests, args=(root, list(tests)))
    process.start()
    process.join(SECONDS_A_ROUND)
    if process.is_alive() and process.pid is not None:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    status = outcome.read_text() if outcome.is_file() else "none"
    if status in ("0", "5"):  # pytest's for success, and for nothing to run
        return ""
    log = _log(root).read_text(errors="replace")
    named = re.search(r"^(?:FAILED|ERROR) (\S.*?)(?: - |$)", log, re.M)
    return named[1] if named else f"pytest's exit status {status}"


def noticed_by(fault: Fault, root: Path) -> tuple[Round, str] | None:
    """Plant the fault in a copy, run tests until one fails, and mend the copy again.

    Returns:
        The round in which the fault was noticed, and the test that failed; None if none did.

    Raises:
        RuntimeError: The test fails without the fault as well.
    """
    path = root / fault.file
    text = path.read_text(encoding="utf-8")
    for name, tests in rounds(fault.file, root / "tests"):
        if fault.equivalent and name != "nearest":
            break
        path.write_text(fault.planted(text), encoding="utf-8")
        try:
            test = failing(root, tests)
        finally:
            path.write_text(text, encoding="utf-8")
        # The nearest tests of all faults were seen to pass before.
        again = test and name != "nearest" and (root / test.partition("::")[0]).exists()
        if again and failing(root, [test]):
            raise RuntimeError(f"{test} fails without any fault; mend it first")
        if test:
            return name, test
    return None


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
    try:
        noticed = plant(wanted, asked.jobs)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2
    return report(wanted, noticed, asked.least)


def plant(wanted: Sequence[Fault], jobs: int) -> dict[str, Round | None]:
    """Plant the faults one by one in each copy; the round in which each one was noticed.

    Raises:
        RuntimeError: Tests fail without any fault.
    """
    begun = time.monotonic()
    noticed: dict[str, Round | None] = {}
    FORKED.set_forkserver_preload(foreign_modules(PROJECT))
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        first = copy_project(Path(scratch) / "0")
        # By its hash: two versions of a file may have the same size and be of the same second.
        compileall.compile_dir(first, quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
        near = {t for fault in wanted for t in next(rounds(fault.file, first / "tests"))[1]}
        if test := failing(first, sorted(near)):
            log = _log(first).read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{log}\n{test} fails without any fault; mend it first")
        copies: Queue[Path] = Queue()
        copies.put(first)
        for number in range(1, jobs):
            copies.put(shutil.copytree(first, Path(scratch) / str(number) / "project"))

        def plant_one(fault: Fault) -> None:
            own = copies.get()
            try:
                found = noticed_by(fault, own)
            finally:
                copies.put(own)
            noticed[fault.name] = found[0] if found else None
            done = len(noticed)
            left = (time.monotonic() - begun) / done * (len(wanted) - done) / 60
            how = f"{found[0]:<7} {found[1]}" if found else "MISSED"
            line = f"{done}/{len(wanted)} {fault.file}: {fault.name}: {how}"
            print(f"{line} (about {left:.0f} min left)", flush=True)

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(plant_one, wanted))
    return noticed


def report(wanted: Sequence[Fault], noticed: Mapping[str, Round | None], least: float) -> int:
    """Print a line a room, the faults that were missed, and the share; the exit status."""
    columns: tuple[Round | None, ...] = ("nearest", "folder", "all", None)
    by_room: dict[str, Counter[Round | None]] = defaultdict(Counter)
    true = [fault for fault in wanted if not fault.equivalent]
    for fault in true:
        by_room[str(Path(fault.file).parent)][noticed[fault.name]] += 1
    heads = ("nearest", "folder", "all", "missed")
    print(f"\n{'noticed by the tests that are':<36}" + "".join(f"{head:>9}" for head in heads))
    for room, counts in sorted(by_room.items()):
        print(f"{room:<36}" + "".join(f"{counts[column]:>9}" for column in columns))
    for fault in true:
        if not noticed[fault.name]:
            print(f"missed: {fault.file}: {fault.name}")
    for fault in wanted:
        if fault.equivalent:
            mark = "equivalent, yet noticed" if noticed[fault.name] else "equivalent"
            print(f"{mark}: {fault.file}: {fault.name} ({fault.equivalent})")
    count = sum(noticed[fault.name] is not None for fault in true)
    share = count / len(true) if true else 1.0
    print(f"{count} of {len(true)} faults noticed by the fast tests: {share:.1%}")
    return 0 if share >= least else 1


if __name__ == "__main__":
    sys.exit(main())
