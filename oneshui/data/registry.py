"""Datasets by name: what each one is, and the function that reads it.

A dataset is one file in ``oneshui/data/loaders/`` whose loader is decorated with ``register``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from oneshui.registry import Registry
from oneshui.sources import source_of
from oneshui.spec import Task, Walk

if TYPE_CHECKING:
    from oneshui.data.table import ImageTable


class Loader(Protocol):
    """Reads the annotations of one layout."""

    def __call__(self, data_dir: Path, /, *, require_files: bool = True) -> ImageTable:
        """The image table; with ``require_files=False`` pictures may be absent or empty."""
        ...


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What is known of a dataset before anything is read.

    Attributes:
        name: How configurations call its layout.
        folder: Its own folder in the data folder; empty if it is the data folder itself.
        task: "multilabel" or "multiclass"; None if that depends on the files.
        num_images: Pictures of the published dataset, for estimates of time alone.
        walk: How its people are split; the authors' way for those that the authors split.
        load: Reads it.
        installed: Finds the folder that contains its own where a package brings it; None for what
            lies in the data folder.
        credit: Whose pictures they are and what that asks of who shows them; empty if nothing is
            asked.
        source: Hash over the code of the loader; empty for what ships.
    """

    name: str
    folder: str
    task: Task | None
    num_images: int
    walk: Walk
    load: Loader
    installed: Callable[[], Path] | None = None
    credit: str = ""
    source: str = ""


L = TypeVar("L", bound=Loader)
DATASETS: Registry[Dataset] = Registry("dataset layout", "oneshui.data.loaders")


def register(
    *,
    name: str,
    folder: str,
    task: Task | None,
    num_images: int,
    walk: Walk = "corrected",
    installed: Callable[[], Path] | None = None,
    credit: str = "",
) -> Callable[[L], L]:
    """Decorator that makes a loader known as a dataset; see ``Dataset`` for the arguments.

    Raises:
        TypeError: The name is taken by a loader of another file.
    """

    def known(load: L) -> L:
        own = Dataset(
            name=name,
            folder=folder,
            task=task,
            num_images=num_images,
            walk=walk,
            load=load,
            installed=installed,
            credit=credit,
        )
        DATASETS.add(name, own, load)
        if name in DATASETS.added():
            source = source_of(load)  # type: ignore[arg-type]
            DATASETS.add(name, dataclasses.replace(own, source=source), load)
        return load

    return known


def recall(dataset: Dataset) -> None:
    """Make known what was noted of a dataset whose loader may not be here."""
    DATASETS.recall(dataset.name, dataset)


def get(name: str) -> Dataset:
    """The dataset of this name.

    Raises:
        InputError: There is none; lists the known ones and the nearest.
    """
    return DATASETS.get(name)


def names() -> tuple[str, ...]:
    """Names of all datasets, sorted."""
    return DATASETS.names()


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
        TypeError: The loader returned another dataset or task than it is registered with.
    """
    dataset = get(layout)
    table = dataset.load(Path(data_dir), require_files=require_files)
    if table.dataset != layout or dataset.task not in (None, table.task):
        raise TypeError(f"the loader of {layout!r} returned {table.dataset!r}, {table.task}")
    return table
