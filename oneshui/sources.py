"""Which code a method is, or what a plugin brings: a hash over its file and those it imports.

Numbers are a function of such code, so the hash stands in the keys of its jobs. Code of the
benchmark that all share is not in it: there a stage's version speaks.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from oneshui.errors import InputError

_OURS = "oneshui.methods"
_ROOT = Path(__file__).resolve().parents[1]
_FRAME = frozenset({"", ".base", ".fields"})
"""Modules of our methods that hold them together; no number comes from these."""


@functools.cache
def source_of(item: type | Callable[..., Any]) -> str:
    """Hash over the source of a class or function, the same wherever the files lie.

    It covers the file of the class or function and, if they belong to the same package or plugin
    or are our methods, whatever it imports and they import in turn, inside functions too. Line
    ends do not count; comments do.

    Args:
        item: A method's class, or a function of a plugin.

    Returns:
        16 hex digits.

    Raises:
        InputError: There is no file to read, as with a class that was typed in.
    """
    whole = hashlib.sha256()
    # What a function was wrapped in may have none.
    module = getattr(item, "__module__", type(item).__module__)
    for name, content in sorted(sources(module).items()):
        whole.update(f"{name} {len(content)} ".encode() + content)
    return whole.hexdigest()[:16]


def sources(module: str) -> dict[str, bytes]:
    """The bytes of an imported module's file and of those it imports beside it, by module.

    Line ends are those of Unix.

    Raises:
        InputError: The module has no file that can be read.
    """
    return {name: _read(path) for name, path in files_behind(module, _file_of(module)).items()}


def files_behind(module: str, first: Path) -> dict[str, Path]:
    """The file of a module and those that it imports beside it, by module.

    Args:
        module: Its absolute name.
        first: Its file.

    Raises:
        InputError: One of them cannot be read.
    """
    root = root_of(module, first)
    found: dict[str, Path] = {}
    waiting = {module: first}
    while waiting:
        name, path = waiting.popitem()
        try:
            tree = ast.parse(_read(path))
        except (SyntaxError, ValueError) as error:
            raise InputError(f"the source in {path} cannot be read: {error}") from None
        found[name] = path
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for imported in _imports(tree, package):
            beside = dict(_beside(imported, module, root))
            waiting |= {other: file for other, file in beside.items() if other not in found}
    return found


def root_of(module: str, file: Path) -> Path:
    """The folder in which a module's top package or file lies."""
    return file.parents[module.count(".") + (file.name == "__init__.py")]


def _read(path: Path) -> bytes:
    try:
        return b"\n".join(path.read_bytes().splitlines())
    except OSError as error:
        raise InputError(f"the source in {path} cannot be read: {error.strerror}") from None


def is_installed(root: Path) -> bool:
    """Whether a folder is one that packages are installed into."""
    return root.name in ("site-packages", "dist-packages")


def _file_of(module: str) -> Path:
    loaded = sys.modules.get(module)
    file = getattr(loaded, "__file__", None)
    # dataclasses.make_dataclass says that a class is Python's own.
    is_python = module.partition(".")[0] in sys.stdlib_module_names - {"__main__"}
    if is_python or file is None or not Path(file).is_file():
        raise InputError(
            f"the module {module} has no source file, so nobody could tell its results from those "
            "of other code; put it into a file and import that"
        )
    return Path(file).resolve()


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Absolute names of all that a module may import, its functions' imports included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            dotted = "." * node.level + (node.module or "")
            above = importlib.util.resolve_name(dotted, package) if node.level else dotted
            yield above
            yield from (f"{above}.{alias.name}" for alias in node.names)


def _beside(imported: str, module: str, root: Path) -> Iterator[tuple[str, Path]]:
    """The imported module and the packages above it, those that belong to the importing code.

    Args:
        imported: Absolute name; may be of a function in a module.
        module: That imports it.
        root: Folder in which that module's top package or file lies.
    """
    top = module.partition(".")[0]
    installed = is_installed(root)
    parts = imported.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        is_ours = name.startswith(f"{_OURS}.") and name.removeprefix(_OURS) not in _FRAME
        # A single file's neighbours are its own, unless they are everybody's.
        belongs = parts[0] not in ("oneshui", "sweeps") and (parts[0] == top or not installed)
        if not (is_ours or belongs):
            continue
        # Whoever builds on a method of ours has its code as part of his.
        folder = (_ROOT if is_ours else root).joinpath(*parts[:count])
        for file in (folder.with_name(f"{folder.name}.py"), folder / "__init__.py"):
            if file.is_file():
                yield name, file
                break
