"""The command as a person typed it, and as it is printed: what a shell can run, without secrets."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from oneshui.printable import printable

SCRIPT, INSTALLED = "launch.py", "oneshui"
PASSING = ("mode", "row", "what", "replace")
"""Keys that say what is done with a sweep now, and nothing about what is computed."""

HIDDEN = "***"
_ADDRESS = re.compile(r"[\w+.-]+://\S+")
# A password may hold slashes, though it should not; in a bucket, names may hold the sign.
_USER = re.compile(r"(?<=^s3://)[^/]*@|(?<=^gs://)[^/]*@|(?<=://)(?<!^s3://)(?<!^gs://).*@")
_PARAMETER = re.compile(r"(?<=[?&;])([^=?&;]+)=[^&;#]*")


def program() -> list[str]:
    """The words before the arguments.

    They are ``uv run launch.py``, ``python launch.py``, ``oneshui`` or ``python -m oneshui``.
    """
    # uv leaves no trace but this among what it starts.
    uv = ["uv", "run"] if "UV_RUN_RECURSION_DEPTH" in os.environ else []
    typed = sys.argv[0]
    if Path(typed).name == INSTALLED:
        return [*uv, INSTALLED]
    python = sys.orig_argv[: -len(sys.argv)]
    if Path(typed).parts[-2:] == (INSTALLED, "__main__.py"):
        # The file has taken the module's place, so that "-m" is the last word before it.
        return [*([*uv, "python", "-m"] if uv else python), INSTALLED]
    if Path(typed).name != SCRIPT:
        # Called from a program, which was not typed.
        return ["python", SCRIPT]
    return [*(uv or python or ["python"]), typed]


def shell_line(overrides: Sequence[str]) -> str:
    """The command with these arguments, as bash and zsh take it; secrets are hidden."""
    return " ".join([*map(quoted, program()), *map(quoted, overrides)])


def quoted(word: str) -> str:
    """One word as bash and zsh take it; secrets in addresses are hidden."""
    word = without_secrets(word)
    if printable(word) != word:
        escaped = word.replace("\\", "\\\\").replace("'", "\\'")
        return f"$'{printable(escaped)}'"
    # zsh takes "=word" for the place of a program.
    return f"'{word}'" if word.startswith("=") and shlex.quote(word) == word else shlex.quote(word)


def without_secrets(text: str) -> str:
    """The text with user, password and the values of parameters taken out of every address."""
    return _ADDRESS.sub(lambda found: _bare(found.group()), text)


def _bare(address: str) -> str:
    return _PARAMETER.sub(rf"\1={HIDDEN}", _USER.sub("", address))


def override_key(override: str) -> str:
    """What an override of the command line sets, as "sweep.seeds" of "+sweep.seeds=[0]"."""
    return override.lstrip("+~").partition("=")[0]


def lasting(command: Sequence[str]) -> list[str]:
    """The overrides that say what is computed, not what is done with it now."""
    return [override for override in command if override_key(override) not in PASSING]
