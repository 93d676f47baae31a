"""What must hold before Ray starts: a token that is the user's alone, and room for its sockets."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from pathlib import Path

from oneshui.errors import InputError
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
