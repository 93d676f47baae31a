"""From a sweep to its graph of jobs.

Pure: no torch, no Ray, no MLflow, no Hydra, no input or output.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from oneshui.data.synthetic import RECIPE_VERSION
from oneshui.spec import Access
from sweeps.jobs import STAGE_SECONDS, STAGES, Job, Stage
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


def _cell(graph: _Graph, sweep: SweepSpec, cell: Cell) -> list[ResultRow]:
    name = f"{cell.dataset} n{cell.num_forget} s{cell.seed}"
    model = dataclasses.asdict(sweep.model)
    reading = index_job(sweep.datasets[cell.dataset])
    index = graph.jobs.setdefault(reading.key, reading).key
    pictures = {"size": sweep.model.image_size, "variant": sweep.preprocessing}
    cache = graph.add("cache", f"cache {cell.dataset}", pictures, index=index)
    split = graph.add(
        "split",
        f"split {name}",
        {
            "num_forget": cell.num_forget,
            "split_seed": cell.split_seed,
            "support_seed": cell.support_seed,
        },
        index=index,
        cache=cache,
    )
    data = {"index": index, "cache": cache, "split": split}
    recipe = {"model": model, "training": dataclasses.asdict(sweep.training[cell.dataset])}

    def train(stage: Stage, reseed: int) -> str:
        again = f" again {reseed}" if reseed else ""
        spec = {**recipe, "training_seed": cell.training_seed, "reseed": reseed}
        return graph.add(stage, f"{stage} {name}{again}", spec, **data)

    def evaluate(row: str, weights: str) -> str:
        return graph.add(
            "evaluate", f"evaluate {row} {name}", {"model": model}, weights=weights, **data
        )

    pretrained = train("pretrain", 0)
    retrained = evaluate("retrain", train("retrain", 0))
    results = []
    for row in sweep.rows[cell]:
        prepare = None
        if row.method == "pretrain":
            weights = pretrained
        elif row.method == "retrain":
            weights = train("retrain", row.hyperparameters["reseed"])
        else:
            prepare, weights = _unlearn(graph, cell, row, recipe, name, pretrained, data)
        predictions = evaluate(row.name, weights)
        scores = graph.add(
            "score", f"score {row.name} {name}", {}, predictions=predictions, retrained=retrained
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


def _unlearn(
    graph: _Graph,
    cell: Cell,
    row: Row,
    recipe: Mapping[str, Any],
    name: str,
    pretrained: str,
    data: Mapping[str, str],
) -> tuple[str | None, str]:
    """Prepare and unlearn jobs; a one-shot row's unlearn has no way to the training data."""
    common = {
        "method": row.method,
        "model": recipe["model"],
        "unlearning_seed": cell.unlearning_seed,
    }
    inputs = {"pretrained": pretrained, "split": data["split"]}
    if row.access is Access.FULL:
        inputs |= data
        common |= {"training": recipe["training"], "training_seed": cell.training_seed}
    prepare = None
    if row.prepare is not None:
        prepare = graph.add(
            "prepare",
            f"prepare {row.name} {name}",
            {**common, "hyperparameters": row.prepare, "num_forget": cell.num_forget},
            pretrained=pretrained,
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
    """Keys of the jobs that need each job directly, in the order of the plan."""
    needing: dict[str, list[str]] = {key: [] for key in jobs}
    for key, job in jobs.items():
        for needed in dict.fromkeys(job.inputs.values()):
            needing[needed].append(key)
    return needing


def remaining_chain(
    jobs: Mapping[str, Job], seconds: Callable[[Job], float] | None = None
) -> dict[str, float]:
    """Seconds of the longest chain that begins with each job, the job itself included."""
    cost = seconds or (lambda job: STAGE_SECONDS[job.stage])
    needing = dependants(jobs)
    chain: dict[str, float] = {}
    for key in reversed(list(jobs)):
        chain[key] = cost(jobs[key]) + max((chain[next_] for next_ in needing[key]), default=0.0)
    return chain
