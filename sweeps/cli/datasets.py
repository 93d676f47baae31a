"""Data and starting weights of a sweep: drawn or fetched, read and checked up front."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from oneshui.data import registry
from oneshui.data.contents import fingerprint
from oneshui.data.splits import make_split, most_requests, require_shared_labels
from oneshui.data.table import TABLES, ImageTable
from oneshui.errors import InputError
from oneshui.faces.generate import generate, spoiled
from oneshui.spec import FACES_LAYOUTS, ProgressCallback, images_needed
from sweeps.cli.console import say_damage
from sweeps.cli.locks import alone
from sweeps.cli.progress import Bar
from sweeps.graph.audits import POOL_SEED
from sweeps.graph.cells import index_job, weights_job
from sweeps.graph.held_out import reserving_cells, study_cells
from sweeps.graph.job import Job, canonical_json
from sweeps.graph.launch import Places
from sweeps.graph.plan import Plan
from sweeps.graph.spec import Cell, DatasetSpec, SweepSpec
from sweeps.stages.context import WorkerEnvironment
from sweeps.stages.data import contents_of
from sweeps.stages.run import run
from sweeps.stages.weights import are_current
from sweeps.store import DamagedEntryError, Entry, Store
from sweeps.store.aside import make_room
from sweeps.store.datasets import RemoteFolder


def folder_of(dataset: DatasetSpec, places: Places) -> Path | RemoteFolder:
    """The folder that contains the dataset's own, or its table.

    Generated faces live in the output folder.

    Raises:
        InputError: A package would bring it, and is not installed.
    """
    if dataset.generate is not None:
        return _generated_folder(dataset, places)
    if dataset.installed is not None:
        return dataset.installed().absolute()
    if "://" in places.data_dir:
        uri = f"{places.data_dir.rstrip('/')}/{dataset.path}".rstrip("/")
        name = registry.get(dataset.layout).folder
        if not name and uri.endswith(TABLES):
            above, _, table = uri.rpartition("/")
            return RemoteFolder(uri=above, name=name, table=table)
        return RemoteFolder(uri=uri, name=name)
    return (Path(places.data_dir) / dataset.path).absolute()


def is_here(dataset: DatasetSpec, places: Places) -> bool:
    """Whether the dataset can be drawn, or seems to be where it is looked for."""
    if dataset.generate is not None:
        return True
    try:
        folder = folder_of(dataset, places)
    except InputError:
        return False
    own = registry.get(dataset.layout).folder
    return isinstance(folder, RemoteFolder) or (folder / own).exists()


def _generated_folder(dataset: DatasetSpec, places: Places) -> Path:
    recipe = canonical_json(index_job(dataset).spec)
    name = f"{dataset.name}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"
    return (Path(places.output_dir) / "data" / name).absolute()


def ensure_generated(
    dataset: DatasetSpec, places: Places, progress: ProgressCallback, workers: int
) -> bool:
    """Draw the dataset if it is one that is drawn and is not there; whether it was drawn.

    Raises:
        InputError: The output folder cannot be written, or holds something else.
    """
    if dataset.generate is None:
        return False
    folder = _generated_folder(dataset, places)
    make_room(folder, for_folder=True)
    return generate(dataset.layout, dataset.generate, folder, workers=workers, progress=progress)


def prepare_datasets(
    sweep: SweepSpec, places: Places, store: Store, logs: Path, console: Console
) -> dict[str, Path | RemoteFolder]:
    """Generate, read and check every dataset before any job starts; folders by index key.

    Raises:
        InputError: A dataset is absent or wrong, or too small for a forget size.
    """
    folders: dict[str, Path | RemoteFolder] = {}
    # Two drivers may share the output folder, or only the store.
    with (
        alone(Path(places.output_dir) / ".data.lock", "prepares the data", console),
        alone(store.root / ".index.lock", "prepares the data", console),
    ):
        for dataset in sweep.datasets.values():
            folder = folder_of(dataset, places)
            folders[index_job(dataset).key] = folder
            if dataset.credit:
                console.print(f"dataset {dataset.name}: {dataset.credit}", soft_wrap=True)
            if isinstance(folder, RemoteFolder):
                with Bar(console, f"fetching the pictures of {dataset.name}") as bar:
                    folder.fetch(bar)
            _name_spoiled(dataset, places, console)
            shown = FACES_LAYOUTS.get(dataset.layout, "pictures")
            with Bar(console, f"drawing {shown} for {dataset.name}") as bar:
                ensure_generated(dataset, places, bar, os.cpu_count() or 1)
            env = WorkerEnvironment(store=store, data_folders=folders, logs=logs)
            with Bar(console, f"reading the pictures of {dataset.name}") as bar:
                job = index_job(dataset)
                table = registry.load_dataset(dataset.layout, env.data_folder(job.key))
                check_requests(table, sweep, dataset.name, console)
                _name_damage(store, job, console)
                _index(job, table, env, bar)
    return folders


def prepare_weights(sweep: SweepSpec, store: Store, logs: Path, console: Console) -> None:
    """Bring the starting weights into the store, unless they are random or there already.

    Raises:
        InputError: They cannot be read, or not be obtained.
    """
    job = weights_job(sweep)
    if job is None:
        return
    with alone(store.root / ".weights.lock", "prepares the starting weights", console):
        _name_damage(store, job, console)
        if not are_current(store, job):
            store.discard(job.stage, job.key)
            console.print(f"preparing the {job.label}", soft_wrap=True)
            env = WorkerEnvironment(
                store=store, data_folders={}, logs=logs, weights_file=sweep.model.weights_file
            )
            run(job, {}, env)


def prepare_pretrained(plan: Plan, env: WorkerEnvironment, console: Console) -> None:
    """Bring models that exist into the store, where they stand in for pretrained ones.

    Args:
        plan: The graph; its index jobs are done.
        env: Store and files.
        console: Says what happens.

    Raises:
        InputError: One cannot be read, or does not fit network or dataset.
    """
    jobs = [job for job in plan.jobs.values() if "is_pretrained" in job.spec]
    if not jobs:
        return
    with alone(env.store.root / ".weights.lock", "prepares the starting weights", console):
        for job in jobs:
            if _undamaged(env.store, job, console) is None:
                console.print(f"bringing in the {job.label}", soft_wrap=True)
            run(job, plan.jobs, env)


def _index(job: Job, table: ImageTable, env: WorkerEnvironment, progress: ProgressCallback) -> None:
    found = fingerprint(table, contents_of(table, env.store, progress))
    if is_current(env.store, job, found) is None:
        env.store.discard(job.stage, job.key)
        run(job, {}, env)


def _name_spoiled(dataset: DatasetSpec, places: Places, console: Console) -> None:
    if dataset.generate is None:
        return
    folder = _generated_folder(dataset, places)
    lost = spoiled(dataset.layout, dataset.generate, folder)
    if lost:
        console.print(
            f"{len(lost)} of the files in {folder} are not as they were drawn, for example "
            f"{', '.join(lost[:3])}; they are drawn again",
            soft_wrap=True,
        )


def _name_damage(store: Store, job: Job, console: Console) -> None:
    try:
        store.find(job.stage, job.key)
    except DamagedEntryError as error:
        say_damage([str(error)], console, "it is")


def _undamaged(store: Store, job: Job, console: Console) -> Entry | None:
    """The job's entry; a damaged one is named and discarded."""
    try:
        return store.find(job.stage, job.key)
    except DamagedEntryError as error:
        say_damage([str(error)], console, "it is")
        store.discard(job.stage, job.key)
        return None


def check_requests(table: ImageTable, sweep: SweepSpec, dataset: str, console: Console) -> None:
    """Refuse what the dataset cannot serve, and say where its sets are uneven, in advance.

    Raises:
        InputError: Naming dataset, forget size and seed.
    """
    cells = [cell for cell in sweep.cells if cell.dataset == dataset]
    tuned = dict.fromkeys(
        one
        for cell in cells
        if any(row.space for row in sweep.rows[cell])
        for one in study_cells(sweep, cell)
    )
    # Who is chosen by memorisation is known when models of the pool are trained.
    known = (cell for cell in reserving_cells(sweep, dataset) if cell.choose == "random")
    reserving = dict.fromkeys(known) if tuned else {}
    uneven: dict[int, str] = {}
    reserved: set[int] = set()
    # A study has a single request to try on, whatever a cell stands for.
    drawn = [(cell, sweep.requests_in(cell)) for cell in (*cells, *reserving)]
    for cell, requests in dict.fromkeys([*drawn, *((cell, 1) for cell in tuned)]):
        is_tuning = requests == 1 and cell in tuned
        is_held_out = is_tuning and bool(reserving)
        try:
            split = make_split(
                table.identity,
                table.identity_order,
                num_forget=requests * cell.num_forget,
                seed=cell.split_seed,
                support_seed=cell.support_seed,
                walk=sweep.datasets[dataset].split_walk,
                min_images=images_needed(cell.num_forget),
                reserved=reserved if is_held_out else (),
            )
            require_shared_labels(split, table.label)
            if is_tuning:
                there = set(table.identity.tolist()).intersection(split.retain)
                free = there.difference(split.reserved)
                most_requests(len(free), cell.num_forget, is_reserving=is_held_out)
        except InputError as error:
            raise InputError(
                f"dataset {dataset}, seed {cell.seed}{_asked(sweep, cell, requests)}: {error}"
            ) from None
        if cell in reserving:
            reserved.update(split.forget)
        if split.uneven:
            uneven[cell.split_seed] = split.uneven
    _check_pool(table, sweep, dataset, cells)
    for seed, what in uneven.items():
        console.print(f"dataset {dataset}, split seed {seed}: {what}", soft_wrap=True)


def _check_pool(table: ImageTable, sweep: SweepSpec, dataset: str, cells: Sequence[Cell]) -> None:
    """Refuse a pool of more people than can be spared, or with too few for the cells that choose.

    Raises:
        InputError: Naming dataset and key.
    """
    people = 0 if sweep.audit is None else sweep.audit.pool
    if not people:
        return
    walk = sweep.datasets[dataset].split_walk
    where = (
        f"dataset {dataset}, a pool of {people} people, drawn as those are who ask (lower "
        "sweep.audit.pool for fewer)"
    )
    try:
        pool = make_split(
            table.identity, table.identity_order, num_forget=people, seed=POOL_SEED, walk=walk
        )
        for cell in cells if sweep.choose != "random" else ():
            where = f"dataset {dataset}, seed {cell.seed}, sweep.choose={sweep.choose}"
            make_split(
                table.identity,
                table.identity_order,
                num_forget=sweep.requests_in(cell) * cell.num_forget,
                seed=cell.split_seed,
                support_seed=cell.support_seed,
                walk=walk,
                min_images=images_needed(cell.num_forget),
                among=pool.forget,
            )
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _asked(sweep: SweepSpec, cell: Cell, requests: int) -> str:
    people = "1 person" if cell.num_forget == 1 else f"{cell.num_forget} people"
    is_alone = cell.num_forget == 1 and sweep.requests_alone is not None
    key = "sweep.requests_alone" if is_alone else "sweep.requests"
    told = f", {requests} requests of {people} each (lower {key} for fewer)"
    return told if requests > 1 else ""


def is_current(store: Store, job: Job, current: str) -> Entry | None:
    """The stored index of the dataset, if it still describes the files on disk.

    Args:
        store: Where the index is.
        job: The index job.
        current: Fingerprint of the files on disk.
    """
    try:
        entry = store.find(job.stage, job.key)
    except DamagedEntryError:
        return None
    if entry is None or entry.value.get("fingerprint") != current:
        return None
    return entry
