"""The jobs of a study: simulated requests, trials, the choice, and what the trials were worth.

Pure. A trial's hyperparameters are not in its spec: the job finds them from the results of the
batches before its own, which are its inputs. So the graph is known before anything runs, a trial
has a key like any other job, and a sweep that was killed goes on in the middle of a study.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oneshui.spec import Access, Range
from sweeps.graph.cells import (
    Base,
    Graph,
    base_of,
    cell_name,
    data_of,
    evaluate,
    method_spec,
    prepare,
)
from sweeps.graph.held_out import reserving_cells, study_cells
from sweeps.graph.spec import Cell, Row, SweepSpec, TuningObjective, TuningSpec

NOTHING = 1
"""Place of the trial that does nothing, in studies of methods that can."""

StudyKey = tuple[str, tuple[Cell, ...]]
"""Name of the row without its objective, and the cells that its study runs on."""


@dataclass(frozen=True, kw_only=True)
class StudyJobs:
    """The keys of one study's jobs.

    Attributes:
        dataset: Name of the dataset.
        num_forget: Identities in the request.
        row: Name of the row without its objective.
        method: Name of the method.
        space: What varies.
        cells: That it runs on, of which there is at least one.
        simulated: Of the simulated requests, by cell.
        trials: In their order; the first is the defaults.
        nothing: Which of them does nothing; None if none does.
        choices: By objective.
        true_tows: By trial, one for every cell; empty if the true ToW is not wanted.
    """

    dataset: str
    num_forget: int
    row: str
    method: str
    space: Mapping[str, Range]
    cells: tuple[Cell, ...]
    simulated: tuple[str, ...]
    trials: tuple[str, ...]
    nothing: int | None
    choices: Mapping[TuningObjective, str]
    true_tows: tuple[tuple[str, ...], ...]

    @property
    def name(self) -> str:
        """As people and Optuna call it."""
        return _name(self.row, self.cells)

    @property
    def seeds(self) -> str:
        """Of its cells, in short."""
        return _seeds(self.cells)


def _name(row: str, cells: Sequence[Cell]) -> str:
    return f"{row} {cells[0].dataset} n{cells[0].num_forget} {_seeds(cells)}"


def _seeds(cells: Sequence[Cell]) -> str:
    seeds = [cell.seed for cell in cells]
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"s{seeds[0]}-{seeds[-1]}"
    return f"s{'+'.join(map(str, seeds))}"


def study_key(sweep: SweepSpec, cell: Cell, row: Row) -> StudyKey:
    """Which study a row of a reported cell belongs to."""
    return (row.study, study_cells(sweep, cell))


def _reserved(graph: Graph, sweep: SweepSpec, dataset: str) -> tuple[str, ...]:
    """Keys of the splits whose forgotten people no study of a dataset may forget, each once."""
    if dataset not in graph.reserved:
        splits = (
            data_of(graph, sweep, one, sweep.requests_in(one))[0]["split"]
            for one in reserving_cells(sweep, dataset)
        )
        graph.reserved[dataset] = tuple(dict.fromkeys(splits))
    return graph.reserved[dataset]


def add_study(graph: Graph, sweep: SweepSpec, cell: Cell, row: Row) -> StudyJobs:
    """Add the jobs of a row's study.

    Args:
        graph: Where to add them.
        sweep: Says how to tune.
        cell: A reported one that the study tunes for.
        row: Any of the study's rows; they differ in the objective only.
    """
    tuning = sweep.tuning
    title, cells = study_key(sweep, cell, row)
    reserved = _reserved(graph, sweep, cell.dataset)
    bases = [base_of(graph, sweep, one, reserved=reserved) for one in cells]
    after = {
        "pretrained": tuple(base.pretrained for base in bases),
        "split": tuple(base.data["split"] for base in bases),
        "simulated": tuple(
            _simulate(graph, sweep, *each) for each in zip(cells, bases, strict=True)
        ),
    }
    prepared = [
        prepare(graph, one, row, base, base.pretrained)
        for one, base in zip(cells, bases, strict=True)
    ]
    if row.prepare is not None:
        after["prepared"] = tuple(key for key in prepared if key is not None)
    data = [base.for_training if row.access is Access.FULL else base.data for base in bases]
    # The cells of a study have one dataset.
    shared = {role: key for role, key in data[0].items() if role != "split"}
    common = {
        **method_spec(cells[0], row, bases[0]),
        "hyperparameters": row.fixed,
        "access": str(row.access),
        **({} if row.tuned_in_steps_of is None else {"in_steps_of": row.tuned_in_steps_of}),
    }
    name = _name(title, cells)
    trials = add_trials(graph, tuning, row, common, name, after, shared)
    retrained = tuple(
        evaluate(graph, sweep, one, base, "retrain", base.retrained)
        for one, base in zip(cells, bases, strict=True)
    )
    nothing = NOTHING if row.nothing is not None and len(trials) > NOTHING else None
    idle = {} if nothing is None else {"nothing": nothing}
    objectives = dict.fromkeys(
        one.objective
        for rows in sweep.rows.values()
        for one in rows
        if one.objective is not None and one.study == title
    )
    choices: dict[TuningObjective, str] = {}
    for objective in objectives:
        effective = _effective(objective, row)
        seen, whose = _seen(effective, after, shared, retrained)
        choices[objective] = graph.add(
            "choose",
            f"choose {name} {objective}",
            {**common, "objective": effective, "carried": tuning.carried, **idle},
            {"trials": trials, **seen},
            **whose,
        )
    true_tows = [
        tuple(
            graph.add(
                "true_tow",
                f"true ToW of trial {number} of {name} s{one.seed}",
                common,
                trial=trial,
                **data[place],
                retrained=retrained[place],
                **{role: keys[place] for role, keys in after.items() if role != "split"},
            )
            for place, one in enumerate(cells)
        )
        for number, trial in enumerate(trials if tuning.true_tow else ())
    ]
    return StudyJobs(
        dataset=cell.dataset,
        num_forget=cell.num_forget,
        row=title,
        method=row.method,
        space=row.space,
        cells=cells,
        simulated=after["simulated"],
        trials=trials,
        nothing=nothing,
        choices=choices,
        true_tows=tuple(true_tows),
    )


def add_trials(
    graph: Graph,
    tuning: TuningSpec,
    row: Row,
    common: Mapping[str, Any],
    name: str,
    after: Mapping[str, tuple[str, ...]],
    shared: Mapping[str, str],
) -> tuple[str, ...]:
    """Add the trials of a study; their keys, in their order.

    Args:
        graph: Where to add them.
        tuning: Says how many there are and who draws their points.
        row: Whose hyperparameters vary.
        common: What every job of the method is told.
        name: Of the study, for people.
        after: Keys of the inputs that each of its cells has, by role.
        shared: Keys of those that all cells share.
    """
    spec = {
        **common,
        "space": {name: dataclasses.asdict(one) for name, one in row.space.items()},
        "defaults": {n: v for n, v in row.hyperparameters.items() if n in row.space},
        "sampler": tuning.sampler,
    }
    # Nor does a method without it know the word.
    if row.nothing is not None:
        spec["nothing"] = row.nothing
    # What a sampler need not know stays out of the key: so a study can be continued.
    if tuning.sampler == "grid":
        spec["trials"] = tuning.trials
    if tuning.sampler == "cmaes":
        spec["batch"] = tuning.batch
    trials: list[str] = []
    for place in range(tuning.trials):
        known = {"trials": tuple(trials[: place - place % tuning.batch])}
        label = f"trial {place} of {name}"
        own = {**spec, "place": place}
        trials.append(graph.add("trial", label, own, {**after, **known}, **shared))
    return tuple(trials)


def _effective(objective: TuningObjective, row: Row) -> TuningObjective:
    """A reference row has no S to choose by: unless the oracle does, simulation chooses."""
    if row.access is Access.FULL and objective in ("support_only", "support_and_val"):
        return "simulated"
    return objective


def _seen(
    objective: TuningObjective,
    after: Mapping[str, tuple[str, ...]],
    shared: Mapping[str, str],
    retrained: tuple[str, ...],
) -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, str]]:
    """The inputs of a choice, by cell and of all: what its objective may see, and nothing else."""
    match objective:
        case "simulated":
            return {"simulated": after["simulated"]}, {}
        case "support_only":
            return after, {}
        case "support_and_val":
            return after, shared
        case "oracle":
            return {**after, "retrained": retrained}, shared


def _simulate(graph: Graph, sweep: SweepSpec, cell: Cell, base: Base) -> str:
    spec: dict[str, Any] = {
        "model": base.recipe["model"],
        "requests": sweep.tuning.requests,
        "unlearning_seed": cell.unlearning_seed,
    }
    label = f"simulate {cell_name(cell)}"
    return graph.add("simulate", label, spec, pretrained=base.pretrained, **base.data)
