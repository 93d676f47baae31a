"""Datasets by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from oneshui.data.celeba import load_celeba
from oneshui.data.celebahq import load_celebahq
from oneshui.data.mufac import load_mufac, load_mufac_clean
from oneshui.data.own_table import load_table
from oneshui.data.table import ImageTable
from oneshui.errors import unknown_name


class Loader(Protocol):
    """Reads the annotations of one layout."""

    def __call__(self, data_dir: Path, /, *, require_files: bool = True) -> ImageTable:
        """The image table; with ``require_files=False`` pictures may be absent or empty."""
        ...


LOADERS: Mapping[str, Loader] = {
    "celebahq": load_celebahq,
    "celeba": load_celeba,
    "mufac": load_mufac,
    "mufac_clean": load_mufac_clean,
    "table": load_table,
}


def load_dataset(layout: str, data_dir: Path | str, *, require_files: bool = True) -> ImageTable:
    """The image table of a dataset on disk.

    Args:
        layout: Name of the layout, for example "celebahq".
        data_dir: The folder that contains the dataset's own folder; for the layout "table" the
            table, or the folder that contains it.
        require_files: Whether absent and empty pictures are errors.

    Raises:
        InputError: No loader has this name.
        DataError: Something on disk is absent or wrong.
    """
    if layout not in LOADERS:
        raise unknown_name("dataset layout", layout, LOADERS)
    return LOADERS[layout](Path(data_dir), require_files=require_files)
