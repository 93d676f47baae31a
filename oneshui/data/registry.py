"""Datasets by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from oneshui.data.celebahq import load_celebahq
from oneshui.data.table import ImageTable
from oneshui.errors import unknown_name

LOADERS: Mapping[str, Callable[[Path], ImageTable]] = {"celebahq": load_celebahq}


def load_dataset(layout: str, data_dir: Path | str) -> ImageTable:
    """The image table of a dataset on disk.

    Args:
        layout: Name of the layout, for example "celebahq".
        data_dir: The folder that contains the dataset's own folder.

    Raises:
        InputError: No loader has this name.
        DataError: Something on disk is absent or wrong.
    """
    if layout not in LOADERS:
        raise unknown_name("dataset layout", layout, LOADERS)
    return LOADERS[layout](Path(data_dir))
