"""oneshui as a user has it: installed from the built wheel, run from a folder of theirs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from support.commands import PROJECT, Done

_WHERE = "import oneshui, sweeps; print(oneshui.__file__, sweeps.__file__, sep='\\n')"


@dataclass(frozen=True)
class Installed:
    """The command and its packages.

    Attributes:
        site: Folder of the installed packages; the environment's own ones are found after it.
    """

    site: Path

    def words(self, form: Literal["oneshui", "python -m oneshui"] = "oneshui") -> list[str]:
        """What begins a command of this form."""
        if form == "oneshui":
            return [str(self.site / "bin" / "oneshui")]
        return [sys.executable, "-m", "oneshui"]

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        own = {k: v for k, v in os.environ.items() if k != "UV_RUN_RECURSION_DEPTH"}
        return {**own, "COLUMNS": "120", "PYTHONPATH": str(self.site), **(env or {})}

    def run(
        self,
        *arguments: str,
        cwd: Path,
        form: Literal["oneshui", "python -m oneshui"] = "oneshui",
        env: Mapping[str, str] | None = None,
        timeout: float = 600,
    ) -> Done:
        """A command to its end, from a folder of the user's."""
        return self._done([*self.words(form), *arguments], cwd, env, timeout)

    def python(
        self, code: str, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None
    ) -> Done:
        """A program of the user's to its end."""
        # -P: the folder itself is no place of modules, as it is none for the command.
        return self._done([sys.executable, "-P", "-c", code, *arguments], cwd, env, 600)

    def _done(
        self, words: Sequence[str], cwd: Path, env: Mapping[str, str] | None, timeout: float
    ) -> Done:
        begin = time.monotonic()
        done = subprocess.run(
            words,
            cwd=cwd,
            env=self.environment(env),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr, time.monotonic() - begin)


def install(folder: Path) -> Installed:
    """Build the wheel of this checkout and install it alone, below a folder."""
    for offline in (["--offline"], []):
        # What builds is in uv's cache since the checkout was installed, mostly.
        command = ["uv", "build", "--wheel", "--quiet", *offline, "--out-dir", str(folder)]
        built = subprocess.run(
            [*command, str(PROJECT)], capture_output=True, text=True, check=False
        )
        if built.returncode == 0:
            break
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    options = ["--offline", "--no-deps", "--quiet", "--python", sys.executable]
    subprocess.run(["uv", "pip", "install", *options, "--target", site, wheel], check=True)
    found = Installed(site)
    where = found.python(_WHERE, cwd=folder).out.split()
    assert where == [str(site / name / "__init__.py") for name in ("oneshui", "sweeps")], where
    return found
