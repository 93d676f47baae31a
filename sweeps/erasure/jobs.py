"""The jobs behind a kit: those of a sweep's studies, in a store of their own, one after the other.

What a sweep draws or trains is given here: who was trained on, and the weights.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from oneshui.data.cache import Variant
from oneshui.data.contents import fingerprint
from oneshui.data.splits import Split
from oneshui.data.table import ImageTable
from oneshui.erasure.kit import IMPORTANCES as KIT_IMPORTANCES
from oneshui.erasure.kit import (
    Kit,
    KitMethod,
    with_nothing,
)
from oneshui.erasure.weights import (
    Described,
    Weights,
)
from oneshui.origin import origin_of
from oneshui.spec import ModelSpec
from sweeps.graph.artifacts import IMPORTANCES, PREPARED, WEIGHTS
from sweeps.graph.cells import Base, Graph, method_spec, prepare
from sweeps.graph.job import Job
from sweeps.graph.spec import Cell, Row, TuningSpec
from sweeps.graph.studies import NOTHING, add_trials
from sweeps.stages.context import WorkerEnvironment, write_split
from sweeps.stages.data import contents_of
from sweeps.stages.run import run
from sweeps.store import DamagedEntryError, Entry, LocalStore
from sweeps.store.status import what_counts


@dataclass(frozen=True, kw_only=True)
class PrepareSpec:
    """What a kit is to be made of.

    Attributes:
        model: The network, with random weights.
        weights: File of its trained weights.
        data: The table of the training data.
        methods: Names of rows, in their order.
        rows: What is said of them, as ``sweep.rows`` does.
        out: The kit's folder, which must not be there yet.
        num_forget: People in a request to prepare for.
        seed: Of everything random.
        tuning: How each method's study is done.
        variant: How pictures are resized.
        device: Torch device.
        threads: Of torch.
    """

    model: ModelSpec
    weights: Path
    data: Path
    methods: tuple[str, ...]
    rows: Mapping[str, Any]
    out: Path
    num_forget: int
    seed: int
    tuning: TuningSpec
    variant: Variant
    device: str
    threads: int

    @property
    def unfinished(self) -> Path:
        """Where the jobs' results are until the kit is whole."""
        return self.out.with_name(f"{self.out.name}.unfinished")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far it is.

    Attributes:
        label: Of the job that begins.
        done: Jobs that are done.
        total: Jobs in all.
        seconds_left: Guessed by those that have run; None before any has.
    """

    label: str
    done: int
    total: int
    seconds_left: float | None


def cell_of(spec: PrepareSpec) -> Cell:
    """The cell of a sweep that the kit stands for."""
    return Cell(dataset="data", num_forget=spec.num_forget, seed=spec.seed)


class KitJobs:
    """The jobs behind a kit, and their results."""

    def __init__(
        self,
        spec: PrepareSpec,
        table: ImageTable,
        split: Split,
        described: Described,
        weights: Weights,
        rows: Sequence[Row],
    ) -> None:
        self._spec, self._table, self._split = spec, table, split
        self._described, self._weights, self._rows = described, weights, rows
        self._store = LocalStore(spec.unfinished / "store")
        self._contents = fingerprint(table, contents_of(table, self._store))
        self._graph, self._cell = Graph(), cell_of(spec)
        self._of: dict[str, tuple[str | None, tuple[str, ...]]] = {}
        self._add()

    def _add(self) -> None:
        spec, graph = self._spec, self._graph
        recipe = {"model": spec.model.to_json()}
        index = graph.add("index", "read the table", {"layout": "table", "data": self._contents})
        pictures = {"size": spec.model.image_size, "variant": spec.variant}
        cache = graph.add("cache", "decode the pictures", pictures, index=index)
        sets = {name: list(getattr(self._split, name)) for name in ("train", "val")}
        split = graph.add("split", "who is in which set", sets, index=index, cache=cache)
        given = {**recipe, "given": self._weights.tensors, "code": self._described.source}
        pretrained = graph.add("pretrain", "the weights", given)
        self._first = {"index": index, "cache": cache, "split": split, "pretrained": pretrained}
        data = {"index": index, "cache": cache, "split": split}
        self._simulated = graph.add(
            "simulate",
            "simulate requests",
            {
                **recipe,
                "requests": spec.tuning.requests,
                "unlearning_seed": spec.seed,
                "num_forget": spec.num_forget,
            },
            pretrained=pretrained,
            **data,
        )
        base = Base(
            data=data, crops={}, weights={}, recipe=recipe, pretrained=pretrained, retrained=""
        )
        for row in self._rows:
            prepared = prepare(graph, self._cell, row, base, pretrained)
            common = {
                **method_spec(self._cell, row, base),
                "hyperparameters": row.fixed,
                "access": str(row.access),
            }
            after = {"pretrained": pretrained, "split": split, "simulated": self._simulated}
            after |= {} if prepared is None else {"prepared": prepared}
            trials = add_trials(
                graph,
                self._tuning(row),
                row,
                common,
                row.name,
                {role: (key,) for role, key in after.items()},
                {"index": index, "cache": cache},
            )
            self._of[row.name] = (prepared, trials)

    def _tuning(self, row: Row) -> TuningSpec:
        """Where nothing varies there are the defaults, and doing nothing where that is known."""
        if row.space:
            return self._spec.tuning
        return dataclasses.replace(self._spec.tuning, trials=1 if row.nothing is None else 2)

    def run_all(self, say: Callable[[str], None], progress: Callable[[Progress], None]) -> KitJobs:
        """Run what is not done yet."""
        table, logs = self._table, self._spec.unfinished / "logs"
        env = WorkerEnvironment(
            store=self._store,
            data_folders={self._first["index"]: self._spec.data.absolute()},
            logs=logs,
            device=self._spec.device,
            threads=self._spec.threads,
        )
        # What reads pictures by their names needs the table; from methods its folder is kept.
        walled = dataclasses.replace(
            env, data_folders={self._first["index"]: table.root.absolute()}
        )
        waiting = [job for job in self._graph.jobs.values() if not self._is_done(job)]
        total, seconds = len(self._graph.jobs), dict[str, list[float]]()
        for place, job in enumerate(waiting):
            left = _left(waiting[place:], seconds)
            progress(
                Progress(
                    label=job.label,
                    done=total - len(waiting) + place,
                    total=total,
                    seconds_left=left,
                )
            )
            start = time.monotonic()
            self._run(job, env if job.stage in ("index", "cache") else walled)
            seconds.setdefault(_kind(job), []).append(time.monotonic() - start)
            if job.key == self._simulated:
                say(self._how_good())
        return self

    def _is_done(self, job: Job) -> bool:
        try:
            return self._store.find(job.stage, job.key) is not None
        except DamagedEntryError:
            self._store.discard(job.stage, job.key)
            return False

    def _run(self, job: Job, env: WorkerEnvironment) -> None:
        match job.stage:
            case "split":
                self._publish(job, self._split_value(), partial(write_split, self._split))
            case "pretrain":
                self._publish(job, {}, lambda it: shutil.copyfile(self._weights.path, it / WEIGHTS))
            case _:
                run(job, self._graph.jobs, env)

    def _publish(self, job: Job, value: Mapping[str, Any], write: Callable[[Path], object]) -> None:
        """Put something given into the store, as if a job had made it."""
        contents = {name: what_counts(job, self._entry(key)) for name, key in job.needed.items()}
        with self._store.work(job) as work:
            write(work.folder)
            made = origin_of(self._spec.device, self._spec.model.precision)
            work.publish(value, contents, {}, made)

    def _entry(self, key: str) -> Entry:
        job = self._graph.jobs[key]
        found = self._store.find(job.stage, key)
        if found is None:
            raise DamagedEntryError(job.stage, key, "it has disappeared")
        return found

    def _split_value(self) -> dict[str, Any]:
        return {"task": self._described.task, "num_outputs": len(self._described.outputs)}

    def _how_good(self) -> str:
        """What the model scores on people whom it never saw: whoever mixed up its outputs sees."""
        value = self._entry(self._simulated).value
        what = "accuracy" if self._described.task == "multiclass" else "mAP"
        score = value["val_score"]
        told = "not defined" if score is None else f"{score:.3f}"
        return (
            f"the model's {what} on people whom it never saw is {told}; if that is not what you "
            "know, its outputs are in another order, or pictures are made ready in another way"
        )

    def kit(self, held_out: str) -> tuple[Kit, dict[str, Mapping[str, Any]]]:
        """The kit, and the tensors of each of its files."""
        from safetensors.torch import load_file

        simulated = self._entry(self._simulated)
        files: dict[str, Mapping[str, Any]] = {
            KIT_IMPORTANCES: load_file(simulated.file(IMPORTANCES))
        }
        kept, made = [], dict[str, str]()
        for row in self._rows:
            prepared, trials = self._of[row.name]
            if prepared is not None and prepared not in made:
                made[prepared] = f"prepared-{len(made)}.safetensors"
                files[made[prepared]] = load_file(self._entry(prepared).file(PREPARED))
            idle = NOTHING if row.nothing is not None and len(trials) > NOTHING else None
            values, nothing = with_nothing(
                [self._entry(key).value for key in trials], simulated.value, idle
            )
            kept.append(
                KitMethod(
                    name=row.name,
                    method=row.method,
                    source=row.source,
                    fixed=row.fixed,
                    trials=values,
                    nothing=nothing,
                    prepared=None if prepared is None else made[prepared],
                )
            )
        spec, tuning = self._spec, self._spec.tuning
        train, val = self._split.images("train"), self._split.images("val")
        kit = Kit(
            described=self._described,
            weights=self._weights.tensors,
            weights_sha256=self._weights.sha256,
            data={
                "fingerprint": self._contents,
                "pictures": {"train": len(train), "val": len(val)},
                "people": {"train": len(self._split.train), "val": len(self._split.val)},
                "held_out": held_out,
            },
            num_forget=spec.num_forget,
            seed=spec.seed,
            tuning={
                "trials": tuning.trials,
                "batch": tuning.batch,
                "sampler": tuning.sampler,
                "requests": len(simulated.value["before"]),
                "carried": tuning.carried,
            },
            simulated=dict(simulated.value),
            methods=tuple(kept),
            versions=origin_of(spec.device, spec.model.precision),
        )
        return kit, files


def _kind(job: Job) -> str:
    """Jobs of a kind take about as long as each other."""
    return f"{job.stage} {job.spec.get('method', '')}"


def _left(waiting: Sequence[Job], seconds: Mapping[str, Sequence[float]]) -> float | None:
    """Seconds that jobs will take: as others of their kind did, or else as the mean trial."""
    known = {kind: sum(each) / len(each) for kind, each in seconds.items()}
    trials = [mean for kind, mean in known.items() if kind.startswith("trial")]
    if not trials:
        return None
    usual = sum(trials) / len(trials)
    return sum(known.get(_kind(job), usual) for job in waiting)
