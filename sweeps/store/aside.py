"""Files that cannot be used are kept out of the way, for whoever wants to look at them."""

from __future__ import annotations

import itertools
from pathlib import Path


def make_room(path: Path, *, for_folder: bool = False) -> Path | None:
    """Set aside what stands in the place of a file of ours and is none; its new name, if it did.

    Args:
        path: Of the file.
        for_folder: Whether a folder belongs there.
    """
    fits = path.is_dir() if for_folder else path.is_file()
    return None if fits or not path.exists() else set_aside(path)


def set_aside(path: Path, companions: tuple[str, ...] = ()) -> Path:
    """Give a file another name, so that it can be made anew; what it is called then.

    Args:
        path: Of the file.
        companions: Endings of the names of files that belong to it, those that are there.
    """
    for number in itertools.count(1):
        kept = path.with_name(f"{path.name}.unreadable-{number}")
        if not kept.exists():
            break
    path.rename(kept)
    for ending in companions:
        beside = path.with_name(path.name + ending)
        if beside.exists():
            beside.rename(kept.with_name(kept.name + ending))
    return kept
