"""Where the numbers of a report come from: grid, versions, commit, and the commands to repeat it.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oneshui.spec import DATA_SEEN, FACES_LAYOUTS
from sweeps.command import lasting, override_key, shell_line
from sweeps.graph.cells import index_job
from sweeps.graph.held_out import sizes_behind
from sweeps.graph.plan import Plan, ResultRow
from sweeps.graph.spec import Cell
from sweeps.report.results import resolved_hyperparameters
from sweeps.store import Entry


@dataclass(frozen=True, kw_only=True)
class MethodInfo:
    """A row of the tables in words."""

    name: str
    method: str
    seen: str
    hyperparameters: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """A dataset of the sweep in words."""

    name: str
    origin: str
    forget_sizes: str
    seeds: str
    size: str
    fingerprint: str
    credit: str


@dataclass(frozen=True, kw_only=True)
class SplitInfo:
    """One cell's split in words."""

    cell: Cell
    images: str
    fingerprint: str


def datasets(plan: Plan, entries: Mapping[str, Entry]) -> list[DatasetInfo]:
    """The datasets of a plan; "-" for what no finished job has read yet."""
    found = []
    for spec in plan.sweep.datasets.values():
        entry = entries.get(index_job(spec, plan.sweep.versions).key)
        cells = [cell for cell in plan.sweep.cells if cell.dataset == spec.name]
        found.append(
            DatasetInfo(
                name=spec.name,
                origin=f"generated {FACES_LAYOUTS[spec.layout]}"
                if spec.generate
                else f"layout {spec.layout}",
                forget_sizes=_listed(cell.num_forget for cell in cells),
                seeds=_listed(cell.seed for cell in cells),
                size="{num_images} images of {num_identities} identities".format(**entry.value)
                if entry
                else "-",
                fingerprint=str(entry.value["fingerprint"]) if entry else "-",
                credit=spec.credit,
            )
        )
    return found


def _listed(values: Iterable[int]) -> str:
    return ", ".join(map(str, dict.fromkeys(values)))


def splits(plan: Plan, entries: Mapping[str, Entry]) -> list[SplitInfo]:
    """The finished splits, one per cell."""
    found: dict[Cell, SplitInfo] = {}
    for row in plan.results:
        entry = entries.get(row.split_key)
        if entry is not None and row.cell not in found:
            images = entry.value["num_images"]
            found[row.cell] = SplitInfo(
                cell=row.cell,
                images=", ".join(f"{count} {name}" for name, count in images.items()),
                fingerprint=str(entry.value["fingerprint"]),
            )
    return list(found.values())


def methods(plan: Plan, entries: Mapping[str, Entry]) -> list[MethodInfo]:
    """Rows with their hyperparameters; with those of each forget size where they differ."""
    variants: dict[str, dict[str, list[Cell]]] = {}
    rows = {}
    for result in plan.results:
        row = result.row
        rows[row.name] = row
        text = _hyperparameters(result, entries)
        variants.setdefault(row.name, {}).setdefault(text, []).append(result.cell)
    return [
        MethodInfo(
            name=row.name,
            method=row.method,
            seen=DATA_SEEN[row.access],
            hyperparameters=tuple(
                f"{_whose(cells, variants[row.name])}: {text}"
                if len(variants[row.name]) > 1
                else text
                for text, cells in variants[row.name].items()
            ),
        )
        for row in rows.values()
    ]


def _whose(cells: Sequence[Cell], variants: Mapping[str, Sequence[Cell]]) -> str:
    """Cells in words; their seeds only where other seeds run with another variant."""
    seeds: dict[tuple[str, int], list[str]] = {}
    for cell in cells:
        seeds.setdefault((cell.dataset, cell.num_forget), []).append(str(cell.seed))
    found = []
    for (dataset, size), own in seeds.items():
        of_all = [c for some in variants.values() for c in some]
        count = sum((cell.dataset, cell.num_forget) == (dataset, size) for cell in of_all)
        name = f"{dataset} n{size}"
        found.append(name if count == len(own) else f"{name} s{'+'.join(own)}")
    return ", ".join(found)


def _hyperparameters(result: ResultRow, entries: Mapping[str, Entry]) -> str:
    """In words; tuned ones with their range and objective."""
    resolved = resolved_hyperparameters(result, entries)
    people = result.row.tuned_in_steps_of
    in_turn = "" if people is None else f", {people} at a time"
    texts = []
    for name in result.row.hyperparameters:
        text = f"{name} = {_short(resolved[name])}" if name in resolved else f"{name}"
        if name in result.row.space:
            found = result.row.space[name]
            text += f" (tuned in {found.low:g} to {found.high:g}, {result.row.objective}{in_turn})"
        texts.append(text)
    return ", ".join(texts) or "none"


def _short(value: Any) -> str:
    return (
        f"{value:.4g}"
        if isinstance(value, float) and value != float(f"{value:.4g}")
        else f"{value}"
    )


def again(command: Sequence[str]) -> str:
    """The command that goes on with the sweep, as a shell needs it."""
    return shell_line(lasting(command))


def alone(plan: Plan, row: ResultRow, command: Sequence[str], output_dir: str = "runs/why") -> str:
    """The command that computes one row anew and nothing that it does not need.

    The further rows of retraining stay, being references of the attack, and so do all seeds, of
    which one more may tune it, and with a tuned row the forget sizes, because a study keeps out
    whom any reported cell forgets: without them the job would be another.

    Args:
        plan: The sweep's graph.
        row: The row.
        command: The user's overrides.
        output_dir: A folder of its own, so that nothing stored is reused.
    """
    replaced = ("sweep.methods", "sweep.datasets", "sweep.forget_sizes", "output_dir", "store.uri")
    kept = [c for c in lasting(command) if override_key(c) not in replaced]
    rows = [r for r in plan.sweep.rows[row.cell] if r.role.is_retrained or r == row.row]
    names = [r.study for r in rows]
    sizes = sizes_behind(plan.sweep, row.cell, row.row)
    return shell_line(
        [
            *kept,
            f"sweep.datasets=[{row.cell.dataset}]",
            f"sweep.forget_sizes=[{','.join(map(str, sizes))}]",
            f"sweep.methods=[{','.join(names)}]",
            f"output_dir={output_dir}",
        ]
    )
