"""Datasets of a sweep: generated when they are to be, read by their loader, checked up front."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from oneshui.data.synthetic import generate
from oneshui.data.table import ImageTable
from oneshui.errors import InputError
from oneshui.splits import make_split
from sweeps.jobs import Job, canonical_json
from sweeps.plan import index_job
from sweeps.spec import DatasetSpec, Places, SweepSpec
from sweeps.store import DamagedEntryError, Entry, LocalStore

Progress = Callable[[int, int], None]


def folder_of(dataset: DatasetSpec, places: Places) -> Path:
    """The folder that contains the dataset's own: generated faces live in the output folder."""
    if dataset.generate is None:
        return (Path(places.data_dir) / dataset.path).absolute()
    recipe = canonical_json(index_job(dataset).spec)
    name = f"{dataset.name}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"
    return (Path(places.output_dir) / "data" / name).absolute()


def ensure_generated(
    dataset: DatasetSpec, places: Places, progress: Progress, workers: int
) -> bool:
    """Draw the dataset if it is one that is drawn and is not there; whether it was drawn.

    Raises:
        InputError: The output folder cannot be written, or holds something else.
    """
    if dataset.generate is None:
        return False
    assert dataset.layout in ("celebahq", "celeba", "mufac")
    folder = folder_of(dataset, places)
    return generate(dataset.layout, dataset.generate, folder, workers=workers, progress=progress)


def check_requests(table: ImageTable, sweep: SweepSpec, dataset: str) -> None:
    """Refuse forget sizes that the dataset cannot serve, before anything is computed.

    Raises:
        InputError: Naming dataset, forget size and seed.
    """
    for cell in sweep.cells:
        if cell.dataset != dataset:
            continue
        try:
            make_split(
                table.identity,
                table.identity_order,
                num_forget=cell.num_forget,
                seed=cell.split_seed,
                support_seed=cell.support_seed,
            )
        except InputError as error:
            raise InputError(f"dataset {dataset}, seed {cell.seed}: {error}") from None


def is_current(store: LocalStore, job: Job, table: ImageTable) -> Entry | None:
    """The stored index of the dataset, if it still describes the files on disk."""
    try:
        entry = store.find(job.stage, job.key)
    except DamagedEntryError:
        return None
    if entry is None or entry.value.get("fingerprint") != table.fingerprint:
        return None
    return entry
