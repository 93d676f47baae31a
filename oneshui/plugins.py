"""Code of the user's own that registers methods, datasets, measures or makes networks.

A plugin is a file, a folder that is a package, or a module that can be imported. It is imported
once per process, before any name is looked up. What is not installed travels as bytes to processes
that may not see its files. Imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import os
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from oneshui import registry
from oneshui.errors import InputError
from oneshui.sources import (
    PACKAGES,
    files_behind,
    folders_of,
    inside,
    is_installed,
    package_of,
    root_of,
    source_of,
)

GROUP = "oneshui"
"""Entry points of this group are plugins of everybody who has their package installed."""

LARGEST = 32 * 2**20
"""Bytes of a plugin that travels: its code and the small files beside it, no data."""


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """What was loaded, as another process can load it.

    Attributes:
        module: Absolute name that it is imported by.
        item: As whoever asked for it wrote it.
        files: Content of its files, by their path below the folder that its top module lies in.
        travels: Whether other machines get the files; those of an installed package they have.
    """

    module: str
    item: str
    files: Mapping[str, bytes] = field(repr=False)
    travels: bool

    @cached_property
    def hash(self) -> str:
        """Of names and contents of its files, 16 hex digits."""
        whole = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            whole.update(f"{name} {len(content)} ".encode() + content)
        return whole.hexdigest()[:16]

    def write(self, folder: Path) -> Path:
        """Write the files into a folder named after their hash, in the given one; that folder.

        One that is there already is kept if it is as it would be written.

        Raises:
            OSError: It cannot be written.
        """
        target = folder / self.hash
        if _holds(target, self.files):
            return target
        folder.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(prefix=".half-", dir=folder))
        for name, content in self.files.items():
            (half / name).parent.mkdir(parents=True, exist_ok=True)
            (half / name).write_bytes(content)
        if target.exists():
            target.rename(half / ".other")
        try:
            half.rename(target)
        except OSError:
            # Another process was faster.
            if not _holds(target, self.files):
                raise
        return target


def _holds(folder: Path, files: Mapping[str, bytes]) -> bool:
    try:
        return all((folder / name).read_bytes() == content for name, content in files.items())
    except OSError:
        return False


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a plugin is, before it is imported."""

    module: str
    item: str
    file: Path

    @property
    def root(self) -> Path:
        return root_of(self.module, self.file)

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    @property
    def package(self) -> Path | None:
        """Folder of the package that it belongs to; None if it is a file by itself."""
        return package_of(self.module, self.file)

    def holds(self, file: str) -> bool:
        """Whether a file is one of the plugin's own."""
        path = Path(file).resolve()
        if self.package is None:
            return path == self.file.resolve()
        return path.is_relative_to(self.package.resolve())


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """A plugin that this process has imported, with the top modules beside it that it uses."""

    plugin: Plugin
    tops: frozenset[str]


_loaded: dict[_Place, _Loaded] = {}
_searched: set[str] = set()
"""Folders that imports look into for the sake of plugins."""


def load(items: Sequence[str]) -> tuple[Plugin, ...]:
    """Import these plugins and those that are installed, and forget others of earlier calls.

    Args:
        items: Path of a .py file, of a folder that is a package, or name of a module, which may
            lie in the working directory.

    Returns:
        In the order asked for, then those of entry points.

    Raises:
        InputError: One is not there, has an error, of which file and line are named, or takes a
            name that something else has.
    """
    wanted: dict[str, _Place] = {}
    for place in [*map(_located, items), *_entry_points()]:
        known = wanted.setdefault(place.module, place)
        if known.file != place.file:
            raise InputError(
                f"the plugins {known.item} and {place.item} are both the module {place.module}: "
                "give one of the files another name"
            )
    for place in [place for place in _loaded if place not in wanted.values()]:
        _forget(place)
    for place in wanted.values():
        # They may import each other.
        _search(place.root)
    return tuple(_load(place) for place in wanted.values())


def receive(plugins: Iterable[Plugin], folder: Path) -> None:
    """Load what another process has loaded; what this one has loaded already is left alone.

    Also imports whatever the plugins' functions import beside them: where methods run, no file can
    be opened any more.

    Args:
        plugins: Of the process that plans.
        folder: Of this user alone, for the files of those that travel.

    Raises:
        InputError: One cannot be imported here, or is installed in another version.
        OSError: The folder cannot be written.
    """
    for plugin in plugins:
        if any(known.plugin.hash == plugin.hash for known in _loaded.values()):
            continue
        if plugin.travels:
            file = _file_in(plugin.write(folder), plugin.module)
            assert file is not None
            place = _Place(module=plugin.module, item=plugin.item, file=file)
        else:
            place = _located(plugin.module, plugin.item)
        if _load(place).hash != plugin.hash:
            raise InputError(
                f"the plugin {plugin.item} on the machine {socket.gethostname()} is another than "
                "that which the sweep was planned with; install the same on every machine"
            )
        import_behind(place.module)


def import_behind(module: str) -> None:
    """Import what a loaded plugin's functions import beside it: behind walls it is too late.

    Args:
        module: The plugin's.
    """
    for name in files_behind(module, Path(str(sys.modules[module].__file__))):
        # What cannot be imported says so where it is needed, if it ever is.
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def attribute(reference: str) -> Callable[..., Any]:
    """The function or class that a reference means, as in ``my_package:make_net``.

    Args:
        reference: A module, or the path of a file or package, and a name in it.

    Raises:
        InputError: There is no such module or function in it, or its code has an error.
    """
    item, _, name = reference.rpartition(":")
    if not item or not name.isidentifier():
        raise InputError(f"{reference!r} must be of the form my_package:make_net or my_net.py:make")
    known = [place for place in _loaded if place.module == module_of(item)]
    place = known[0] if known else _located(item)
    _load(place)
    module = sys.modules[place.module]
    found: Callable[..., Any] | None = getattr(module, name, None)
    if not callable(found):
        raise InputError(f"{place.file} has no function {name}, which {reference} asks for")
    return found


def require_outside(key: str, folder: Path) -> None:
    """Refuse data or results inside a plugin's folder, of which all workers and methods get a copy.

    Args:
        key: Of the configuration, for the message.
        folder: Which it names.

    Raises:
        InputError: Naming both.
    """
    for place in _loaded:
        package = None if is_installed(place.root) else place.package
        if package is not None and folder.resolve().is_relative_to(package.resolve()):
            raise InputError(
                f"{key} {folder} lies in the plugin {place.item}, of whose folder every worker and "
                "method gets a copy: keep it elsewhere"
            )


def source_behind(reference: str) -> str:
    """Hash over the code that a reference means: of the module that it names, and of the function.

    Raises:
        InputError: As for ``attribute``, or nobody could read the code again.
    """
    return source_of(attribute(reference), module_of(reference.rpartition(":")[0]))


def reference(text: str) -> str:
    """A reference by module, as every process understands it, for one that may name a file."""
    item, colon, name = text.rpartition(":")
    return f"{module_of(item)}{colon}{name}"


def module_of(item: str) -> str:
    """Name of the module that an item is imported by."""
    if not _is_path(item):
        return item
    path = Path(item)
    return path.parent.name if path.name == "__init__.py" else path.name.removesuffix(".py")


def _file_in(root: Path, module: str) -> Path | None:
    """File of a module below a folder; None if it has none."""
    stem = module.replace(".", "/")
    files = (root / f"{stem}{end}" for end in ("/__init__.py", ".py"))
    return next((file for file in files if file.is_file()), None)


def _is_path(item: str) -> bool:
    return item.endswith(".py") or "/" in item or item.startswith(".")


def _located(item: str, said: str = "") -> _Place:
    """Where an item of ``plugins`` is.

    Raises:
        InputError: Nowhere, or its name is no module's.
    """
    module, said = module_of(item), said or item
    if not all(part.isidentifier() for part in module.split(".")):
        raise InputError(
            f"the plugin {said!r} cannot be imported as {module!r}: letters, digits and _ alone "
            "make a module's name"
        )
    if _is_path(item):
        # A link keeps the name that it has here.
        path = Path(os.path.abspath(Path(item).expanduser()))  # noqa: PTH100
        file = path if path.suffix == ".py" else path / "__init__.py"
        if not file.is_file():
            raise InputError(f"the plugin {said} is not there: no file {file}")
        return _Place(module=module, item=said, file=file)
    _search(Path.cwd())
    files = [_file_in(folder, module) for folder in folders_of(module.partition(".")[0])]
    found = next(filter(None, files), None)
    if found is None:
        raise InputError(
            f"there is no module {module!r} of Python's source, which is named as a plugin "
            f"({said}); a file is named as {module}.py, a folder as ./{module}"
        )
    return _Place(module=module, item=said, file=found)


def _entry_points() -> list[_Place]:
    found = []
    for point in metadata.entry_points(group=GROUP):
        said = f"{point.name} of {point.dist.name}" if point.dist else point.name
        found.append(_located(point.module, f"{said} (installed)"))
    return found


def _search(folder: Path) -> None:
    """Have imports look into a folder too, after everything that is installed."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
        _searched.add(str(folder))
    importlib.invalidate_caches()


def _load(place: _Place) -> Plugin:
    if place in _loaded:
        return _loaded[place].plugin
    _require_free(place)
    _imported(place.module, place)
    behind = files_behind(place.module, place.file)
    # Those of our own methods are not its own.
    beside = {name: path for name, path in behind.items() if path.is_relative_to(place.root)}
    plugin = Plugin(
        module=place.module,
        item=place.item,
        files=_files(place, set(beside.values())),
        travels=not is_installed(place.root),
    )
    tops = frozenset({place.top, *(name.partition(".")[0] for name in beside)})
    _loaded[place] = _Loaded(plugin=plugin, tops=tops)
    return plugin


def _forget(place: _Place) -> None:
    """Undo the import of a plugin, and of what it imported beside it."""
    for top in _loaded.pop(place).tops:
        _drop(top)
    folder = str(place.root)
    if folder in _searched and all(other.root != place.root for other in _loaded):
        _searched.remove(folder)
        sys.path.remove(folder)


def _drop(top: str) -> None:
    for name in [name for name in sys.modules if f"{name}.".startswith(f"{top}.")]:
        del sys.modules[name]
    registry.drop(top)


def _require_free(place: _Place) -> None:
    """Refuse a plugin whose name means something else here.

    Raises:
        InputError: Naming what has the name.
    """
    if place.top in [known.top for known in _loaded]:
        return
    there = sys.modules.get(place.top)
    origin = getattr(there, "__file__", None) if there else _origin(place.top)
    # What belongs to Python or to us must not be forgotten with a plugin.
    is_kept = place.top in PACKAGES | sys.stdlib_module_names
    if (there or origin) and (is_kept or not (origin and place.holds(origin))):
        raise InputError(
            f"the plugin {place.item} would be the module {place.top}, which is something else "
            f"here already ({origin or 'of Python itself'}): give the file or folder another name"
        )


def _origin(top: str) -> str | None:
    """File of a module that could be imported."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    return None if spec is None else spec.origin


def _imported(module: str, place: _Place) -> Any:
    """Import a module of a plugin, its top one from the plugin's own folder and no other.

    Raises:
        InputError: It has an error; names file and line.
    """
    try:
        _search(place.root)
        if place.top not in sys.modules:
            _import_top(place)
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        _drop(place.top)
        raise InputError(_what_failed(place, error)) from error


def _import_top(place: _Place) -> None:
    file = _file_in(place.root, place.top)
    if file is None:
        # A package without a file of its own is found by its folder.
        return
    spec = importlib.util.spec_from_file_location(place.top, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[place.top] = module
    spec.loader.exec_module(module)


def _what_failed(place: _Place, error: BaseException) -> str:
    """File, line and what is wrong there, of an error that left a plugin's code."""
    where, line = str(place.file), 0
    if isinstance(error, SyntaxError) and error.filename:
        where, line = error.filename, error.lineno or 0
    else:
        for frame in traceback.extract_tb(error.__traceback__):
            if place.holds(frame.filename):
                where, line = frame.filename, frame.lineno or 0
    reason = error.msg if isinstance(error, SyntaxError) else str(error).strip()
    first = reason.splitlines()[0] if reason else ""
    kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    return f"the plugin {place.item} cannot be loaded: {where}, line {line}: {kind}{first}"


def _files(place: _Place, code: set[Path]) -> dict[str, bytes]:
    """What a plugin consists of: its code, and all that lies in a package that travels.

    Raises:
        InputError: It is too large to travel.
    """
    found = set(code)
    if place.package is not None and not is_installed(place.root):
        found |= set(inside(place.package))
    size = sum(path.stat().st_size for path in found)
    if size > LARGEST:
        raise InputError(
            f"the plugin {place.item} has {size / 2**20:.0f} MiB, and every worker gets a copy: "
            f"keep data and weights out of its folder, {LARGEST // 2**20} MiB are allowed"
        )
    return {path.relative_to(place.root).as_posix(): path.read_bytes() for path in sorted(found)}
