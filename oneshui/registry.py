"""Things that are found by name: each file of a package registers its own when it is imported."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from oneshui.errors import unknown_name

T = TypeVar("T")
_ALL: list[Registry[Any]] = []
_SHIPPED = "oneshui."


class Registry(Generic[T]):
    """What the files of a package have registered, by name.

    Attributes:
        known: So far; ``names`` and ``get`` import the whole package first.
    """

    def __init__(self, what: str, package: str, *, is_heavy: bool = False) -> None:
        """Nothing is imported yet.

        Args:
            what: Of what it is a registry, for messages.
            package: Whose files register; those whose name begins with "_" are not asked.
            is_heavy: Whether they take seconds to import, so that names which others register are
                compared with theirs only then.
        """
        self.known: dict[str, T] = {}
        self._what, self._package, self._is_heavy = what, package, is_heavy
        self._modules: dict[str, str] = {}
        self._is_complete = False
        _ALL.append(self)

    def add(self, name: str, item: T, source: type | Callable[..., Any]) -> None:
        """Make something known by a name; the module that did so before may do so again.

        Args:
            name: How it is called.
            item: What is found by that name.
            source: The class or function behind it, which says from which module it is.

        Raises:
            TypeError: Another module has registered that name.
        """
        # What is run by hand, outside of any module, says None.
        module = source.__module__ or ""
        if not self._is_heavy and not module.startswith(f"{self._package}."):
            # Or what ships would find its name taken, whenever it is imported.
            self._import_all()
        if name in self.known and self._modules.get(name, module) != module:
            raise TypeError(f"two {self._what}s are called {name!r}")
        self.known[name], self._modules[name] = item, module

    def added(self) -> tuple[str, ...]:
        """The names that other packages have registered, sorted."""
        found = (n for n, module in self._modules.items() if not module.startswith(_SHIPPED))
        return tuple(sorted(found))

    def drop(self, module: str) -> None:
        """Forget what a module, or one of a package of that name, has registered."""
        for name, home in list(self._modules.items()):
            if f"{home}.".startswith(f"{module}."):
                del self.known[name], self._modules[name]

    def recall(self, name: str, item: T) -> None:
        """Make known what was noted of a name, unless the module is here that says it itself."""
        self._import_all()
        self.known.setdefault(name, item)

    def _import_all(self) -> None:
        if not self._is_complete:
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                if not module.name.startswith("_"):
                    importlib.import_module(f"{self._package}.{module.name}")
            self._is_complete = True

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        self._import_all()
        return tuple(sorted(self.known))

    def get(self, name: str) -> T:
        """What is registered by this name.

        Raises:
            InputError: Nothing is; lists the known names and the nearest.
        """
        self._import_all()
        if name not in self.known:
            raise unknown_name(self._what, name, self.known)
        return self.known[name]


def drop(module: str) -> None:
    """Have every registry forget what a module, or one of a package of that name, registered."""
    for one in _ALL:
        one.drop(module)
