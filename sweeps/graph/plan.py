"""From a sweep to its graph of jobs.

Pure: no torch, no Ray, no MLflow, no Hydra, no input or output.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from oneshui.spec import Access, Role
from sweeps.graph.cells import (
    Base,
    Graph,
    base_of,
    cell_name,
    evaluate,
    method_spec,
    prepare,
    train,
)
from sweeps.graph.job import STAGES, Job, Stage
from sweeps.graph.spec import Cell, Row, SweepSpec
from sweeps.graph.studies import StudyJobs, StudyKey, add_study, study_key


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """Where the numbers of one row of the results come from.

    Attributes:
        cell: Dataset, forget size and seed.
        row: The method with its hyperparameters.
        model_key: Job that made the weights.
        prepare_key: Job of the method's preparation, if it has one.
        evaluate_key: Job that predicted.
        score_key: Job that measured.
        choose_key: Job that chose the hyperparameters, if they were tuned.
    """

    cell: Cell
    row: Row
    model_key: str
    prepare_key: str | None
    evaluate_key: str
    score_key: str
    choose_key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The graph of a sweep.

    Attributes:
        sweep: What it was made from.
        jobs: By key; every job comes after its inputs.
        results: One per row of the results table.
        studies: In the order in which rows need them; see ``sweeps.graph.held_out``.
    """

    sweep: SweepSpec
    jobs: Mapping[str, Job]
    results: tuple[ResultRow, ...]
    studies: tuple[StudyJobs, ...] = ()

    def counts(self) -> dict[Stage, int]:
        """Number of jobs by stage, stages without jobs left out."""
        found = Counter(job.stage for job in self.jobs.values())
        return {stage: found[stage] for stage in STAGES if found[stage]}

    def needed(self, row: ResultRow) -> dict[str, int]:
        """Keys of all jobs behind a row, each with its least distance from the score in jobs."""
        found = {row.score_key: 0}
        waiting = [row.score_key]
        for key in waiting:
            for other in self.jobs[key].needs:
                if other not in found:
                    found[other] = found[key] + 1
                    waiting.append(other)
        return found


def expand(sweep: SweepSpec) -> Plan:
    """The jobs of a sweep, shared wherever two rows need the same thing.

    Raises:
        AssertionError: Two unequal jobs have the same key.
    """
    graph = Graph()
    results: list[ResultRow] = []
    studies: dict[StudyKey, StudyJobs] = {}
    for cell in sweep.cells:
        for row in sweep.rows[cell]:
            key = study_key(sweep, cell, row)
            if row.objective is not None and key not in studies:
                studies[key] = add_study(graph, sweep, cell, row)
        results += _cell(graph, sweep, cell, studies)
    return Plan(
        sweep=sweep,
        jobs=_wanted(graph, results, studies.values()),
        results=tuple(results),
        studies=tuple(studies.values()),
    )


def _wanted(
    graph: Graph, results: Iterable[ResultRow], studies: Iterable[StudyJobs]
) -> dict[str, Job]:
    """The jobs without those that nobody needs, as retraining a cell that only tunes may be."""
    waiting = [row.score_key for row in results]
    for study in studies:
        waiting += [*study.choices.values(), *itertools.chain(*study.true_tows)]
    found = set(waiting)
    for key in waiting:
        new = [other for other in graph.jobs[key].needs if other not in found]
        found.update(new)
        waiting += new
    return {key: job for key, job in graph.jobs.items() if key in found}


def _paired_cell(sweep: SweepSpec, cell: Cell) -> Cell | None:
    """The first cell of the same request size with another split, if there is one.

    Its retrained model did not see all that this cell's did, so ``a`` can be tuned on the two.
    """
    for other in sweep.cells:
        same = (other.dataset, other.num_forget) == (cell.dataset, cell.num_forget)
        if same and other.split_seed != cell.split_seed:
            return other
    return None


def _cell(
    graph: Graph, sweep: SweepSpec, cell: Cell, studies: Mapping[StudyKey, StudyJobs]
) -> list[ResultRow]:
    base = base_of(graph, sweep, cell)

    def evaluated(title: str, weights: str) -> str:
        return evaluate(graph, sweep, cell, base, title, weights)

    pretrained = evaluated("pretrain", base.pretrained)
    retrained = evaluated("retrain", base.retrained)
    shared = {"retrained": retrained, "pretrained": pretrained}
    other = _paired_cell(sweep, cell)
    if other is not None:
        of_other = base_of(graph, sweep, other)
        shared["paired"] = evaluated(f"retrain of s{other.seed} on", of_other.retrained)
        shared["paired_split"] = of_other.data["split"]
    again = [
        evaluated(row.name, _retrained(graph, cell, base, row))
        for row in sweep.rows[cell]
        if row.role.is_retrained
    ]
    references = list(dict.fromkeys([retrained, *again]))
    results = []
    for row in sweep.rows[cell]:
        prepared, copies, tuned = None, [], None
        if row.objective is not None:
            tuned = studies[study_key(sweep, cell, row)].choices[row.objective]
        if row.role is Role.PRETRAIN:
            weights = base.pretrained
        elif row.role.is_retrained:
            weights = _retrained(graph, cell, base, row)
        else:
            prepared, weights = _unlearn(graph, cell, row, base, base.pretrained, tuned)
            if sweep.reference_copies and row.access is not Access.FULL:
                _, copy = _unlearn(graph, cell, row, base, base.retrained, tuned, " on retrain")
                copies = [evaluated(f"{row.name} on retrain", copy)]
        predictions = evaluated(row.name, weights)
        attacked_with = tuple(key for key in [*references, *copies] if key != predictions)
        scores = graph.add(
            "score",
            f"score {row.name} {cell_name(cell)}",
            {},
            {"references": attacked_with},
            predictions=predictions,
            **shared,
        )
        results.append(
            ResultRow(
                cell=cell,
                row=row,
                model_key=weights,
                prepare_key=prepared,
                evaluate_key=predictions,
                score_key=scores,
                choose_key=tuned,
            )
        )
    return results


def _retrained(graph: Graph, cell: Cell, base: Base, row: Row) -> str:
    reseed = row.hyperparameters["reseed"]
    return train(graph, cell, "retrain", base.recipe, base.for_training, reseed)


def _unlearn(
    graph: Graph,
    cell: Cell,
    row: Row,
    base: Base,
    model: str,
    tuned: str | None,
    suffix: str = "",
) -> tuple[str | None, str]:
    """Prepare and unlearn jobs; a one-shot row's unlearn has no way to the training data.

    Args:
        graph: Where to add them.
        cell: Of the row.
        row: The method.
        base: The cell's own jobs.
        model: Key of the weights that are to forget: the pretrained ones, or of a copy that the
            attack takes as reference the retrained ones.
        tuned: Key of the choice that gives the hyperparameters of the row's search space.
        suffix: For the label.
    """
    inputs = {"pretrained": model, "split": base.data["split"]}
    if row.access is Access.FULL:
        inputs |= base.for_training
    prepared = prepare(graph, cell, row, base, model, suffix)
    if prepared is not None:
        inputs["prepared"] = prepared
    if tuned is not None:
        inputs["tuned"] = tuned
    weights = graph.add(
        "unlearn",
        f"unlearn {row.name} {cell_name(cell)}{suffix}",
        {**method_spec(cell, row, base), "hyperparameters": row.fixed},
        **inputs,
    )
    return prepared, weights
