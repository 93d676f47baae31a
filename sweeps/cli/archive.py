"""``mode=export``, ``diff``, ``join`` and ``store``: what is done with finished sweeps.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from oneshui.errors import InputError
from sweeps import described
from sweeps.archive import care
from sweeps.cli.console import say, say_damage
from sweeps.cli.locks import PUBLISH_LOCK, alone
from sweeps.cli.progress import Bar
from sweeps.cli.words import several, size
from sweeps.command import override_key, shell_line
from sweeps.graph.job import STAGES, stage_title
from sweeps.graph.launch import EQUIVALENCE_MARGIN, LaunchSpec
from sweeps.graph.plan import Plan, expand
from sweeps.store import Store, open_store, store_exists
from sweeps.store.status import Scan, scan

NEXT = "the next run has it"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A sweep as it lies in a folder.

    Attributes:
        folder: Its output folder.
        plan: Its graph.
        found: Its finished jobs.
        margin: Of ToW, in which its report takes a row for as good as retrained.
    """

    folder: Path
    plan: Plan
    found: Scan
    margin: float


def finished(folder: Path, console: Console) -> Finished:
    """Read the sweep that described itself in a folder.

    Raises:
        InputError: None did, or its store is not there.
    """
    there = described.read(folder)
    uri = (there.settings.get("store") or {}).get("uri") or str(folder / "store")
    if not store_exists(uri):
        raise InputError(f"there is no store at {uri}, in which {folder} has its results")
    plan = expand(there.sweep)
    found = scan(plan, open_store(uri, writes=False), discard=False, is_thorough=True)
    say_damage(found.damage, console, NEXT)
    margin = (there.settings.get("report") or {}).get("margin", EQUIVALENCE_MARGIN)
    return Finished(folder=folder, plan=plan, found=found, margin=margin)


def export_sweep(spec: LaunchSpec, store: Store, console: Console) -> bool:
    """Write the archive; whether every job of the sweep has its result in it.

    Raises:
        InputError: It cannot be written there, or the folder is another sweep's.
    """
    from sweeps.archive.export import check_target, export

    output, to = Path(spec.places.output_dir), Path(spec.archive.to).expanduser()
    if not spec.archive.to:
        raise InputError("mode=export needs to=NAME.tar.zst, the archive to write")
    check_target(to, replace=spec.replace)
    if not (output / described.PLAN).exists():
        described.write(spec, output)
    elif described.read(output).sweep != spec.sweep:
        raise InputError(
            f"{output} holds another sweep than this command asks for; say output_dir={output} "
            "and nothing of the sweep"
        )
    plan = expand(spec.sweep)
    found = scan(plan, store, discard=False)
    say_damage(found.damage, console, NEXT)
    with (
        Bar(console, "writing the archive") as bar,
        alone(output / PUBLISH_LOCK, "writes the report", console),
    ):
        held = export(
            plan,
            found.entries,
            output,
            to,
            spec.archive.without,
            described.elsewhere(output),
            bar,
        )
    say(console, f"{to}: {several(held.entries, 'result')}, {size(to.stat().st_size)}")
    if held.left_out:
        files, what = several(held.left_out, "file"), size(held.left_out_bytes)
        say(console, f"left out: {files} of {' and '.join(spec.archive.without)}, {what}")
    if held.shows_faces:
        say(
            console,
            "the report's page shows faces of real people and was left out: mode=report after "
            "unpacking writes one without them",
        )
    if found.reasons:
        missing = f"{len(found.reasons)} of {len(plan.jobs)} jobs have no result"
        say(console, f"{missing}: the archive holds what is there")
    return not found.reasons


def show_difference(spec: LaunchSpec, store: Store, console: Console) -> None:
    """Say how two sweeps differ, in 80 columns.

    Raises:
        InputError: The other sweep cannot be read.
    """
    from sweeps.archive.diff import Side, difference, told

    if not spec.archive.other:
        raise InputError("mode=diff needs other=FOLDER, the output folder of the other sweep")
    plan = expand(spec.sweep)
    found = scan(plan, store, discard=False, is_thorough=True)
    say_damage(found.damage, console, NEXT)
    other = finished(Path(spec.archive.other).expanduser().absolute(), console)
    here = Side(name="here", plan=plan, entries=found.entries)
    there = Side(name="there", plan=other.plan, entries=other.found.entries)
    for side, folder in ((here, spec.places.output_dir), (there, other.folder)):
        console.print(f"{side.name}: sweep {side.plan.sweep.name} in {folder}", soft_wrap=True)
    for line in told(difference(here, there), here, there):
        console.print(line, soft_wrap=True)


def join_sweeps(spec: LaunchSpec, console: Console) -> None:
    """Write one report over several sweeps and print its table.

    Raises:
        InputError: A sweep cannot be read, or the output folder is a sweep's own.
    """
    from sweeps.archive.join import Part, joined_summary, names_of, write_joined
    from sweeps.report.formats import terminal

    folders = [Path(one).expanduser().absolute() for one in spec.archive.sweeps]
    if len(folders) < 2:
        raise InputError(
            "mode=join needs from=[FOLDER,FOLDER], output folders of two sweeps or more"
        )
    if len(set(folders)) < len(folders):
        raise InputError("from names a folder twice; name each sweep once")
    if not spec.configuration.get("output_dir"):
        raise InputError("mode=join needs output_dir=FOLDER, a new folder for the report")
    output = Path(spec.places.output_dir)
    if output in folders or (output / described.PLAN).exists():
        raise InputError(f"{output} is the folder of a sweep; set output_dir to a new folder")
    sweeps = [finished(folder, console) for folder in folders]
    margin = _margin(sweeps, spec)
    names = names_of([(one.plan.sweep.name, one.folder) for one in sweeps])
    parts = [
        Part(
            name=name,
            folder=one.folder,
            plan=one.plan,
            entries=one.found.entries,
            margin=margin,
        )
        for name, one in zip(names, sweeps, strict=True)
    ]
    terminal(joined_summary(parts), console)
    page = write_joined(parts, output, f"{shell_line(['output_dir=FOLDER', 'mode=why'])}")
    for part in parts:
        if missing := len(part.plan.jobs) - len(part.entries):
            say(console, f"{part.name}: {missing} of {len(part.plan.jobs)} jobs have no result")
    say(console, "MLflow's pages are each sweep's own: mode=ui with its output_dir")
    console.print(f"report: {page}", soft_wrap=True)


def _margin(sweeps: Sequence[Finished], spec: LaunchSpec) -> float:
    """What counts as good as retrained: what the command says, or else all sweeps.

    Raises:
        InputError: It says nothing, and they have different ones.
    """
    own = {one.margin: one.folder for one in sweeps}
    if any(override_key(said).startswith("report") for said in spec.command):
        return spec.margin
    if len(own) > 1:
        told = ", ".join(f"{margin:g} in {folder}" for margin, folder in own.items())
        raise InputError(f"report.margin is {told}: say which one holds here, as report.margin=...")
    return sweeps[0].margin


def care_for_store(spec: LaunchSpec, store: Store, console: Console) -> None:
    """Say what a store holds, and show or remove what no known sweep reaches.

    Raises:
        InputError: A sweep to keep cannot be read, or somebody unknown is at work.
    """
    folders = [Path(name).expanduser().absolute() for name in spec.archive.keep]
    kept = [care.User.of(expand(described.read(one).sweep), one) for one in folders]
    held = care.holdings(store)
    now = time.time()
    own = care.User.of(expand(spec.sweep), Path(spec.places.output_dir))
    # What was run in this folder counts, too, where the command asks about another sweep.
    recorded = [user for user in care.users(store) if user != own]
    console.print(
        f"store {store.address}: {several(len(held), 'result')}, {size(sum(_sizes(held)))}",
        soft_wrap=True,
    )
    _show_stages(held, console)
    _show_sweeps(held, [own, *recorded], console)
    _show_ages(held, now, console)
    if spec.archive.prune is None:
        return
    counted = [own, *(user for user in recorded if not user.is_gone), *kept]
    found = care.unreachable(store, held, counted, now)
    console.print("")
    if not found.removable:
        say(console, "nothing to remove")
    for stage, number, total in _by_stage(found.removable):
        verb = "removed" if spec.archive.yes else "would be removed"
        say(console, f"{verb}: {several(number, 'result')} of {stage}, {size(total)}", "  ")
    if found.fresh:
        say(
            console, f"stay: {several(len(found.fresh), 'result')}, younger than an hour or undated"
        )
    if spec.archive.yes:
        for one in found.removable:
            store.remove(one.stage, one.key)
        console.print(f"{size(sum(_sizes(found.removable)))} are free", soft_wrap=True)
    elif found.removable:
        again = shell_line([*spec.command, "yes=true"])
        say(console, again, "to remove them: ", is_command=True)


def _sizes(held: Iterable[care.Holding]) -> list[int]:
    return [one.size for one in held]


def _by_stage(held: Sequence[care.Holding]) -> list[tuple[str, int, int]]:
    """Titles of stages with the number of results and their bytes."""
    own = {stage: _sizes(one for one in held if one.stage == stage) for stage in STAGES}
    return [(stage_title(stage), len(it), sum(it)) for stage, it in own.items() if it]


def _line(console: Console, name: str, results: int, total: int, further: str = "") -> None:
    room = 34
    if len(name) > room:
        console.print(f"  {name}", soft_wrap=True)
        name = ""
    console.print(f"  {name:<{room}}{results:>9,}{size(total):>12}{further:>14}".rstrip())


def _head(console: Console, title: str, further: str = "") -> None:
    console.print(f"\n{title:<36}{'results':>9}{'size':>12}{further:>14}".rstrip())


def _show_stages(held: Sequence[care.Holding], console: Console) -> None:
    _head(console, "by stage")
    for stage, number, total in _by_stage(held):
        _line(console, stage, number, total)


def _show_sweeps(
    held: Sequence[care.Holding], users: Sequence[care.User], console: Console
) -> None:
    """By sweep; what several share counts for each, and what one alone has is told beside."""
    times = Counter(which for user in users for which in user.reached)
    _head(console, "by sweep", "its own alone")
    for user in users:
        own = [one for one in held if one.which in user.reached]
        alone_ = size(sum(one.size for one in own if times[one.which] == 1))
        gone = ", whose folder is not there any more" if user.is_gone else ""
        _line(console, f"{user.sweep} in {user.folder}{gone}", len(own), sum(_sizes(own)), alone_)
    rest = [one for one in held if one.which not in times]
    _line(console, "none of them", len(rest), sum(_sizes(rest)))


def _show_ages(held: Sequence[care.Holding], now: float, console: Console) -> None:
    _head(console, "by age")
    ages = [*(f"under {name}" for _, name in care.AGES), "older", "unknown"]
    for age in ages:
        own = [one for one in held if care.age_of(one, now) == age]
        if own:
            _line(console, age, len(own), sum(_sizes(own)))
