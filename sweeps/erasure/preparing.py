"""Before deletion: the jobs of a study for each method, on a user's own model and data.

The jobs are those of a sweep, run by the same stages in a store beside the kit, so that a crash
loses no finished trial. The store, which holds the decoded pictures, goes when the kit is there.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import Timeout

from oneshui import methods
from oneshui.data.cache import Variant
from oneshui.data.contents import fingerprint
from oneshui.data.loaders.own_table import load_table, read_sets
from oneshui.data.splits import Split, most_requests
from oneshui.data.table import ImageTable
from oneshui.erasure.kit import (
    DOCUMENT,
    Kit,
    KitMethod,
    StoredKit,
    read_kit,
    with_nothing,
    write_kit,
)
from oneshui.erasure.kit import IMPORTANCES as KIT_IMPORTANCES
from oneshui.erasure.weights import Described, Weights, count_outputs, read_weights, require_fit
from oneshui.errors import InputError
from oneshui.origin import origin_of
from oneshui.seeding import derive_seed, python_random
from oneshui.spec import Access, ModelSpec, Role
from sweeps.graph.artifacts import IMPORTANCES, PREPARED, SPLIT, WEIGHTS
from sweeps.graph.cells import Base, Graph, method_spec, prepare
from sweeps.graph.job import Job
from sweeps.graph.spec import Cell, Row, TuningSpec
from sweeps.graph.studies import NOTHING, add_trials
from sweeps.rows import RELATIVE, RowSpec, rows_of
from sweeps.stages.context import WorkerEnvironment
from sweeps.stages.data import contents_of
from sweeps.stages.run import run
from sweeps.store import DamagedEntryError, Entry, LocalStore
from sweeps.store.private import lock_of, make_private
from sweeps.store.status import what_counts

VAL_SHARE = 0.2
"""Of the pictures, held out by people where the table does not say who was."""


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


def make_kit(
    spec: PrepareSpec, say: Callable[[str], None], progress: Callable[[Progress], None]
) -> StoredKit:
    """Make a kit; what an interrupted call has done is not done again.

    Args:
        spec: What of.
        say: Told, in a sentence each, what was decided and found.
        progress: Called when a job begins.

    Raises:
        InputError: Something given cannot be used, or the kit is there already.
        OneshuiError: A method failed.
    """
    if spec.out.exists():
        if (spec.out / DOCUMENT).is_file():
            # The kit is whole: what an end just after left behind holds pictures.
            shutil.rmtree(spec.unfinished, ignore_errors=True)
        raise InputError(f"{spec.out} is there already, and nothing is overwritten: set out anew")
    rows = kit_rows(spec)
    table = load_table(spec.data)
    split, held_out = divided(table, read_sets(spec.data), spec.seed)
    say(held_out)
    weights = read_weights(spec.weights)
    described = _described(spec, table, weights)
    check_methods(described, weights, rows)
    most = most_requests(len(split.train), spec.num_forget)
    if most < spec.tuning.requests:
        say(
            f"{len(split.train)} training people make {most} simulated requests of "
            f"{spec.num_forget}, not {spec.tuning.requests}: expected effects have a wider spread"
        )
    try:
        make_private(spec.unfinished)
        lock = lock_of(spec.unfinished / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another prepare is at work on {spec.out}; wait for it") from None
    with lock:
        made = _Jobs(spec, table, split, described, weights, rows).run_all(say, progress)
        kit, files = made.kit(held_out)
        write_kit(kit, spec.out, files)
    shutil.rmtree(spec.unfinished)
    return read_kit(spec.out)


def kit_rows(spec: PrepareSpec) -> tuple[Row, ...]:
    """The rows of the kit's methods, to be tuned in their relative spaces where they have one.

    Raises:
        InputError: A method or a value is unknown, or the method needs what will be deleted.
    """
    said = {name: dict(row or {}) for name, row in spec.rows.items()}
    for name in spec.methods:
        method = said.get(name, {}).get("method", name)
        if method in methods.names() and methods.relative_space_of(methods.get(method)):
            said.setdefault(name, {}).setdefault("space", RELATIVE)
    found = rows_of(
        RowSpec(methods=spec.methods, rows=said, objectives=("support_only",)), _cell(spec)
    )
    for row in found:
        require_usable(row.method, row.access, row.role)
    return found


def require_usable(method: str, access: Access, role: Role) -> None:
    """Refuse a method that does nothing, or that needs the training data when somebody asks.

    Raises:
        InputError: Naming the method.
    """
    if access is Access.FULL or role is not Role.METHOD:
        usable = ", ".join(
            name for name in methods.names() if methods.get(name).access is not Access.FULL
        )
        why = "does nothing" if role is Role.PRETRAIN else "needs the training data to unlearn"
        raise InputError(f"{method} {why}, so it cannot erase: choose among {usable}")


def _cell(spec: PrepareSpec) -> Cell:
    return Cell(dataset="data", num_forget=spec.num_forget, seed=spec.seed)


def divided(table: ImageTable, sets: tuple[str, ...] | None, seed: int) -> tuple[Split, str]:
    """Whom the model was trained on and whom it never saw, and how that is known, in words.

    Args:
        table: All pictures.
        sets: What the table says of each; None if nothing.
        seed: Of who is held out where it says nothing.

    Raises:
        InputError: Somebody is in both sets, or one of them is empty.
    """
    train: list[int]
    val: list[int]
    order = list(table.identity_order)
    if sets is not None:
        where = np.array(sets)
        of = {name: set(table.identity[where == name].tolist()) for name in ("train", "val")}
        both = sorted(of["train"] & of["val"])
        if both:
            raise InputError(
                f"{len(both)} people are in train and in val, identity {both[0]} for one: val says "
                "how the model does on people whom it never saw; give all rows of a person the "
                "same set, or leave the column set out and let people be held out"
            )
        train, val = ([i for i in order if i in of[name]] for name in ("train", "val"))
        words = f"the table says that the model never saw {len(val)} of its {len(order)} people"
    else:
        queue = list(order)
        python_random(derive_seed(seed, "held out")).shuffle(queue)
        wanted, taken = VAL_SHARE * len(table), 0
        while queue and taken < wanted:
            taken += int((table.identity == queue.pop()).sum())
        train = [identity for identity in order if identity in set(queue)]
        val = [identity for identity in order if identity not in set(queue)]
        words = (
            f"the table has no column set (train, val): {len(val)} of its {len(order)} people were "
            "held out by chance as people whom the model never saw; if it was trained on them, "
            "what is expected of the methods is wrong"
        )
    if not train or not val:
        raise InputError(
            "train and val need people each: give the table a column set with train and val, or "
            "more people"
        )
    split = Split(
        train=tuple(train),
        val=tuple(val),
        test=(),
        forget=(),
        retain=tuple(train),
        support=(),
        identity_of_image=table.identity,
    )
    return split, words


def _described(spec: PrepareSpec, table: ImageTable, weights: Weights) -> Described:
    """The model with its outputs.

    Raises:
        InputError: The table has labels for another number of outputs.
    """
    names, there = table.class_names, count_outputs(weights, spec.model)
    if table.task == "multiclass" and names == tuple(map(str, range(len(names)))):
        # The last classes may have no picture.
        names = (*names, *map(str, range(len(names), there)))
    if len(names) != there:
        raise InputError(
            f"{spec.data} has labels for {len(names)} outputs ({', '.join(names)}), but the model "
            f"in {spec.weights} has {there}: list those in the order of the model's outputs"
            + (", or give labels as numbers of outputs" if table.task == "multiclass" else "")
        )
    return Described(model=spec.model, task=table.task, outputs=names, variant=spec.variant)


def check_methods(described: Described, weights: Weights, rows: Sequence[Row]) -> None:
    """Refuse weights that are not the network's, and methods that cannot work on it.

    Raises:
        InputError: With the reason.
    """
    from oneshui.training.models import make_model

    model = make_model(described.model, len(described.outputs), 0)
    require_fit(weights, model)
    for row in rows:
        method = methods.build(row.method, row.hyperparameters)
        if isinstance(method, methods.CheckedMethod):
            try:
                method.check(model, described.task)
            except InputError as error:
                raise InputError(f"{row.name} cannot be used on this model: {error}") from None


class _Jobs:
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
        self._graph, self._cell = Graph(), _cell(spec)
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
        given = {**recipe, "given": self._weights.tensors}
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

    def run_all(self, say: Callable[[str], None], progress: Callable[[Progress], None]) -> _Jobs:
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
                self._publish(job, self._split_value(), self._write_split)
            case "pretrain":
                self._publish(job, {}, lambda it: shutil.copyfile(self._weights.path, it / WEIGHTS))
            case _:
                run(job, self._graph.jobs, env)

    def _publish(self, job: Job, value: Mapping[str, Any], write: Callable[[Path], object]) -> None:
        """Put something given into the store, as if a job had made it."""
        contents = {name: what_counts(job, self._entry(key)) for name, key in job.needed.items()}
        with self._store.work(job) as work:
            write(work.folder)
            work.publish(value, contents, {}, origin_of(self._spec.device))

    def _entry(self, key: str) -> Entry:
        job = self._graph.jobs[key]
        found = self._store.find(job.stage, key)
        if found is None:
            raise DamagedEntryError(job.stage, key, "it has disappeared")
        return found

    def _split_value(self) -> dict[str, Any]:
        return {"task": self._described.task, "num_outputs": len(self._described.outputs)}

    def _write_split(self, folder: Path) -> None:
        names = ("train", "val", "test", "forget", "retain", "support")
        document = {name: list(getattr(self._split, name)) for name in names}
        (folder / SPLIT).write_text(json.dumps(document) + "\n", encoding="utf-8")

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
        files = {KIT_IMPORTANCES: load_file(simulated.file(IMPORTANCES))}
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
        known = {name: len(getattr(self._split, name)) for name in ("train", "val")}
        kit = Kit(
            described=self._described,
            weights=self._weights.tensors,
            weights_sha256=self._weights.sha256,
            data={
                "fingerprint": self._contents,
                "pictures": {name: len(self._split.images(name)) for name in known},
                "people": known,
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
            versions=origin_of(spec.device),
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
