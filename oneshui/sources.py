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

PACKAGES = frozenset({"oneshui", "sweeps"})
"""Ours: what a user's code imports of these is no code of his."""


@functools.cache
def source_of(item: type | Callable[..., Any], named_in: str = "") -> str:
    """Hash over the source of a class or function, the same wherever the files lie.

    It covers the file of the class or function and, if they belong to the same package or plugin
    or are our methods, whatever it imports and they import in turn, inside functions too. Line
    ends do not count; comments do. What is no code in a package that is not installed counts too:
    the code may read it.

    Args:
        item: A method's class, or a function of a plugin.
        named_in: Module in which it was found by name, which may have it from another.

    Returns:
        16 hex digits.

    Raises:
        InputError: There is no file to read, as with a class that was typed in.
    """
    whole = hashlib.sha256()
    # What a function was wrapped in may have none.
    home = getattr(item, "__module__", type(item).__module__)
    found = {} if named_in and _is_python(home) else sources(home)
    if named_in:
        found |= sources(named_in)
    for name, content in sorted(found.items()):
        whole.update(f"{name} {len(content)} ".encode() + content)
    return whole.hexdigest()[:16]


def sources(module: str) -> dict[str, bytes]:
    """The bytes of an imported module's file and of those it imports beside it, by module.

    Line ends are those of Unix. Files of its package that are no code are there by their path.

    Raises:
        InputError: The module has no file that can be read.
    """
    first = _file_of(module)
    found = {name: _read(path) for name, path in files_behind(module, first).items()}
    root, package = root_of(module, first), package_of(module, first)
    if package is not None and package.name not in PACKAGES and not is_installed(root):
        data = (path for path in inside(package) if path.suffix != ".py")
        found |= {path.relative_to(root).as_posix(): path.read_bytes() for path in data}
    return found


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


def package_of(module: str, file: Path) -> Path | None:
    """Folder of the top package that a module belongs to; None if it is a file by itself."""
    is_alone = "." not in module and file.name != "__init__.py"
    return None if is_alone else root_of(module, file) / module.partition(".")[0]


def inside(package: Path) -> Iterator[Path]:
    """Files in a package's folder, without hidden ones and what Python compiles."""
    for path in package.rglob("*"):
        parts = path.relative_to(package).parts
        is_hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
        if path.is_file() and not is_hidden:
            yield path


def folders_of(top: str) -> list[Path]:
    """Where Python finds a top module or package; empty if it does not, or has it built in."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(folder).parent for folder in spec.submodule_search_locations]
    return [Path(spec.origin).parent] if spec.has_location and spec.origin else []


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
    if _is_python(module) or file is None or not Path(file).is_file():
        raise InputError(
            f"the module {module} has no source file, so nobody could tell its results from those "
            "of other code; put it into a file and import that"
        )
    return Path(file).resolve()


def _is_python(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names - {"__main__"}


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Absolute names of all that a module may import, its functions' imports included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            dotted = "." * node.level + (node.module or "")
            if node.level > (package.count(".") + 1 if package else 0):
                # From outside its package: Python refuses that, too, if it ever gets there.
                continue
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
    parts = imported.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        # Whoever builds on a method of ours has its code as part of his.
        is_ours = name.startswith(f"{_OURS}.") and name.removeprefix(_OURS) not in _FRAME
        for home in [_ROOT] if is_ours else _homes(parts[0], module, root):
            folder = home.joinpath(*parts[:count])
            files = (folder.with_name(f"{folder.name}.py"), folder / "__init__.py")
            file = next((file for file in files if file.is_file()), None)
            if file is not None:
                yield name, file
                break


def _homes(imported: str, module: str, root: Path) -> list[Path]:
    """Where a top module lies that belongs to the code that imports it; empty if it does not."""
    top = module.partition(".")[0]
    if imported == top and top not in PACKAGES:
        return [root]
    if is_installed(root) or imported in PACKAGES or top in PACKAGES or _is_python(imported):
        return []
    # A single file's neighbours are its own, and so is other code of the user's, unless what is
    # installed has the name: Python takes that.
    return [folder for folder in folders_of(imported) if not is_installed(folder)]
