"""The graph of jobs under construction, and the jobs that all rows of a cell share.

Pure: no torch, no Ray, no MLflow, no Hydra, no input or output.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from oneshui.seeding import derive_seed
from oneshui.spec import RECIPE_VERSION, Access, images_needed
from sweeps.graph.job import STAGE_VERSION, Job, Stage
from sweeps.graph.spec import Cell, DatasetSpec, Row, SweepSpec


@dataclass
class Graph:
    """Jobs by key, every job after its inputs.

    Attributes:
        versions: What the stages of the jobs mean.
        jobs: By key.
        memorisation: Key of the job that says how well models know each person, by dataset; where
            there is a pool.
        reserved: Keys of the splits whose forgotten people no study may forget, by dataset; as
            soon as there is a study.
    """

    versions: Mapping[Stage, int] = field(default_factory=lambda: STAGE_VERSION)
    jobs: dict[str, Job] = field(default_factory=dict)
    memorisation: dict[str, str] = field(default_factory=dict)
    reserved: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add(
        self,
        stage: Stage,
        label: str,
        spec: Mapping[str, Any],
        series: Mapping[str, tuple[str, ...]] | None = None,
        /,
        **inputs: str,
    ) -> str:
        """Add a job, if it is not there already; its key.

        Args:
            stage: Kind of job.
            label: For people.
            spec: What to do.
            series: Keys of the jobs behind the roles that several play.
            inputs: Key of the job behind each other role.

        Raises:
            AssertionError: An unequal job has the same key.
        """
        job = Job(
            stage=stage,
            spec=spec,
            inputs=inputs,
            series=series or {},
            version=self.versions[stage],
            label=label,
        )
        known = self.jobs.setdefault(job.key, job)
        if known != job:
            raise AssertionError(f"{known.label} and {job.label} share the key {job.key}")
        return job.key


def index_job(dataset: DatasetSpec, versions: Mapping[Stage, int] = STAGE_VERSION) -> Job:
    """The job that reads a dataset's annotations; it needs no other.

    Args:
        dataset: Which.
        versions: What the stages mean; today's unless the sweep is an older one.
    """
    if dataset.generate is None:
        # What a package brings is the same under every name.
        origin: dict[str, Any] = {"dataset": dataset.layout if dataset.installed else dataset.name}
    else:
        origin = {"generate": dataclasses.asdict(dataset.generate), "recipe": RECIPE_VERSION}
    loader = {"loader": dataset.loader} if dataset.loader else {}
    return Job(
        stage="index",
        spec={"layout": dataset.layout, **origin, **loader},
        inputs={},
        version=versions["index"],
        label=f"index {dataset.name}",
    )


def pictures_of(sweep: SweepSpec) -> dict[str, str]:
    """What stands for the pictures of every dataset, by name: the same where they are the same."""
    return {name: index_job(one, sweep.versions).key for name, one in sweep.datasets.items()}


def model_document(sweep: SweepSpec) -> dict[str, Any]:
    """The network as a job's identity has it, with the hash of its code if that is the user's."""
    source = {"source": sweep.model_source} if sweep.model_source else {}
    return sweep.model.to_json() | source


def weights_job(sweep: SweepSpec) -> Job | None:
    """The job that brings the starting weights into the store; None if they are random.

    A file enters by its content, wherever it lies and whatever package brings it.
    """
    model = sweep.model
    if model.weights == "random":
        return None
    content = {"content": sweep.weights_content} if sweep.weights_content else {}
    what = model_document(sweep) | {"weights": "file" if model.weights_file else model.weights}
    # Nothing is computed of them.
    what.pop("precision", None)
    return Job(
        stage="weights",
        spec={"model": what, **content},
        inputs={},
        version=sweep.versions["weights"],
        label=f"{what['weights']} weights of {model.title}",
    )


@dataclass(frozen=True, kw_only=True)
class Base:
    """What all rows of a cell share.

    Attributes:
        data: Keys of the index, cache and split jobs, by role.
        crops: Key of the cache that random crops are cut from, by role; empty if it is the other.
        weights: Key of the starting weights, by role; empty if they are random.
        recipe: Of the network and its training.
        pretrained: Key of the pretrained weights.
        retrained: Key of the retrained weights.
    """

    data: Mapping[str, str]
    crops: Mapping[str, str]
    weights: Mapping[str, str]
    recipe: Mapping[str, Any]
    pretrained: str
    retrained: str

    @property
    def for_training(self) -> dict[str, str]:
        """The data for jobs that may train: others need no larger pictures or starting weights."""
        return {**self.data, **self.crops, **self.weights}


def data_of(
    graph: Graph,
    sweep: SweepSpec,
    cell: Cell,
    requests: int = 1,
    reserved: Sequence[str] = (),
) -> tuple[dict[str, str], dict[str, str]]:
    """Keys of a cell's index, cache and split, and of the pictures that random crops are cut from.

    Args:
        graph: Where to add the jobs.
        sweep: Says what the data are.
        cell: Whose data.
        requests: How many requests of the cell's size the split is drawn for: the retrained model
            sees nobody of any of them.
        reserved: Keys of reported cells' splits, whose forgotten people this one does not forget.
    """
    reading = index_job(sweep.datasets[cell.dataset], sweep.versions)
    index = graph.jobs.setdefault(reading.key, reading).key
    size, crop_size = sweep.model.image_size, sweep.datasets[cell.dataset].crop_size
    pictures = {"size": size, "variant": sweep.preprocessing}
    data, crops = {"index": index}, dict[str, str]()
    data["cache"] = graph.add("cache", f"cache {cell.dataset}", pictures, index=index)
    if crop_size not in (None, size):
        # The reference's training pictures are resized with antialiasing too
        # (docs/benchmark.md, D5).
        larger = {"size": crop_size, "variant": "corrected"}
        title = f"cache {cell.dataset} at {crop_size} px"
        crops["crops"] = graph.add("cache", title, larger, index=index)
    several = f" of {requests} requests" if requests > 1 else ""
    needed, together = images_needed(cell.num_forget), requests * cell.num_forget
    chosen: dict[str, str] = {}
    if cell.choose != "random":
        chosen["memorisation"] = graph.memorisation[cell.dataset]
    data["split"] = graph.add(
        "split",
        f"split {cell_name(cell)}{several}",
        {
            "num_forget": together,
            "split_seed": cell.split_seed,
            "support_seed": cell.support_seed,
            "walk": sweep.datasets[cell.dataset].split_walk,
            # What the number of people does not tell by itself.
            **({"min_images": needed} if needed != images_needed(together) else {}),
            **({"choose": cell.choose} if chosen else {}),
        },
        {"reported": tuple(reserved)} if reserved else {},
        index=index,
        cache=data["cache"],
        **chosen,
    )
    return data, crops


def ground_of(
    graph: Graph, sweep: SweepSpec, dataset: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """How the network is trained on a dataset, and key of its starting weights, if any, by role."""
    model, weights = model_document(sweep), dict[str, str]()
    starting = weights_job(sweep)
    if starting is not None:
        model = {**model, "weights": starting.spec["model"]["weights"]}
        weights["weights"] = graph.jobs.setdefault(starting.key, starting).key
    return {"model": model, "training": sweep.training[dataset].to_json()}, weights


def base_of(
    graph: Graph,
    sweep: SweepSpec,
    cell: Cell,
    requests: int = 1,
    reserved: Sequence[str] = (),
) -> Base:
    """The cell's data, pretrained and retrained weights; the arguments are ``data_of``'s."""
    data, crops = data_of(graph, sweep, cell, requests, reserved)
    recipe, weights = ground_of(graph, sweep, cell.dataset)
    if sweep.pretrained is None:
        pretrained = train(graph, cell, "pretrain", recipe, {**data, **crops, **weights}, 0)
    else:
        content = sweep.pretrained.contents[sweep.pretrained.file(cell)]
        spec = {
            "model": {**recipe["model"], "weights": "file"},
            "content": content,
            "is_pretrained": True,
        }
        title = f"pretrained model for {cell.dataset} from a file"
        pretrained = graph.add("weights", title, spec, index=data["index"])
    retrained = train(graph, cell, "retrain", recipe, {**data, **crops, **weights}, 0)
    return Base(
        data=data,
        crops=crops,
        weights=weights,
        recipe=recipe,
        pretrained=pretrained,
        retrained=retrained,
    )


@dataclass(frozen=True, kw_only=True)
class Request:
    """One of the requests that a cell stands for.

    Attributes:
        base: The cell's own jobs, with the request's split in place of the cell's.
        unlearning_seed: Of this request.
        title: For labels, after the row's name; empty if the cell has no other request.
    """

    base: Base
    unlearning_seed: int
    title: str


def requests_of(graph: Graph, cell: Cell, base: Base, requests: int) -> tuple[Request, ...]:
    """The requests of a cell, which share all that does not depend on who asks.

    Args:
        graph: Where to add their splits.
        cell: Dataset, forget size and seed.
        base: Drawn for so many requests.
        requests: How many.
    """
    if requests == 1:
        return (Request(base=base, unlearning_seed=cell.unlearning_seed, title=""),)
    found = []
    for number in range(requests):
        title = f" request {number} of"
        spec = {"request": number, "num_forget": cell.num_forget, "split_seed": cell.split_seed}
        split = graph.add(
            "split",
            f"split{title} {cell_name(cell)}",
            spec,
            index=base.data["index"],
            cache=base.data["cache"],
            drawn=base.data["split"],
        )
        found.append(
            Request(
                base=dataclasses.replace(base, data={**base.data, "split": split}),
                unlearning_seed=derive_seed(cell.unlearning_seed, "request", number),
                title=title,
            )
        )
    return tuple(found)


def cell_name(cell: Cell) -> str:
    """The cell as labels name it."""
    return cell.title


def train(
    graph: Graph,
    cell: Cell,
    stage: Literal["pretrain", "retrain"],
    recipe: Mapping[str, Any],
    data: Mapping[str, str],
    reseed: int,
) -> str:
    """Pretraining or retraining of a cell; ``reseed`` other than 0 for another random run."""
    again = f" again {reseed}" if reseed else ""
    spec = {**recipe, "training_seed": cell.training_seed, "reseed": reseed}
    return graph.add(stage, f"{stage} {cell_name(cell)}{again}", spec, **data)


def evaluate(
    graph: Graph,
    sweep: SweepSpec,
    cell: Cell,
    base: Base,
    title: str,
    weights: str,
    *,
    with_views: bool = True,
    again: int = 0,
) -> str:
    """Predictions of a model on every set of the cell; views are for the relative attack alone.

    ``again`` other than 0 draws other views.
    """
    spec = {
        "model": base.recipe["model"],
        "views": sweep.views if with_views else 0,
        "features": weights == base.pretrained,
        **({"evaluation": again} if again else {}),
    }
    inputs = {"weights": weights, "retrained_weights": base.retrained, **base.data}
    label = f"evaluate {title} {cell_name(cell)}{f' e{again}' if again else ''}"
    return graph.add("evaluate", label, spec, **inputs)


def method_spec(cell: Cell, row: Row, base: Base) -> dict[str, Any]:
    """What every job of a row's method is told."""
    common: dict[str, Any] = {
        "method": row.method,
        "source": row.source,
        "model": base.recipe["model"],
        "unlearning_seed": cell.unlearning_seed,
    }
    if row.access is Access.FULL:
        common |= {
            "training": base.recipe["training"],
            "training_seed": cell.training_seed,
        }
    return common


def unlearn(
    graph: Graph,
    cell: Cell,
    row: Row,
    base: Base,
    label: str,
    seed: int,
    inputs: Mapping[str, str],
) -> str:
    """One request to a model; what a row may see of the training data is among the inputs.

    Args:
        graph: Where to add it.
        cell: Of the request.
        row: The method.
        base: The cell's own jobs.
        label: For people.
        seed: Of this request.
        inputs: Keys of the model, the request's split, the preparation and the choice, by role.
    """
    spec = {**method_spec(cell, row, base), "unlearning_seed": seed, "hyperparameters": row.fixed}
    return graph.add("unlearn", label, spec, **inputs)


def prepare(
    graph: Graph, cell: Cell, row: Row, base: Base, model: str, suffix: str = ""
) -> str | None:
    """What the row's method computes from the training data; None if that is nothing."""
    if row.prepare is None:
        return None
    spec = {
        **method_spec(cell, row, base),
        "hyperparameters": row.prepare,
        "num_forget": cell.num_forget,
    }
    # Rows that a study tells apart share what does not depend on the study.
    label = f"prepare {row.study} {cell_name(cell)}{suffix}"
    return graph.add("prepare", label, spec, pretrained=model, **base.data)


def dependants(jobs: Mapping[str, Job]) -> dict[str, list[str]]:
    """Keys of the jobs that need each job directly, in the order of the plan.

    Inputs that are not among the jobs are taken to be done.
    """
    needing: dict[str, list[str]] = {key: [] for key in jobs}
    for key, job in jobs.items():
        for needed in job.needs:
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
