"""Walks the commands of a part of cluster/README.md, in their order, in one shell.

Stand-ins, each of which is found under another program's name: ``uv run X`` is X of this
environment, ``curl`` tells an address, ``ssh`` and ``rsync`` take notes, ``docker`` takes notes and
tells a digest, and ``ray job`` parses its words as Ray does and sends nothing, because no head runs
here; what the sweep would have sent to the bucket is there then. ``launch.py`` has no sweep to look
at and takes notes. ``aws`` is the real one, wherever it is sent; ``gcloud`` only takes notes.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from support.cluster_files import FOLDER, write_program

ROOT = FOLDER.parent
PARSE = """
import sys
from ray.dashboard.modules.job.cli import job_cli_group as jobs
context = jobs.make_context("job", sys.argv[1:])
name, command, rest = jobs.resolve_command(context, sys.argv[1:])
command.make_context(name, rest, parent=context)
"""
DIGEST = "sha256:" + "0123456789abcdef" * 4
_DOCKER = f"""echo "docker $*" >>"{{notes}}"
case "$1 $2" in "buildx imagetools") echo {DIGEST} ;; esac"""
SUBMITTED = r"""
case "$*" in
  *submit*store.uri=s3://*)
    store=$(sed 's/.*store.uri=\([^ ]*\).*/\1/' <<<"$*")
    echo page | aws s3 cp - "$store-results/full/report/index.html" ;;
esac
"""


def blocks(title: str) -> list[str]:
    """The blocks of commands below a title of the second level."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, title
    return re.findall(r"^```\n(.*?)^```", found[1], re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Walk:
    """What a walk did.

    Attributes:
        output: All that was printed, errors too.
        failures: Calls of a provider's program that did not succeed.
        verdicts: By command of ``cluster``, its exit status and output, in order.
    """

    output: str
    failures: tuple[str, ...]
    verdicts: tuple[tuple[str, int, str], ...]


class Laptop:
    """A laptop with this repository, an empty home, and stand-ins for what leaves it."""

    def __init__(self, folder: Path) -> None:
        self.home, self.repository = folder / "home", folder / "repository"
        self._programs, self._log = folder / "programs", folder / "log"
        self.notes = folder / "notes"
        for made in (self.home, self.repository, self._log):
            made.mkdir(parents=True)
        for path in ROOT.iterdir():
            if path.name not in ("cluster", "runs"):
                (self.repository / path.name).symlink_to(path)
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(FOLDER, self.repository / "cluster", ignore=ignore)
        self._write_programs()

    def _write_programs(self) -> None:
        here = Path(sys.executable).parent
        (self._log / "parse.py").write_text(PARSE, encoding="utf-8")
        write_program(self._programs, "curl", "echo 192.0.2.1")
        # A shell goes on after a call that fails within the words of another command.
        write_program(
            self._programs,
            "aws",
            # Of version 2 alone, which no package index has.
            'if [ "$1 $2" = "configure export-credentials" ]; then\n'
            '  echo "export AWS_ACCESS_KEY_ID=$AWS_ACCESS_KEY_ID'
            ' AWS_SECRET_ACCESS_KEY=$AWS_SECRET_ACCESS_KEY"; exit\nfi\n'
            f'"{here}/aws" "$@" || {{ status=$?; echo "aws $*" >>"{self._log}/failed"; '
            "exit $status; }",
        )
        write_program(
            self._programs,
            "gcloud",
            f"""printf '%q ' "$@" >>"{self._log}/gcloud"
echo >>"{self._log}/gcloud" """,
        )
        write_program(self._programs, "docker", _DOCKER.format(notes=self.notes))
        write_program(self._programs, "ssh", f'echo "ssh $*" >>"{self.notes}"')
        # What comes from a head is written where it is asked for.
        write_program(
            self._programs,
            "rsync",
            f'echo "rsync $*" >>"{self.notes}"\n'
            'for last; do :; done\nif [ -d "$last" ]; then echo page >"$last/index.html"; fi',
        )
        write_program(
            self._programs,
            "uv",
            f"""set -u
test "$1" = run; shift
if [ "$1 $2" = "ray job" ]; then
  shift 2; echo "job $*" >>"{self.notes}"
  "{sys.executable}" "{self._log}/parse.py" "$@" || exit
{SUBMITTED}
  exit
fi
case "$*" in
  *"launch.py "*) echo "$*" >>"{self.notes}"; exit 0 ;;
  "python -m cluster."*)
    # Its status is a verdict, and a person reads on.
    number=$(ls "{self._log}" | wc -l)
    "{here}/$@" >"{self._log}/verdict" 2>&1; status=$?
    {{ echo "$3 $status"; cat "{self._log}/verdict"; }} | tee "{self._log}/$(printf %03d $number)"
    exit 0 ;;
esac
exec "{here}/$@" """,
        )

    def calls(self) -> list[list[str]]:
        """The words of each call of ``gcloud``, in order."""
        text = (self._log / "gcloud").read_text(encoding="utf-8")
        return [shlex.split(line) for line in text.splitlines()]

    def stand_in(self, name: str, text: str) -> None:
        """A shell script that is found under a program's name."""
        write_program(self._programs, name, text)

    def shell(
        self, commands: list[str], environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run blocks in one shell that ends at the first error; errors are in the output.

        Lines in which a person has to fill in something (``...``) are left out.
        """
        lines = [line for block in commands for line in block.splitlines()]
        kept = [line for line in lines if not re.search(r"\.\.\.(\s|$)", line)]
        script = "\n".join(["set -euo pipefail", *kept])
        path = f"{self._programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-c", script],
            cwd=self.repository,
            env={**os.environ, **environment, "HOME": str(self.home), "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )

    def walk(self, commands: list[str], environment: Mapping[str, str]) -> Walk:
        """Run blocks as ``shell`` does, none of which may end with an error."""
        done = self.shell(commands, environment)
        assert done.returncode == 0, done.stdout
        return Walk(done.stdout, self.failures(), self.verdicts())

    def verdicts(self) -> tuple[tuple[str, int, str], ...]:
        """What commands of ``cluster`` said since the last time: name, status and output."""
        found = []
        for file in sorted(self._log.glob("[0-9]*")):
            first, _, rest = file.read_text(encoding="utf-8").partition("\n")
            name, status = first.split()
            found.append((name, int(status), rest))
            file.unlink()
        return tuple(found)

    def failures(self) -> tuple[str, ...]:
        """Calls of a provider's program that did not succeed."""
        failed = self._log / "failed"
        return tuple(failed.read_text(encoding="utf-8").splitlines()) if failed.exists() else ()
