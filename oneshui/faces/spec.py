"""Which set of synthetic faces. Imports nothing but the errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from oneshui.errors import InputError

_LIMITS: Final[dict[str, tuple[int, int | None]]] = {
    "identities": (10, None),
    "pictures": (2, None),
    "size": (16, 2048),
    "seed": (0, None),
}


@dataclass(frozen=True, kw_only=True)
class FacesSpec:
    """Which set of faces: two equal specs give equal files.

    Attributes:
        identities: Number of identities, at least 10.
        pictures: Number of pictures of each identity, at least 2; in MUFAC's layout the middle of
            the numbers that people have.
        size: Side of the square pictures in pixels, 16 to 2048; in CelebA's layout their height,
            while their width is 178/218 of it, rounded.
        seed: Seed of everything that is drawn, at least 0. The size does not enter: the same
            seed shows the same faces at every size.
    """

    identities: int = 400
    pictures: int = 8
    size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            InputError: If a field is no integer or is out of its range.
        """
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or value < low or (high is not None and value > high):
                allowed = f"at least {low}" if high is None else f"from {low} to {high}"
                raise InputError(f"{name} must be an integer {allowed}, not {value!r}")

    @property
    def num_images(self) -> int:
        """Number of pictures in the set; in MUFAC's layout it is only near that number."""
        return self.identities * self.pictures
