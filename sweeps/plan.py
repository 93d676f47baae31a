"""From a sweep to its graph of jobs.

Pure: no torch, no Ray, no MLflow, no Hydra, no input or output.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from oneshui.data.synthetic import RECIPE_VERSION
from oneshui.spec import Access
from sweeps.jobs import STAGES, Job, Stage
from sweeps.spec import Cell, DatasetSpec, Row, SweepSpec


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
    """

    cell: Cell
    row: Row
    model_key: str
    prepare_key: str | None
    evaluate_key: str
    score_key: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The graph of a sweep.

    Attributes:
        sweep: What it was made from.
        jobs: By key; every job comes after its inputs.
        results: One per row of the results table.
    """

    sweep: SweepSpec
    jobs: Mapping[str, Job]
    results: tuple[ResultRow, ...]

    def counts(self) -> dict[Stage, int]:
        """Number of jobs by stage, stages without jobs left out."""
        found = Counter(job.stage for job in self.jobs.values())
        return {stage: found[stage] for stage in STAGES if found[stage]}


@dataclass
class _Graph:
    jobs: dict[str, Job] = field(default_factory=dict)

    def add(self, stage: Stage, label: str, spec: Mapping[str, Any], **inputs: str) -> str:
        job = Job(stage=stage, spec=spec, inputs=inputs, label=label)
        known = self.jobs.setdefault(job.key, job)
        if known != job:
            raise AssertionError(f"{known.label} and {job.label} share the key {job.key}")
        return job.key


def expand(sweep: SweepSpec) -> Plan:
    """The jobs of a sweep, shared wherever two rows need the same thing.

    Raises:
        AssertionError: Two unequal jobs have the same key.
    """
    graph = _Graph()
    results: list[ResultRow] = []
    for cell in sweep.cells:
        results += _cell(graph, sweep, cell)
    return Plan(sweep=sweep, jobs=graph.jobs, results=tuple(results))


def index_job(dataset: DatasetSpec) -> Job:
    """The job that reads a dataset's annotations; it needs no other."""
    if dataset.generate is None:
        origin: dict[str, Any] = {"dataset": dataset.name}
    else:
        origin = {"generate": dataclasses.asdict(dataset.generate), "recipe": RECIPE_VERSION}
    return Job(
        stage="index",
        spec={"layout": dataset.layout, **origin},
        inputs={},
        label=f"index {dataset.name}",
    )


@dataclass(frozen=True, kw_only=True)
class _Base:
    """What all rows of a cell share.

    Attributes:
        data: Keys of the index, cache and split jobs, by role.
        recipe: Of the network and its training.
        pretrained: Key of the pretrained weights.
        retrained: Key of the retrained weights.
    """

    data: Mapping[str, str]
    recipe: Mapping[str, Any]
    pretrained: str
    retrained: str


def _base(graph: _Graph, sweep: SweepSpec, cell: Cell) -> _Base:
    reading = index_job(sweep.datasets[cell.dataset])
    index = graph.jobs.setdefault(reading.key, reading).key
    pictures = {"size": sweep.model.image_size, "variant": sweep.preprocessing}
    cache = graph.add("cache", f"cache {cell.dataset}", pictures, index=index)
    split = graph.add(
        "split",
        f"split {_name(cell)}",
        {
            "num_forget": cell.num_forget,
            "split_seed": cell.split_seed,
            "support_seed": cell.support_seed,
        },
        index=index,
        cache=cache,
    )
    data = {"index": index, "cache": cache, "split": split}
    training = dataclasses.asdict(sweep.training[cell.dataset])
    recipe = {"model": dataclasses.asdict(sweep.model), "training": training}
    pretrained, retrained = (
        _train(graph, cell, stage, recipe, data, 0) for stage in ("pretrain", "retrain")
    )
    return _Base(data=data, recipe=recipe, pretrained=pretrained, retrained=retrained)


def _name(cell: Cell) -> str:
    return f"{cell.dataset} n{cell.num_forget} s{cell.seed}"


def _train(
    graph: _Graph,
    cell: Cell,
    stage: Literal["pretrain", "retrain"],
    recipe: Mapping[str, Any],
    data: Mapping[str, str],
    reseed: int,
) -> str:
    again = f" again {reseed}" if reseed else ""
    spec = {**recipe, "training_seed": cell.training_seed, "reseed": reseed}
    return graph.add(stage, f"{stage} {_name(cell)}{again}", spec, **data)


def _paired_cell(sweep: SweepSpec, cell: Cell) -> Cell | None:
    """The first cell of the same request size with another split, if there is one.

    Its retrained model did not see all that this cell's did, so ``a`` can be tuned on the two.
    """
    for other in sweep.cells:
        same = (other.dataset, other.num_forget) == (cell.dataset, cell.num_forget)
        if same and other.split_seed != cell.split_seed:
            return other
    return None


def _cell(graph: _Graph, sweep: SweepSpec, cell: Cell) -> list[ResultRow]:
    name = _name(cell)
    base = _base(graph, sweep, cell)

    def evaluate(row: str, weights: str) -> str:
        spec = {
            "model": base.recipe["model"],
            "views": sweep.views,
            "features": weights == base.pretrained,
        }
        inputs = {"weights": weights, "retrained_weights": base.retrained, **base.data}
        return graph.add("evaluate", f"evaluate {row} {name}", spec, **inputs)

    pretrained = evaluate("pretrain", base.pretrained)
    retrained = evaluate("retrain", base.retrained)
    shared = {"retrained": retrained, "pretrained": pretrained}
    other = _paired_cell(sweep, cell)
    if other is not None:
        of_other = _base(graph, sweep, other)
        shared["paired"] = evaluate(f"retrain of s{other.seed} on", of_other.retrained)
        shared["paired_split"] = of_other.data["split"]
    again = [
        evaluate(row.name, _retrained(graph, cell, base, row))
        for row in sweep.rows[cell]
        if row.method == "retrain"
    ]
    references = list(dict.fromkeys([retrained, *again]))
    results = []
    for row in sweep.rows[cell]:
        prepare, copies = None, []
        if row.method == "pretrain":
            weights = base.pretrained
        elif row.method == "retrain":
            weights = _retrained(graph, cell, base, row)
        else:
            prepare, weights = _unlearn(graph, cell, row, base, base.pretrained)
            if sweep.reference_copies and row.access is not Access.FULL:
                _, copy = _unlearn(graph, cell, row, base, base.retrained, " on retrain")
                copies = [evaluate(f"{row.name} on retrain", copy)]
        predictions = evaluate(row.name, weights)
        attacked_with = [key for key in [*references, *copies] if key != predictions]
        scores = graph.add(
            "score",
            f"score {row.name} {name}",
            {},
            predictions=predictions,
            **shared,
            **{f"reference_{place}": key for place, key in enumerate(attacked_with)},
        )
        results.append(
            ResultRow(
                cell=cell,
                row=row,
                model_key=weights,
                prepare_key=prepare,
                evaluate_key=predictions,
                score_key=scores,
            )
        )
    return results


def _retrained(graph: _Graph, cell: Cell, base: _Base, row: Row) -> str:
    reseed = row.hyperparameters["reseed"]
    return _train(graph, cell, "retrain", base.recipe, base.data, reseed)


def _unlearn(
    graph: _Graph,
    cell: Cell,
    row: Row,
    base: _Base,
    model: str,
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
        suffix: For the label.
    """
    data, recipe, name = base.data, base.recipe, f"{_name(cell)}{suffix}"
    common = {
        "method": row.method,
        "model": recipe["model"],
        "unlearning_seed": cell.unlearning_seed,
    }
    inputs = {"pretrained": model, "split": data["split"]}
    if row.access is Access.FULL:
        inputs |= data
        common |= {"training": recipe["training"], "training_seed": cell.training_seed}
    prepare = None
    if row.prepare is not None:
        prepare = graph.add(
            "prepare",
            f"prepare {row.name} {name}",
            {**common, "hyperparameters": row.prepare, "num_forget": cell.num_forget},
            pretrained=model,
            **data,
        )
        inputs["prepared"] = prepare
    weights = graph.add(
        "unlearn",
        f"unlearn {row.name} {name}",
        {**common, "hyperparameters": dict(row.hyperparameters)},
        **inputs,
    )
    return prepare, weights


def dependants(jobs: Mapping[str, Job]) -> dict[str, list[str]]:
    """Keys of the jobs that need each job directly, in the order of the plan.

    Inputs that are not among the jobs are taken to be done.
    """
    needing: dict[str, list[str]] = {key: [] for key in jobs}
    for key, job in jobs.items():
        for needed in dict.fromkeys(job.inputs.values()):
            if needed in needing:
                needing[needed].append(key)
    return needing


def remaining_chain(
    jobs: Mapping[str, Job],
    seconds: Callable[[Job], float],
    needing: Mapping[str, list[str]] | None = None,
) -> dict[str, float]:
    """Seconds of the longest chain that begins with each job, the job itself included.

    Args:
        jobs: The graph; every job after its inputs.
        seconds: Of one job.
        needing: What ``dependants`` returned, if it is at hand.
    """
    needing = needing or dependants(jobs)
    chain: dict[str, float] = {}
    for key in reversed(list(jobs)):
        after = max((chain[next_] for next_ in needing[key]), default=0.0)
        chain[key] = seconds(jobs[key]) + after
    return chain
