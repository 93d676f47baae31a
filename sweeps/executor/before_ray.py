"""What must hold before Ray starts: a token that is the user's alone, room for sockets, GPUs."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from oneshui.errors import InputError
from sweeps.graph.launch import Device
from sweeps.store.private import make_private

TOKEN, TOKEN_PATH = "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_LONGEST_SOCKET = "ray/session_2026-01-01_00-00-00_000000_{pid}/sockets/plasma_store"
_MOST_BYTES = 103 if sys.platform == "darwin" else 107


def require_short_paths() -> None:
    """Refuse a folder for temporary files whose path leaves Ray's sockets no room.

    Raises:
        InputError: Naming the folder and a remedy.
    """
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    longest = Path(folder) / _LONGEST_SOCKET.format(pid=os.getpid())
    excess = len(os.fsencode(longest)) - _MOST_BYTES
    if excess > 0:
        raise InputError(
            f"the folder for temporary files, {folder}, has a path of {len(os.fsencode(folder))} "
            f"bytes, {excess} more than Ray's sockets leave room for: set RAY_TMPDIR to a shorter "
            "one, for example RAY_TMPDIR=/tmp"
        )


def guard_token(otherwise: Path, *, create: bool) -> None:
    """See to it that nobody else can read the token of the user's Ray clusters.

    Who has it can run anything as this user, and Ray itself writes it as the umask says.

    Args:
        otherwise: Folder for the token where the home folder cannot be written.
        create: Whether to make a token where there is none.
    """
    if os.environ.get(TOKEN) or os.environ.get("RAY_AUTH_MODE") == "disabled":
        return
    if not os.access(Path.home(), os.W_OK):
        os.environ.setdefault(TOKEN_PATH, str(otherwise / ".ray_auth_token"))
    path = Path(os.environ.get(TOKEN_PATH) or Path.home() / ".ray" / "auth_token")
    if path.is_file():
        if path.stat().st_uid == os.getuid():
            path.chmod(0o600)
    elif create:
        make_private(path.parent)
        # Others of this user's programs find the whole token or none.
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".token-")
        os.close(descriptor)
        new = Path(name)
        new.chmod(0o600)
        new.write_text(secrets.token_hex(32), encoding="ascii")
        new.replace(path)


VISIBLE = "CUDA_VISIBLE_DEVICES"
_TOOLS = ("nvidia-smi", "rocm-smi", "xpu-smi")


@contextlib.contextmanager
def only_gpus(chosen: Sequence[int] | None, present: Callable[[], int]) -> Iterator[None]:
    """Show what is started in the block these GPUs alone.

    Ray hands out what its own environment shows it, and its workers know their GPUs by the names
    that stand there.

    Args:
        chosen: Places among the GPUs that can be seen; None for all of them.
        present: Counts the machine's GPUs.

    Raises:
        InputError: There are fewer.
    """
    if chosen is None:
        yield
        return
    before = os.environ.get(VISIBLE)
    names = [str(number) for number in range(present())] if before is None else _names(before)
    for place in chosen:
        if place >= len(names):
            why = f"{VISIBLE} is {before!r}" if before is not None else f"{VISIBLE} is not set"
            raise InputError(
                f"cluster.gpus names GPU {place}, but this machine shows {len(names)} ({why}): "
                "they are counted from 0"
            )
    os.environ[VISIBLE] = ",".join(names[place] for place in chosen)
    try:
        yield
    finally:
        del os.environ[VISIBLE]
        if before is not None:
            os.environ[VISIBLE] = before


def hides_gpus(chosen: Sequence[int] | None) -> bool:
    """Whether jobs would see no GPU, whatever the machine has."""
    shown = os.environ.get(VISIBLE)
    return (chosen is not None and not chosen) or (shown is not None and not _names(shown))


def sees_gpus(chosen: Sequence[int] | None, device: Device) -> bool:
    """Whether jobs of a command given here would compute on GPUs, as far as that can be told.

    Asks for the makers' own tools, because torch takes seconds.

    Args:
        chosen: Of the GPUs that can be seen; None for all of them.
        device: What the command names.
    """
    if device == "auto":
        return any(map(shutil.which, _TOOLS)) and not hides_gpus(chosen)
    return device != "cpu"


def _names(shown: str) -> list[str]:
    """The GPUs that the variable shows: CUDA reads up to the first that is none."""
    found = []
    for name in (part.strip() for part in shown.split(",")):
        if not name or name.startswith("-") or name == "NoDevFiles":
            break
        found.append(name)
    return found
