"""``mode=why ... run=true``: one row computed again from nothing, held against what is stored.

The jobs are the same, so are their keys; the place is new, so nothing stored is used but what
cannot be made here: pictures and starting weights of which only the archive has a copy.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from rich.console import Console

from oneshui import methods
from oneshui.errors import InputError
from sweeps.archive.diff import Side, Walk
from sweeps.cli.console import say
from sweeps.cli.datasets import is_here, prepare_datasets, prepare_weights
from sweeps.cli.why import find
from sweeps.cli.words import several
from sweeps.graph.job import STAGE_VERSION, Job, digest, stage_title
from sweeps.graph.launch import LaunchSpec
from sweeps.graph.plan import Plan, ResultRow
from sweeps.graph.spec import SweepSpec
from sweeps.report.tracing import DIGITS, said_by
from sweeps.store import Entry, Store, open_store
from sweeps.store.datasets import RemoteFolder
from sweeps.store.status import Scan, scan

PLACE = "again"
"""In the output folder: what was computed a second time, while it is needed."""
Compute = Callable[[LaunchSpec, Console, Plan, Store, Scan, dict[str, Path | RemoteFolder]], object]
"""Runs what is missing of a plan."""


def reproduce(
    spec: LaunchSpec,
    console: Console,
    plan: Plan,
    entries: Mapping[str, Entry],
    compute: Compute,
) -> bool:
    """Compute the jobs behind a row a second time; whether all results have the same content.

    Args:
        spec: The command.
        console: Where to say it.
        plan: The sweep's graph.
        entries: Finished jobs by key.
        compute: Runs jobs.

    Raises:
        InputError: There is no such row, it was computed by another version of oneshui, or what
            it is made of is not here.
    """
    part = part_of(plan, spec.row)
    _require_methods(part)
    place = Path(spec.places.output_dir) / PLACE / digest(sorted(part.jobs))[:16]
    places = dataclasses.replace(
        spec.places,
        output_dir=str(place),
        store_uri=str(place / "store"),
        tracking_uri="",
        # The retrained models that are there already too.
        other_results=(spec.places.output_dir, str(open_store(spec.places.store_uri).root)),
    )
    fresh = dataclasses.replace(spec, sweep=part.sweep, places=places)
    say(console, f"computing {several(len(part.jobs), 'job')} again in {place}")
    store = open_store(places.store_uri)
    folders = _brought(fresh, part, entries, store, console)
    found = scan(part, store, discard=True)
    if found.reasons:
        compute(fresh, console, part, store, found, folders)
    new = scan(part, store, discard=False).entries
    is_same = _compare(part, entries, new, console)
    if is_same:
        shutil.rmtree(place, ignore_errors=True)
    else:
        say(console, f"what was computed again stays in {place}")
    return is_same


def part_of(plan: Plan, asked: str) -> Plan:
    """The jobs behind one number of the tables, all its seeds, and nothing else.

    Args:
        plan: The sweep's graph.
        asked: As ``mode=why`` takes it.

    Raises:
        InputError: There is no such row, or a stage means something else by now.
    """
    rows, measure = find(asked, plan)
    last = {key for row in rows for key in (row.score_key, *said_by(row, measure))}
    needed = plan.behind(last)
    jobs = {key: job for key, job in plan.jobs.items() if key in needed}
    for job in jobs.values():
        if job.version != STAGE_VERSION[job.stage]:
            raise InputError(
                f"{job.label} was computed when its stage had version {job.version}, which is "
                f"{STAGE_VERSION[job.stage]} here: install the version of oneshui that sweep.yaml "
                "names"
            )
    datasets = {row.cell.dataset: plan.sweep.datasets[row.cell.dataset] for row in rows}
    sweep = dataclasses.replace(
        plan.sweep,
        datasets=datasets,
        cells=tuple(cell for cell in plan.sweep.cells if cell.dataset in datasets),
    )
    return Plan(sweep=sweep, jobs=jobs, results=tuple(_alone(row, last) for row in rows))


def _alone(row: ResultRow, last: Collection[str]) -> ResultRow:
    """The row with what these jobs say of it, and with nothing that others do."""
    chosen, probes = row.chosen, row.probes
    return dataclasses.replace(
        row,
        chains=tuple(chain for chain in row.chains if chain.score_key in last),
        lira_key=row.lira_key if row.lira_key in last else None,
        completeness_key=row.completeness_key if row.completeness_key in last else None,
        chosen=chosen if chosen is not None and chosen.score_key in last else None,
        probes=probes if probes is not None and set(probes.keys) <= set(last) else None,
    )


def _require_methods(plan: Plan) -> None:
    """Refuse a method whose code is not here, before anything is drawn or trained.

    Raises:
        InputError: Naming it.
    """
    for row in plan.results:
        if row.row.method not in methods.names():
            raise InputError(
                f"the method {row.row.method} is a plugin's: name it, as in "
                "plugins=[my_method.py]; sweep.yaml says how it was named"
            )


def _brought(
    spec: LaunchSpec,
    plan: Plan,
    entries: Mapping[str, Entry],
    store: Store,
    console: Console,
) -> dict[str, Path | RemoteFolder]:
    """Data and starting weights: read anew where they are, else the stored results."""
    logs = Path(spec.places.output_dir) / "logs"
    here = {name: it for name, it in spec.sweep.datasets.items() if is_here(it, spec.places)}
    for job in plan.jobs.values():
        key = _absent(job, spec.sweep, has_pictures=bool(here))
        if key:
            _take(job, entries.get(job.key), store, key)
            say(console, f"{job.label}: what it is made of is not here, the stored one is taken")
    prepare_weights(spec.sweep, store, logs, console)
    sweep = dataclasses.replace(spec.sweep, datasets=here)
    return prepare_datasets(sweep, spec.places, store, logs, console)


def _absent(job: Job, sweep: SweepSpec, *, has_pictures: bool) -> str:
    """Key of what the job reads, if that is not on this machine; else empty."""
    if job.stage in ("index", "cache"):
        return "" if has_pictures else "data_dir"
    if job.stage != "weights":
        return ""
    if "is_pretrained" in job.spec:
        assert sweep.pretrained is not None
        files = sweep.pretrained.contents.items()
        own = [Path(file) for file, content in files if content == job.spec["content"]]
        return "" if all(file.is_file() for file in own) else "sweep.pretrained"
    file = sweep.model.weights_file
    return "" if file is None or file.is_file() else "sweep.model.weights"


def _take(job: Job, entry: Entry | None, store: Store, key: str) -> None:
    """Copy a result of which nothing was left out.

    Raises:
        InputError: It is not there or not whole; the message names the key that would help.
    """
    if entry is None or entry.left_out:
        raise InputError(
            f"{job.label} cannot be computed again: what it is made of is not here, and of its "
            f"result nothing or not all was handed on; set {key} to where it is"
        )
    with store.work(job) as draft:
        for name in entry.files.keys() - {"job.json"}:
            shutil.copyfile(entry.file(name), draft.folder / name)
        draft.publish(entry.value, entry.inputs, entry.cost, entry.made)


def _compare(
    plan: Plan, entries: Mapping[str, Entry], new: Mapping[str, Entry], console: Console
) -> bool:
    stored = Side(name="what is stored", plan=plan, entries=entries)
    again = Side(name="what was computed again", plan=plan, entries=new)
    same = {key for key in new if stored.content(key) == again.content(key)}
    for stage, count in plan.counts().items():
        keys = [key for key, job in plan.jobs.items() if job.stage == stage]
        found = sum(key in same for key in keys)
        say(console, f"{stage_title(stage)}: {found} of {count} with the same content hash", "  ")
    walk = Walk(stored, again)
    for key in dict.fromkeys(
        key for row in plan.results for key in (row.score_key, *row.audit_keys)
    ):
        label, content = plan.jobs[key].label, stored.content(key)
        cause = walk.first(key, key)
        if cause is None and content:
            say(console, f"{label}: same content hash {content[:DIGITS]}")
        elif cause is not None:
            say(console, f"{label}: first to differ is {cause.label}: {cause.why}")
    return len(same) == len(plan.jobs)
