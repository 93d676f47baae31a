"""After deletion: reaching for the training data is an error, not a matter of good will.

What a one-shot method is handed holds no path to the training data. This guard is the second
line: while it is active, an attempt of Python code in this process to reach what is protected
raises, as far as Python's audit events tell. Native code that opens files by itself is beyond it:
that is what ``oneshui.enclosure`` is for. What remains without it is listed in docs/security.md.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from oneshui import blas
from oneshui.errors import DataAccessError

_PATHS: Mapping[str, tuple[int, ...]] = {
    "open": (0,),
    "os.chdir": (0,),
    "os.chmod": (0,),
    "os.chown": (0,),
    "os.link": (0, 1),
    "os.listdir": (0,),
    "os.mkdir": (0,),
    "os.remove": (0,),
    "os.rename": (0, 1),
    "os.rmdir": (0,),
    "os.scandir": (0,),
    "os.symlink": (0, 1),
    "os.truncate": (0,),
    "os.utime": (0,),
    "glob.glob": (0,),
    "shutil.copyfile": (0, 1),
    "shutil.copytree": (0, 1),
    "shutil.move": (0, 1),
    "shutil.rmtree": (0,),
    "sqlite3.connect": (0,),
}
"""Events about files, and which of their arguments are names of files."""

_WAYS_OUT = frozenset(
    {
        "ctypes.cdata",
        "ctypes.dlopen",
        "ctypes.dlsym",
        "ctypes.dlsym/handle",
        "ctypes.call_function",
        "ctypes.string_at",
        "gc.get_objects",
        "gc.get_referrers",
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "os.system",
        "pty.spawn",
        "socket.bind",
        "socket.connect",
        "socket.sendto",
        "subprocess.Popen",
    }
)
"""Events of code that leaves Python, reaches other processes, or walks through all objects. None of
our methods has cause to."""

_PROCESSES = frozenset({"/proc", "/dev/shm"})
"""Where a system shows processes and their memory."""


def _load_libraries() -> None:
    """Load what methods need by calls that the guard refuses.

    SciPy's linear algebra, and timm with torchvision's operators: torchvision takes a refusal for
    their absence, says nothing, and cannot be imported in this process again.
    """
    blas.found()
    importlib.import_module("timm")


Hook = Callable[[str, tuple[Any, ...]], None]
_lock = threading.Lock()
_active: list[Hook] = []
_installed = False


def spellings(paths: Iterable[Path]) -> frozenset[str]:
    """Each path as it is named, and as it is without links."""
    return frozenset(
        spelling
        for path in paths
        for spelling in (os.path.normpath(Path(path).absolute()), os.path.realpath(path))
    )


@functools.lru_cache(maxsize=64)
def _led_to(folder: str) -> frozenset[str]:
    """Where links inside the folder lead to, as far as that is outside of it.

    A folder of pictures is often a link to another disk, and so may each picture be.
    """
    found = set()
    waiting = [folder]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    found.add(os.path.realpath(entry.path))
                elif entry.is_dir():
                    waiting.append(entry.path)
    return frozenset(path for path in found if not path.startswith(folder + os.sep))


def _guard(
    folders: Sequence[Path], method: str, opened: Sequence[Path], *, ways_out: bool = True
) -> Hook:
    own, allowed = spellings(folders), spellings(opened)
    protected = own.union(_PROCESSES, *map(_led_to, own)) if ways_out else own
    allowed |= {f"/proc/{os.getpid()}/{name}" for name in ("status", "clear_refs", "maps")}
    above = {parent for path in protected for parent in _parents(path)}

    def is_refused(name: object, *, as_start: bool) -> bool:
        if not isinstance(name, (str, bytes, os.PathLike)):
            return False
        text = os.fsdecode(name)
        for path in (os.path.normpath(Path(text).absolute()), os.path.realpath(text)):
            if as_start and path in above:
                return True
            # What was handed lies below what is protected, and the other way round: the nearest.
            for place in (path, *_parents(path)):
                if place in allowed:
                    break
                if place in protected:
                    return True
        return False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if ways_out and event in _WAYS_OUT:
            raise DataAccessError(
                f"method {method} caused {event}, but while the training data are deleted a method "
                "stays in its own process; declare Access.FULL if it needs more"
            )
        # A folder that is opened by number is where relative names of files may start.
        as_start = event == "open" and arguments[1] is None
        for place in _PATHS.get(event, ()):
            if is_refused(arguments[place], as_start=as_start):
                raise DataAccessError(
                    f"method {method} tried to open {_named(arguments[place])}, but the training "
                    "data are deleted when it unlearns; declare Access.FULL if it needs them"
                )

    return hook


def _named(path: Any) -> str:
    return os.path.realpath(os.fsdecode(path))


def _parents(path: str) -> list[str]:
    return [str(parent) for parent in Path(path).parents]


def _dispatch(event: str, arguments: tuple[Any, ...]) -> None:
    for hook in _active:
        hook(event, arguments)


@contextlib.contextmanager
def deleted(folders: Sequence[Path], method: str, opened: Sequence[Path] = ()) -> Iterator[None]:
    """Make what is below these folders unreachable for Python code of this process.

    Args:
        folders: Where training pictures and results are; where links in them lead counts as well.
        method: Name of the method that runs meanwhile, for the message.
        opened: Files and folders among them that the method was handed.

    Raises:
        DataAccessError: From inside the block, when something protected is opened, listed or
            changed, or code leaves Python or this process.
    """
    global _installed
    _load_libraries()
    hook = _guard(folders, method, opened)
    with _lock:
        if not _installed:
            # An audit hook cannot be removed, so there is one, and it sleeps between requests.
            sys.addaudithook(_dispatch)
            _installed = True
        _active.append(hook)
    try:
        yield
    finally:
        is_there = hook in _active
        _active.clear()
    if not is_there:
        raise DataAccessError(f"method {method} took away what guards the training data")


def delete_for_good(
    folders: Sequence[Path], method: str, opened: Sequence[Path] = (), *, ways_out: bool
) -> None:
    """As ``deleted``, for the rest of this process's life: nothing in it can take it back.

    Args:
        folders: As there.
        method: As there.
        opened: As there.
        ways_out: Whether to refuse what leaves Python or the process; False where the kernel
            keeps the files, and this guard only says it in better words.
    """
    if ways_out:
        _load_libraries()
    sys.addaudithook(_guard(folders, method, opened, ways_out=ways_out))
