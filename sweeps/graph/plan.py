"""From a sweep to its graph of jobs.

Pure: no torch, no Ray, no MLflow, no Hydra, no input or output.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from oneshui.spec import Access, Role
from sweeps.graph.cells import (
    Base,
    Graph,
    Request,
    base_of,
    cell_name,
    evaluate,
    prepare,
    requests_of,
    train,
    unlearn,
)
from sweeps.graph.completeness import completeness_of
from sweeps.graph.job import STAGES, Job, Stage
from sweeps.graph.pool import Pool, pool_of
from sweeps.graph.probes import Probes, probes_of
from sweeps.graph.sequence import Chain, Chains
from sweeps.graph.spec import Cell, Row, SweepSpec
from sweeps.graph.studies import StudyJobs, StudyKey, add_study, study_key


@dataclass(frozen=True, kw_only=True)
class Replicate:
    """One unlearning and evaluation of a row where seeds are nested.

    Attributes:
        unlearning: Which of its training's, from 0.
        evaluation: Which of its unlearning's, from 0.
        model_keys: As a row's.
        score_key: Job that measured.
    """

    unlearning: int
    evaluation: int
    model_keys: tuple[str, ...]
    score_key: str


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """Where the numbers of one row of the results come from.

    Attributes:
        cell: Dataset, forget size and seed.
        row: The method with its hyperparameters.
        requests: How many the cell stands for.
        split_key: Job that drew the people of the cell, those of all its requests.
        model_keys: Jobs that made the weights: one, or one for every request of the cell where
            these depend on who asks.
        prepare_key: Job of the method's preparation, if it has one; requests share it.
        evaluate_keys: Jobs that predicted, one for each of the weights.
        score_key: Job that measured.
        choose_key: Job that chose the hyperparameters, if they were tuned.
        chains: The same row where the people of the cell ask one after the other.
        lira_key: Job of its likelihood audit; None without one. Rows of several cells that run
            with the same hyperparameters share it.
        chosen: The same row of the cell beside this one, whose people are chosen by memorisation.
        probes: Where what its probes say comes from; None where nobody asked.
        completeness_key: Job that says how complete its forgetting is; None where nobody asked.
        replicates: Where seeds are nested, all unlearnings and evaluations of the row, those above
            first: its measures are their means. Else empty.
    """

    cell: Cell
    row: Row
    requests: int
    split_key: str
    model_keys: tuple[str, ...]
    prepare_key: str | None
    evaluate_keys: tuple[str, ...]
    score_key: str
    choose_key: str | None = None
    chains: tuple[Chain, ...] = ()
    lira_key: str | None = None
    chosen: ResultRow | None = None
    probes: Probes | None = None
    completeness_key: str | None = None
    replicates: tuple[Replicate, ...] = ()

    @property
    def measured_keys(self) -> tuple[str, ...]:
        """Jobs that measured the row as it is, all replicates of it."""
        return tuple(dict.fromkeys([self.score_key, *(one.score_key for one in self.replicates)]))

    @property
    def made_keys(self) -> tuple[str, ...]:
        """Jobs that made its weights, those of all replicates."""
        others = (key for one in self.replicates for key in one.model_keys)
        return tuple(dict.fromkeys([*self.model_keys, *others]))

    @property
    def model_key(self) -> str:
        """Job that made the weights, or those of the first request."""
        return self.model_keys[0]

    @property
    def score_keys(self) -> tuple[str, ...]:
        """Jobs that measured the row, as it is and where people ask one after the other."""
        return (*self.measured_keys, *(chain.score_key for chain in self.chains))

    @property
    def audit_keys(self) -> tuple[str, ...]:
        """Jobs that audited the row, or measured it where its people are chosen."""
        chosen = None if self.chosen is None else self.chosen.score_key
        probed = () if self.probes is None else self.probes.keys
        alone = (self.lira_key, self.completeness_key, chosen)
        return (*(key for key in alone if key is not None), *probed)

    @property
    def evaluate_key(self) -> str:
        """Job that predicted, or did for the first request."""
        return self.evaluate_keys[0]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The graph of a sweep.

    Attributes:
        sweep: What it was made from.
        jobs: By key; every job comes after its inputs.
        results: One per row of the results table.
        studies: In the order in which rows need them; see ``sweeps.graph.held_out``.
        pools: Those of likelihood audits, by dataset.
    """

    sweep: SweepSpec
    jobs: Mapping[str, Job]
    results: tuple[ResultRow, ...]
    studies: tuple[StudyJobs, ...] = ()
    pools: Mapping[str, Pool] = field(default_factory=dict)

    def counts(self) -> dict[Stage, int]:
        """Number of jobs by stage, stages without jobs left out."""
        found = Counter(job.stage for job in self.jobs.values())
        return {stage: found[stage] for stage in STAGES if found[stage]}

    def needed(self, row: ResultRow, *, with_chains: bool = False) -> dict[str, int]:
        """Keys of all jobs behind a row, each with its least distance from the score in jobs.

        Args:
            row: One of the results.
            with_chains: Whether those count that serve its people one after the other, audit the
                row or choose its people by memorisation.
        """
        every = dict.fromkeys((*row.score_keys, *row.audit_keys))
        return self.behind(every if with_chains else row.measured_keys)

    def behind(self, keys: Iterable[str]) -> dict[str, int]:
        """These jobs and all that they need, each with its least distance from them in jobs."""
        waiting = list(keys)
        found = dict.fromkeys(waiting, 0)
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
    graph = Graph(versions=sweep.versions)
    pools = _pools(graph, sweep)
    results: list[ResultRow] = []
    studies: dict[StudyKey, StudyJobs] = {}
    for cell in sweep.cells:
        for row in sweep.rows[cell]:
            key = study_key(sweep, cell, row)
            if row.objective is not None and key not in studies:
                studies[key] = add_study(graph, sweep, cell, row)
        results += _audited(graph, sweep, cell, studies, pools)
    return Plan(
        sweep=sweep,
        jobs=_wanted(graph, results, studies.values(), pools.values()),
        results=tuple(results),
        studies=tuple(studies.values()),
        pools=pools,
    )


def _pools(graph: Graph, sweep: SweepSpec) -> dict[str, Pool]:
    """Add the pools of the sweep's datasets, before the cells whose people they may choose."""
    if sweep.audit is None or not sweep.audit.pool:
        return {}
    pools = {name: pool_of(graph, sweep, name) for name in sweep.datasets}
    graph.memorisation.update({name: pool.memorisation_key for name, pool in pools.items()})
    return pools


def _audited(
    graph: Graph,
    sweep: SweepSpec,
    cell: Cell,
    studies: Mapping[StudyKey, StudyJobs],
    pools: Mapping[str, Pool],
) -> list[ResultRow]:
    """The rows of a cell with their audits, and with those of the cell beside it, if there is."""
    rows = _cell(graph, sweep, cell, cell, studies)
    if cell.dataset in pools:
        pool = pools[cell.dataset]
        rows = [
            dataclasses.replace(one, lira_key=pool.of_row(one.row, one.choose_key)) for one in rows
        ]
    beside = dataclasses.replace(cell, choose=sweep.choose)
    if beside == cell:
        return rows
    chosen = _cell(graph, sweep, beside, cell, studies)
    pairs = zip(rows, chosen, strict=True)
    return [dataclasses.replace(one, chosen=other) for one, other in pairs]


def _wanted(
    graph: Graph,
    results: Iterable[ResultRow],
    studies: Iterable[StudyJobs],
    pools: Iterable[Pool],
) -> dict[str, Job]:
    """The jobs without those that nobody needs, as retraining a cell that only tunes may be."""
    waiting = [key for row in results for key in (*row.score_keys, *row.audit_keys)]
    waiting += [pool.memorisation_key for pool in pools]
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
    graph: Graph,
    sweep: SweepSpec,
    cell: Cell,
    reported: Cell,
    studies: Mapping[StudyKey, StudyJobs],
) -> list[ResultRow]:
    """Add the jobs of a cell.

    Args:
        graph: Where to add them.
        sweep: Says what is measured.
        cell: Whose people are forgotten.
        reported: The same cell, or the one that it stands beside: its rows and choices are this
            cell's.
        studies: That chose hyperparameters.
    """
    base = base_of(graph, sweep, cell, sweep.requests_in(cell))
    requests = requests_of(graph, cell, base, sweep.requests_in(cell))

    yardsticks = [
        _yardsticks(graph, sweep, cell, reported, base, again)
        for again in range(evaluations(sweep))
    ]
    first = yardsticks[0]
    in_turn = None
    if sweep.sequence is not None and cell == reported:
        in_turn = Chains(
            graph=graph,
            sweep=sweep,
            cell=cell,
            base=base,
            pretrained=first.shared["pretrained"],
            retrained=first.shared["retrained"],
            again=next(iter(first.again), None),
        )
    results = []
    for row in sweep.rows[reported]:
        chains = tuple[Chain, ...]()
        tuned = None
        if row.objective is not None:
            tuned = studies[study_key(sweep, reported, row)].choices[row.objective]
        made = _make(graph, sweep, cell, row, base, requests, tuned)
        predictions, scores = _measure(graph, sweep, cell, row, base, requests, made, first)
        if in_turn is not None and row.access is not Access.FULL and made.is_unlearned:
            chains = in_turn.of_row(row, made.prepared, tuned, (made.weights[0], predictions[0]))
        replicates = []
        for again in range(0 if sweep.nested is None else sweep.nested.unlearning):
            of_seed = dataclasses.replace(cell, again=again)
            asked = requests_of(graph, of_seed, base, len(requests))
            one = _make(graph, sweep, of_seed, row, base, asked, tuned)
            for yardstick in yardsticks:
                _, key = _measure(graph, sweep, of_seed, row, base, asked, one, yardstick)
                replicates.append(
                    Replicate(
                        unlearning=again,
                        evaluation=yardstick.evaluation,
                        model_keys=one.weights,
                        score_key=key,
                    )
                )
        results.append(
            ResultRow(
                cell=cell,
                row=row,
                requests=len(requests),
                split_key=base.data["split"],
                model_keys=made.weights,
                prepare_key=made.prepared,
                evaluate_keys=predictions,
                score_key=scores,
                choose_key=tuned,
                chains=chains,
                replicates=tuple(replicates),
            )
        )
    if cell != reported:
        return results
    results = _completed(graph, sweep, cell, base, first, results)
    return _probed(graph, sweep, cell, base, requests, results)


def _completed(
    graph: Graph,
    sweep: SweepSpec,
    cell: Cell,
    base: Base,
    yardsticks: _Yardsticks,
    results: list[ResultRow],
) -> list[ResultRow]:
    """The rows of a cell with how complete their forgetting is, if anybody asked.

    Args:
        graph: Where to add jobs.
        sweep: Says what is asked.
        cell: Whose people are forgotten.
        base: The cell's own jobs.
        yardsticks: What every score of the cell looks at.
        results: The rows.
    """
    if sweep.audit is None or not sweep.audit.completeness:
        return results
    return [
        dataclasses.replace(
            result,
            completeness_key=completeness_of(
                graph,
                cell,
                base,
                result.row,
                result.evaluate_keys,
                # As of the attack: the first that retrains again is scored as the rows are.
                yardsticks.again if result.row.role is Role.RETRAIN else yardsticks.references,
                pretrained=yardsticks.shared["pretrained"],
                retrained=yardsticks.shared["retrained"],
            ),
        )
        for result in results
    ]


def _probed(
    graph: Graph,
    sweep: SweepSpec,
    cell: Cell,
    base: Base,
    requests: Sequence[Request],
    results: list[ResultRow],
) -> list[ResultRow]:
    """The rows of a cell with what their probes say, if anybody asked."""
    if sweep.audit is None or not sweep.audit.probes:
        return results
    known = [(result.row, result.model_keys, result.score_key) for result in results]
    probed = probes_of(graph, sweep, cell, base, requests, known)
    return [
        dataclasses.replace(result, probes=probes)
        for result, probes in zip(results, probed, strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class _Yardsticks:
    """What every score of a cell looks at, in one evaluation.

    Attributes:
        evaluation: Which, from 0.
        shared: Keys by role.
        references: Predictions of models that no request made, which rows are attacked with.
        again: Predictions of the models that were retrained again.
    """

    evaluation: int
    shared: Mapping[str, str]
    references: tuple[str, ...]
    again: tuple[str, ...]


def _yardsticks(
    graph: Graph, sweep: SweepSpec, cell: Cell, reported: Cell, base: Base, again: int
) -> _Yardsticks:
    def evaluated(title: str, weights: str) -> str:
        return evaluate(graph, sweep, cell, base, title, weights, again=again)

    pretrained = evaluated("pretrain", base.pretrained)
    retrained = evaluated("retrain", base.retrained)
    shared = {"retrained": retrained, "pretrained": pretrained}
    other = _paired_cell(sweep, cell)
    if other is not None:
        of_other = base_of(graph, sweep, other, sweep.requests_in(other))
        shared["paired"] = evaluated(f"retrain of s{other.seed} on", of_other.retrained)
        shared["paired_split"] = of_other.data["split"]
    more = dict.fromkeys(
        evaluated(row.name, _retrained(graph, cell, base, row))
        for row in sweep.rows[reported]
        if row.role is Role.RETRAIN_AGAIN
    )
    return _Yardsticks(
        evaluation=again,
        shared=shared,
        # The first that retrains again is what rows are compared with: it is attacked as they are.
        references=(retrained, *list(more)[1:]),
        again=tuple(more),
    )


@dataclass(frozen=True, kw_only=True)
class _Made:
    """Weights of a row.

    Attributes:
        prepared: Key of the preparation; None without one.
        weights: One for every request, or one for all.
        copies: Of the retrained model after the same, for the attack; may be none.
        is_unlearned: Whether a request made them.
    """

    prepared: str | None
    weights: tuple[str, ...]
    copies: tuple[str, ...] = ()
    is_unlearned: bool


def _make(
    graph: Graph,
    sweep: SweepSpec,
    cell: Cell,
    row: Row,
    base: Base,
    requests: Sequence[Request],
    tuned: str | None,
) -> _Made:
    if row.role is Role.PRETRAIN or row.role.is_retrained:
        # Trained once, whoever of the cell's people asks.
        own = base.pretrained
        if row.role.is_retrained:
            own = _retrained(graph, cell, base, row)
        return _Made(prepared=None, weights=(own,), is_unlearned=False)
    copies = list[str]()
    prepared, weights = _unlearn(graph, cell, row, base, requests, base.pretrained, tuned)
    if sweep.reference_copies and row.access is not Access.FULL:
        _, copies = _unlearn(graph, cell, row, base, requests, base.retrained, tuned, " on retrain")
    return _Made(prepared=prepared, weights=tuple(weights), copies=tuple(copies), is_unlearned=True)


def _measure(
    graph: Graph,
    sweep: SweepSpec,
    cell: Cell,
    row: Row,
    base: Base,
    requests: Sequence[Request],
    made: _Made,
    yardsticks: _Yardsticks,
) -> tuple[tuple[str, ...], str]:
    """Keys of the predictions of a row's models, and of its score."""

    def evaluated(title: str, weights: Sequence[str]) -> tuple[str, ...]:
        if not made.is_unlearned:
            pairs = [("", base, weights[0])] if weights else []
        else:
            pairs = [
                (request.title, request.base, own)
                for request, own in zip(requests, weights, strict=True)
            ]
        return tuple(
            evaluate(graph, sweep, cell, of, f"{title}{asks}", own, again=yardsticks.evaluation)
            for asks, of, own in pairs
        )

    copies = evaluated(f"{row.name} on retrain", made.copies) if made.copies else ()
    predictions = evaluated(row.name, made.weights)
    key = _score(graph, sweep, cell, row, predictions, copies, yardsticks)
    return predictions, key


def evaluations(sweep: SweepSpec) -> int:
    """How often every model is evaluated."""
    return 1 if sweep.nested is None else sweep.nested.evaluation


def _score(
    graph: Graph,
    sweep: SweepSpec,
    cell: Cell,
    row: Row,
    predictions: Sequence[str],
    copies: Sequence[str],
    yardsticks: _Yardsticks,
) -> str:
    """The job that measures a row, of one model or of all requests' models together.

    Args:
        graph: Where to add it.
        sweep: Says which measures there are beside those that ship.
        cell: Of the row.
        row: What is measured.
        predictions: Of its models.
        copies: The same of copies of the retrained model, one for each of the row's models.
        yardsticks: What every score of the cell looks at.
    """
    again = yardsticks.evaluation
    label = f"score {row.name} {cell_name(cell)}{f' e{again}' if again else ''}"
    # A reference is not attacked with itself, and with fewer others it would be another attack.
    attackers = () if predictions[0] in yardsticks.references else yardsticks.references
    series = {"references": attackers, "copies": tuple(copies)}
    spec: dict[str, Any] = {"measures": sweep.measures} if sweep.measures else {}
    spec |= {"evaluation": again} if again else {}
    if len(predictions) == 1:
        return graph.add(
            "score", label, spec, series, predictions=predictions[0], **yardsticks.shared
        )
    series |= {"predictions": tuple(predictions)}
    return graph.add("score", label, spec, series, **yardsticks.shared)


def _retrained(graph: Graph, cell: Cell, base: Base, row: Row) -> str:
    reseed = row.hyperparameters["reseed"]
    return train(graph, cell, "retrain", base.recipe, base.for_training, reseed)


def _unlearn(
    graph: Graph,
    cell: Cell,
    row: Row,
    base: Base,
    requests: Sequence[Request],
    model: str,
    tuned: str | None,
    suffix: str = "",
) -> tuple[str | None, list[str]]:
    """Prepare and unlearn jobs; a one-shot row's unlearn has no way to the training data.

    Args:
        graph: Where to add them.
        cell: Of the row.
        row: The method.
        base: The cell's own jobs.
        requests: Of the cell; each is unlearned by itself, from one preparation.
        model: Key of the weights that are to forget: the pretrained ones, or of a copy that the
            attack takes as reference the retrained ones.
        tuned: Key of the choice that gives the hyperparameters of the row's search space.
        suffix: For the label.
    """
    prepared = prepare(graph, cell, row, base, model, suffix)
    weights = []
    for request in requests:
        inputs = {"pretrained": model, "split": request.base.data["split"]}
        if row.access is Access.FULL:
            inputs |= request.base.for_training
        if prepared is not None:
            inputs["prepared"] = prepared
        if tuned is not None:
            inputs["tuned"] = tuned
        label = f"unlearn {row.name}{request.title} {cell_name(cell)}{suffix}"
        made = unlearn(graph, cell, row, base, label, request.unlearning_seed, inputs)
        weights.append(made)
    return prepared, weights
