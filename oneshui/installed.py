"""Files that installed packages bring beside their code; the packages are never imported."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from oneshui.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package of the index that is wanted for its files.

    Attributes:
        name: As the index calls it.
        version: Which one was tested.
        module: As Python calls it.
    """

    name: str
    version: str
    module: str

    def folder(self, brings: str) -> Path:
        """Where it is installed.

        Args:
            brings: What of it is wanted, for the message.

        Raises:
            InputError: It is not installed; says how it is.
        """
        found = importlib.util.find_spec(self.module)
        places = found.submodule_search_locations if found is not None else None
        if not places:
            raise InputError(
                f"{brings} come with the package {self.name}, which is not installed: begin the "
                f"command with 'uv run --extra people', or {self.install}"
            )
        return Path(places[0])

    @property
    def install(self) -> str:
        """How its tested version is installed, in words."""
        return f"'pip install {self.name}=={self.version}'"
