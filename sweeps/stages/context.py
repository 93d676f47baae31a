"""What the stages share: a running job's view of the world, and how its inputs are read.

Runs in a worker; must not import Ray or MLflow.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from oneshui.data.table import root_of
from oneshui.errors import InputError
from oneshui.origin import origin_of
from oneshui.plugins import Plugin, source_behind
from sweeps.graph.artifacts import IMAGES, PIXELS, SPLIT, WEIGHTS
from sweeps.graph.job import Job
from sweeps.graph.launch import LaunchSpec
from sweeps.stages.memory import measured
from sweeps.store import Entry, Store
from sweeps.store.cache import cache_folder
from sweeps.store.datasets import RemoteFolder

if TYPE_CHECKING:
    import torch
    from torch import nn

    from oneshui.data.images import LabelledImages
    from oneshui.data.splits import SetName, Split
    from oneshui.spec import ModelSpec, Precision

T = TypeVar("T")
RESUMABLE = ("device", "precision", "versions")
"""Of what a result was made with, that which must stay while a training goes on: half a training
on another device would be a result of neither."""


@dataclass(frozen=True, kw_only=True)
class WorkerEnvironment:
    """What a worker knows besides the job; no part of any identity.

    Attributes:
        store: Where inputs come from and results go.
        data_folders: Folder or table of each dataset, by the key of its index job; may be in a
            bucket.
        logs: Folder of the log files, in the output folder.
        weights_file: That the starting weights are read from; None if they are from no file.
        pretrained_files: Models that stand in for pretrained ones, by the sha256 of their files.
        plugins: The user's own code.
        other_results: Folders of further results.
        device: Torch device of jobs that have no GPU.
        accelerator: Kind of those that have one; empty for what torch finds.
        threads: Threads that torch uses for one job.
        heartbeat_seconds: Silence after which a worker counts as hung.
        checkpoint_seconds: Least time between two checkpoints of a training.
        node: Ray's name of the worker's machine.
        machine_workers: Jobs at the same time on one machine, whoever's; 0 for no limit.
    """

    store: Store
    data_folders: Mapping[str, Path | RemoteFolder]
    logs: Path
    weights_file: Path | None = None
    pretrained_files: Mapping[str, Path] = field(default_factory=dict)
    plugins: tuple[Plugin, ...] = ()
    other_results: tuple[Path, ...] = ()
    device: str = "cpu"
    accelerator: str = ""
    threads: int = 1
    heartbeat_seconds: float = 120.0
    checkpoint_seconds: float = 10.0
    node: str = ""
    machine_workers: int = 0

    @property
    def protected(self) -> tuple[Path, ...]:
        """Folders of pictures and results: no method may reach them when the data are deleted."""
        places = self.data_folders.values()
        folders = (root_of(it) if isinstance(it, Path) else it.folder for it in places)
        results = (self.store.root, self.logs.parent, *self.other_results)
        return (*folders, *results, cache_folder())

    def data_folder(self, key: str) -> Path:
        """Folder or table of a dataset on this machine, fetched if it is in a bucket.

        Args:
            key: Of the dataset's index job.

        Raises:
            InputError: It cannot be fetched.
        """
        found = self.data_folders[key]
        return found if isinstance(found, Path) else found.fetch()


def environment(
    spec: LaunchSpec, store: Store, folders: Mapping[str, Path | RemoteFolder]
) -> WorkerEnvironment:
    """What the workers of a command know.

    Args:
        spec: The command.
        store: Where inputs come from and results go.
        folders: Folder of each dataset, by the key of its index job.
    """
    pretrained = spec.sweep.pretrained
    contents = {} if pretrained is None else pretrained.contents
    return WorkerEnvironment(
        store=store,
        data_folders=folders,
        logs=Path(spec.places.output_dir) / "logs",
        weights_file=spec.sweep.model.weights_file,
        pretrained_files={content: Path(file).absolute() for file, content in contents.items()},
        plugins=spec.plugins,
        other_results=tuple(map(Path, spec.places.other_results)),
        accelerator="" if spec.device in ("auto", "cpu") else spec.device,
    )


@dataclass(frozen=True, kw_only=True)
class JobContext:
    """A running job's view of the world.

    Attributes:
        job: The job.
        entries: Finished inputs by role.
        series: Finished inputs of the roles that several play, in their order.
        contents: Content of each input, by its name in ``Job.needed``.
        folder: Where to write files.
        env: The worker's environment.
        cost: Seconds of named parts, peak memory in bytes and how a method's code was kept from
            the data, filled by the stage.
    """

    job: Job
    entries: Mapping[str, Entry]
    folder: Path
    env: WorkerEnvironment
    series: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)
    contents: Mapping[str, str] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)

    @property
    def reached_with(self) -> dict[str, str]:
        """What a checkpoint holds good for: these inputs, on such a device, with these versions."""
        made = origin_of(self.env.device, precision_of(self.job))
        return {**self.contents, **{name: made[name] for name in RESUMABLE}}

    @cached_property
    def identities(self) -> npt.NDArray[np.int64]:
        """Identity of every image of the dataset, int64 [N]; read once a job."""
        path = self.entries["index"].file(IMAGES)
        return pd.read_parquet(path, columns=["identity"])["identity"].to_numpy()

    @cached_property
    def labels(self) -> npt.NDArray[np.uint8] | npt.NDArray[np.int64]:
        """Labels of every image, uint8 [N, C] or int64 [N]; a job reads several sets of them."""
        index = self.entries["index"]
        frame = pd.read_parquet(index.file(IMAGES), columns=["label"])
        label = np.stack(frame["label"].to_list())
        return label[:, 0].astype(np.int64) if index.value["task"] == "multiclass" else label

    def timed(self, name: str, action: Callable[[], T]) -> T:
        """Run the action and note its seconds and peak memory."""
        result, cost = measured(self.env.device, name, action)
        self.cost.update(cost)
        return result


def precision_of(job: Job) -> Precision:
    """What the job was asked to compute in; "auto" also for one that computes with no network."""
    asked: Precision = job.spec.get("model", {}).get("precision", "auto")
    return asked


def spec_of(entry: Entry) -> dict[str, Any]:
    """What the job of a finished entry was asked to do."""
    document = json.loads(entry.file("job.json").read_text(encoding="utf-8"))
    spec: dict[str, Any] = document["spec"]
    return spec


PEOPLE_OF = ("train", "val", "test", "forget", "retain")
"""Fields of a split that are identities."""


def write_split(split: Split, folder: Path) -> None:
    """Write a split as ``load_split`` reads it; what is younger than stores only where set."""
    document = {name: list(getattr(split, name)) for name in (*PEOPLE_OF, "support")}
    document |= {n: list(getattr(split, n)) for n in ("reserved", "withheld") if getattr(split, n)}
    (folder / SPLIT).write_text(json.dumps(document) + "\n", encoding="utf-8")


def load_split(context: JobContext, role: str = "split") -> Split:
    """The split of the job's cell, or another one among its inputs."""
    from oneshui.data.splits import Split

    document = json.loads(context.entries[role].file(SPLIT).read_text(encoding="utf-8"))
    return Split(
        **{name: tuple(document[name]) for name in document}, identity_of_image=context.identities
    )


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """All pictures of a dataset, not opened yet.

    Attributes:
        files: Those of the network's size as "cache", and larger ones as "crops" if there are any.
        labels: uint8 [N, C] or int64 [N].
        identities: int64 [N].
    """

    files: Mapping[str, Path]
    labels: npt.NDArray[np.uint8] | npt.NDArray[np.int64]
    identities: npt.NDArray[np.int64]

    def select(self, rows: npt.NDArray[np.int64]) -> LabelledImages:
        """Some of them, int64 [n]."""
        from oneshui.data.cache import open_cache
        from oneshui.data.images import make_images

        opened = {role: open_cache(path) for role, path in self.files.items()}
        detail = opened.get("crops")
        return make_images(opened["cache"], self.labels, self.identities, rows, detail=detail)


def pictures(context: JobContext) -> Pictures:
    """The pictures of the job's dataset."""
    roles = ("cache", "crops")
    files = {r: context.entries[r].file(PIXELS) for r in roles if r in context.entries}
    return Pictures(files=files, labels=context.labels, identities=context.identities)


def images(context: JobContext, split: Split, name: SetName | Literal["train"]) -> LabelledImages:
    """One set of the job's cell."""
    return pictures(context).select(split.images(name))


def device(context: JobContext) -> torch.device:
    """Where the job computes."""
    import torch

    return torch.device(context.env.device)


def model_spec(job: Job, weights: Path | None = None) -> ModelSpec:
    """The job's network, with random weights or those of a file.

    Raises:
        InputError: This machine has other code of the network than the one that planned the sweep.
    """
    from oneshui.spec import ModelSpec

    document = dict(job.spec["model"])
    planned = document.pop("source", None)
    if planned is not None:
        factory = document["factory"]
        require_same(f"the network {factory}", planned, source_behind(factory))
    return ModelSpec(**{**document, "weights": str(weights) if weights else "random"})


def require_same(what: str, planned: str, here: str) -> None:
    """Compare the hash of code on this machine with that of the machine that planned the sweep.

    Raises:
        InputError: They differ.
    """
    if planned != here:
        raise InputError(
            f"the code of {what} on the machine {socket.gethostname()} is not that which the sweep "
            "was planned with; install the same on every machine, and run the same command again"
        )


def new_model(context: JobContext, seed: int) -> nn.Module:
    """A model with its starting weights."""
    from oneshui.training.models import make_model

    starting = context.entries.get("weights")
    spec = model_spec(context.job, starting.file(WEIGHTS) if starting else None)
    return make_model(spec, context.entries["split"].value["num_outputs"], seed)


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """A model in the store, not loaded yet.

    Attributes:
        spec: Of the network, with random weights.
        num_outputs: Attributes or classes.
        weights: File of those to load.
        device: Where to compute.
    """

    spec: ModelSpec
    num_outputs: int
    weights: Path
    device: str

    def load(self) -> nn.Module:
        """The model, on its device."""
        from oneshui.training.models import load_weights, make_model

        model = make_model(self.spec, self.num_outputs, 0)
        return load_weights(model, self.weights).to(self.device)

    def shapes(self) -> dict[str, list[int]]:
        """Shape of every weight, by name."""
        from safetensors import safe_open

        with safe_open(self.weights, "pt") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118


def model_of(context: JobContext, role: str) -> StoredModel:
    """The job's model with the weights of an input."""
    return StoredModel(
        spec=model_spec(context.job),
        num_outputs=context.entries["split"].value["num_outputs"],
        weights=context.entries[role].file(WEIGHTS),
        device=context.env.device,
    )


def stored_model(context: JobContext, role: str) -> nn.Module:
    """The same, loaded."""
    return model_of(context, role).load()
