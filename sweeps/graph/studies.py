"""The jobs of a study: simulated requests, points, the choice, and what the points were worth.

Pure. A point job's hyperparameters are not in its spec: the job finds them from the results of the
batches before its own, which are its inputs. So the graph is known before anything runs, a point
has a key like any other job, and a sweep that was killed goes on in the middle of a study.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oneshui.spec import Access, Range
from sweeps.graph.cells import Base, Graph, base_of, cell_name, evaluate, method_spec, prepare
from sweeps.graph.job import PICTURES
from sweeps.graph.spec import Cell, Objective, Row, SweepSpec, study_title

StudyKey = tuple[str, int, str]
"""Dataset, forget size and name of the row without its objective."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """The keys of one study's jobs.

    Attributes:
        dataset: Name of the dataset.
        num_forget: Identities in the request.
        row: Name of the row without its objective.
        method: Name of the method.
        space: What varies.
        cells: That it runs on.
        points: In their order; the first is the defaults.
        choices: By objective.
        reveals: By point, one for every cell; empty if the true ToW is not wanted.
    """

    dataset: str
    num_forget: int
    row: str
    method: str
    space: Mapping[str, Range]
    cells: tuple[Cell, ...]
    points: tuple[str, ...]
    choices: Mapping[Objective, str]
    reveals: tuple[tuple[str, ...], ...]

    @property
    def name(self) -> str:
        """As people and Optuna call it."""
        return f"{self.row} {self.dataset} n{self.num_forget}"


def study_key(cell: Cell, row: Row) -> StudyKey:
    """Which study a row of a cell belongs to."""
    return (cell.dataset, cell.num_forget, study_title(row.name))


def add_study(graph: Graph, sweep: SweepSpec, cell: Cell, row: Row) -> Study:
    """Add the jobs of a row's study.

    Args:
        graph: Where to add them.
        sweep: Says how to tune.
        cell: Gives dataset and forget size.
        row: Any of the study's rows; they differ in the objective only.
    """
    tuning = sweep.tuning
    dataset, num_forget, title = study_key(cell, row)
    cells = tuple(dataclasses.replace(cell, seed=seed) for seed in tuning.seeds)
    bases = [base_of(graph, sweep, one) for one in cells]
    after: dict[str, str] = {}
    for place, (one, base) in enumerate(zip(cells, bases, strict=True)):
        prepared = prepare(graph, one, row, base, base.pretrained)
        after[f"pretrained_{place}"] = base.pretrained
        after[f"split_{place}"] = base.data["split"]
        after[f"rehearsal_{place}"] = _rehearse(graph, sweep, one, base)
        if prepared is not None:
            after[f"prepared_{place}"] = prepared
    data = [base.with_crops if row.access is Access.FULL else base.data for base in bases]
    # The cells of a study have one dataset.
    pictures = {role: key for role, key in data[0].items() if role in PICTURES}
    before = {**after, **pictures}
    space = {name: dataclasses.asdict(dimension) for name, dimension in row.space.items()}
    common = {
        **method_spec(cells[0], row, bases[0]),
        "hyperparameters": row.fixed,
        "access": str(row.access),
    }
    points: list[str] = []
    name = f"{title} {dataset} n{num_forget}"
    for place in range(tuning.points):
        known = points[: place - place % tuning.batch]
        spec = {
            **common,
            "space": space,
            "defaults": {n: v for n, v in row.hyperparameters.items() if n in space},
            "sampler": tuning.sampler,
            "place": place,
        }
        # What a sampler need not know stays out of the key: so a study can be continued.
        if tuning.sampler == "grid":
            spec["points"] = tuning.points
        if tuning.sampler == "cmaes":
            spec["batch"] = tuning.batch
        told = {f"point_{number:05d}": key for number, key in enumerate(known)}
        points.append(graph.add("propose", f"point {place} of {name}", spec, **before, **told))
    told = {f"point_{number:05d}": key for number, key in enumerate(points)}
    objectives = dict.fromkeys(
        one.objective
        for rows in sweep.rows.values()
        for one in rows
        if one.objective is not None and study_title(one.name) == title
    )
    retrained = {
        f"retrained_{place}": evaluate(graph, sweep, one, base, "retrain", base.retrained)
        for place, (one, base) in enumerate(zip(cells, bases, strict=True))
    }
    choices = {
        objective: graph.add(
            "choose",
            f"choose {name} {objective}",
            {**common, "objective": _effective(objective, row), "carried": tuning.carried},
            **told,
            **_seen(_effective(objective, row), before, after, retrained),
        )
        for objective in objectives
        if objective is not None
    }
    reveals = [
        tuple(
            graph.add(
                "reveal",
                f"reveal point {number} of {name} s{one.seed}",
                common,
                point=point,
                **data[place],
                retrained=retrained[f"retrained_{place}"],
                **{
                    role: after[f"{role}_{place}"]
                    for role in ("pretrained", "rehearsal", "prepared")
                    if f"{role}_{place}" in after
                },
            )
            for place, (one, base) in enumerate(zip(cells, bases, strict=True))
        )
        for number, point in enumerate(points if tuning.reveal else ())
    ]
    return Study(
        dataset=dataset,
        num_forget=num_forget,
        row=title,
        method=row.method,
        space=row.space,
        cells=cells,
        points=tuple(points),
        choices=choices,
        reveals=tuple(reveals),
    )


def _effective(objective: Objective, row: Row) -> Objective:
    """A reference row has no S to choose by: unless the oracle does, simulation chooses."""
    if row.access is Access.FULL and objective in ("support_only", "support_and_val"):
        return "simulated"
    return objective


def _seen(
    objective: Objective,
    before: Mapping[str, str],
    after: Mapping[str, str],
    retrained: Mapping[str, str],
) -> dict[str, str]:
    """The inputs of a choice: what its objective may see, and nothing else."""
    match objective:
        case "simulated":
            return {role: key for role, key in after.items() if role.startswith("rehearsal")}
        case "support_only":
            return dict(after)
        case "support_and_val":
            return dict(before)
        case "oracle":
            return {**before, **retrained}


def _rehearse(graph: Graph, sweep: SweepSpec, cell: Cell, base: Base) -> str:
    spec: dict[str, Any] = {
        "model": base.recipe["model"],
        "requests": sweep.tuning.requests,
        "unlearning_seed": cell.unlearning_seed,
    }
    label = f"rehearse {cell_name(cell)}"
    return graph.add("rehearse", label, spec, pretrained=base.pretrained, **base.data)
