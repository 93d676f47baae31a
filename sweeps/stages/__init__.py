"""The one door between the engine and the benchmark: what each kind of job does.

A stage reads its inputs from the store, calls oneshui, and writes files into its work folder.
Runs in a worker; must not import Ray or MLflow.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from oneshui.data.registry import load_dataset
from oneshui.errors import InputError, NumericalError
from sweeps.graph.artifacts import (
    IDENTITIES,
    IMAGES,
    PIXELS,
    PREPARED,
    SPLIT,
    SUPPORT,
    WEIGHTS,
)
from sweeps.graph.job import CHECKPOINTED, PICTURES, Job, Stage, canonical_json
from sweeps.stages import tuning
from sweeps.stages.context import (
    Environment,
    Inputs,
    device,
    images,
    load_split,
    new_model,
    spec_of,
    stored_model,
)
from sweeps.stages.evaluation import evaluate, score
from sweeps.stages.requests import full_access_request, real_request
from sweeps.store import DamagedEntryError, Entry
from sweeps.store.checkpoints import PacedCheckpoint, PacedPrepareCheckpoint
from sweeps.store.objects import MissingCredentialsError, StoreUnreachableError

if TYPE_CHECKING:
    from oneshui.data.splits import SetName
    from oneshui.training.train import Epoch, TrainingState


logger = logging.getLogger("oneshui.worker")


def run(job: Job, jobs: Mapping[str, Job], env: Environment) -> Entry:
    """Compute one job and publish its result.

    Args:
        job: What to do.
        jobs: The whole graph, to find the inputs' stages.
        env: Store, folders and device.

    Raises:
        DamagedEntryError: An input is not as it was written.
        OneshuiError, Exception: Whatever the stage raises; nothing is published then.
    """
    start = time.perf_counter()
    found = {}
    for key in job.needs:
        entry = env.store.find(jobs[key].stage, key)
        if entry is None:
            raise DamagedEntryError(jobs[key].stage, key, "it has disappeared")
        found[key] = entry
    contents = {name: found[key].content for name, key in job.needed.items()}
    known = env.store.find(job.stage, job.key)
    if known is not None:
        if known.inputs == contents:
            # Another driver's worker was faster.
            return known
        env.store.discard(job.stage, job.key)
    logger.info("%s is computed", job.label)
    started = time.time()
    with env.store.work(job) as work:
        inputs = Inputs(
            job=job,
            entries={role: found[key] for role, key in job.inputs.items()},
            series={r: tuple(found[key] for key in keys) for r, keys in job.series.items()},
            folder=work.folder,
            env=env,
        )
        value = _STAGES[job.stage](inputs)
        cost = {
            "started": started,
            "seconds": time.perf_counter() - start,
            "worker": f"{socket.gethostname()}:{os.getpid()}",
            **inputs.cost,
        }
        published = work.publish(value, contents, cost)
    if job.stage in CHECKPOINTED:
        env.store.checkpoint(job).clear()
    return published


def limit_threads(threads: int) -> None:
    """Fix torch's threads: results depend on their number, and slots share the processors."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)


def warm_up(env: Environment) -> None:
    """Import what jobs need, so that the first one does not wait for it."""
    limit_threads(env.threads)
    import oneshui.methods
    import oneshui.training.models
    import oneshui.training.predict
    import oneshui.training.train

    oneshui.methods.names()


def preflight(jobs: Iterable[Job], env: Environment) -> None:
    """Refuse what this machine or a method cannot do in the sweep, before anything trains.

    Args:
        jobs: The graph; its index jobs are done.
        env: Store and device.

    Raises:
        InputError: Naming method and reason; the model does not exist; a dataset's folder is not
            there; the device is a GPU that cannot be used; or the machine has no credentials for
            the store.
    """
    try:
        _preflight(jobs, env)
    except MissingCredentialsError as error:
        raise InputError(f"on the machine {socket.gethostname()}: {error}") from None
    except StoreUnreachableError as error:
        # The jobs meet it too, and are tried again.
        logger.warning("%s", error)


def _preflight(jobs: Iterable[Job], env: Environment) -> None:
    import torch

    from oneshui import methods
    from oneshui.spec import ModelSpec
    from oneshui.training.models import make_model

    if env.device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(
            f"the machine {socket.gethostname()} has a GPU in Ray's books, but this PyTorch cannot "
            "use it; mend its driver, or say cluster.gpus_per_worker=0 to compute on processors"
        )
    by_key = {job.key: job for job in jobs}
    _check_folders(by_key.values(), env)
    seen = set()
    find = functools.cache(lambda key: env.store.find("index", key))
    for job in by_key.values():
        if job.stage != "unlearn":
            continue
        split = by_key[job.inputs["split"]]
        index = find(split.inputs["index"])
        if index is None:
            continue
        task, names = index.value["task"], index.value["class_names"]
        question = canonical_json(
            [job.spec["model"], job.spec["method"], job.spec["hyperparameters"], task, len(names)]
        )
        if question in seen:
            continue
        seen.add(question)
        method = methods.build(job.spec["method"], job.spec["hyperparameters"])
        if isinstance(method, methods.CheckedMethod):
            spec = ModelSpec(**{**job.spec["model"], "weights": "random"})
            try:
                method.check(make_model(spec, len(names), 0), task)
            except InputError as error:
                raise InputError(f"{method.name} cannot be used here: {error}") from None


def _check_folders(jobs: Iterable[Job], env: Environment) -> None:
    """Whether this machine sees the pictures that jobs have still to read."""
    for job in jobs:
        if job.stage == "cache" and env.store.find(job.stage, job.key) is None:
            folder = env.data_folders.get(job.inputs["index"])
            if isinstance(folder, Path) and not folder.is_dir():
                raise InputError(
                    f"the machine {socket.gethostname()} has no dataset folder {folder}; put the "
                    "data there, share the folder, or set data_dir to one that every machine has"
                )


def _index(inputs: Inputs) -> dict[str, Any]:
    table = load_dataset(inputs.job.spec["layout"], inputs.env.data_folder(inputs.job.key))
    labels = table.label if table.label.ndim == 2 else table.label[:, None]
    pd.DataFrame(
        {"path": table.paths, "identity": table.identity, "label": list(labels)}
    ).to_parquet(inputs.folder / IMAGES, index=False)
    pd.DataFrame({"identity": table.identity_order}).to_parquet(
        inputs.folder / IDENTITIES, index=False
    )
    return {
        "fingerprint": table.fingerprint,
        "task": table.task,
        "class_names": list(table.class_names),
        "num_images": len(table),
        "num_identities": len(set(table.identity.tolist())),
    }


def _cache(inputs: Inputs) -> dict[str, Any]:
    from oneshui.data.cache import build_cache
    from oneshui.errors import DataError

    index = inputs.entries["index"]
    folder = inputs.env.data_folder(index.key)
    table = load_dataset(spec_of(index)["layout"], folder)
    if table.fingerprint != index.value["fingerprint"]:
        raise DataError(f"the pictures in {folder} changed while the sweep ran; start it again")
    spec = inputs.job.spec
    unfinished = inputs.env.store.unfinished(inputs.job)
    unfinished.mkdir(exist_ok=True)
    try:
        build_cache(
            table,
            spec["size"],
            inputs.folder / PIXELS,
            variant=spec["variant"],
            partial=unfinished / PIXELS,
        )
    except DataError:
        # Once the pictures are mended they are others, and nothing goes on from here.
        shutil.rmtree(unfinished)
        raise
    unfinished.rmdir()
    return {"size": spec["size"], "num_images": len(table)}


def _split(inputs: Inputs) -> dict[str, Any]:
    from safetensors.torch import save_file

    from oneshui.data.splits import SET_NAMES, make_split

    index = inputs.entries["index"]
    order = pd.read_parquet(index.file(IDENTITIES))["identity"].tolist()
    spec = inputs.job.spec
    split = make_split(
        inputs.people,
        order,
        num_forget=spec["num_forget"],
        seed=spec["split_seed"],
        support_seed=spec["support_seed"],
    )
    names = ("train", "val", "test", "forget", "retain", "support")
    document = {name: list(getattr(split, name)) for name in names}
    (inputs.folder / SPLIT).write_text(json.dumps(document) + "\n", encoding="utf-8")
    support = images(inputs, split, "support")
    save_file(
        {"images": support.raw(), "labels": support.labels, "identities": support.identities},
        inputs.folder / SUPPORT,
    )
    return {
        "fingerprint": split.fingerprint,
        "task": index.value["task"],
        "num_outputs": len(index.value["class_names"]),
        "num_images": {name: len(split.images(name)) for name in SET_NAMES},
        "num_identities": {name: len(document[name]) for name in names[:5]},
    }


def _train(inputs: Inputs, set_name: SetName | Literal["train"]) -> dict[str, Any]:
    from oneshui.seeding import derive_seed
    from oneshui.spec import TrainingSpec
    from oneshui.training.models import save_weights
    from oneshui.training.train import train

    spec = inputs.job.spec
    split = load_split(inputs)
    seed = derive_seed(spec["training_seed"], spec["reseed"])
    model = new_model(inputs, seed)
    data, val = images(inputs, split, set_name), images(inputs, split, "val")
    checkpoint = inputs.env.store.checkpoint(inputs.job)
    resume = checkpoint.load()
    paced = PacedCheckpoint(checkpoint, inputs.env.checkpoint_seconds)

    def on_epoch(epoch: Epoch, take_down: Callable[[], TrainingState]) -> None:
        if epoch.number < spec["training"]["epochs"]:
            paced.offer(take_down)

    history = inputs.timed(
        "method_seconds",
        lambda: train(
            model,
            data,
            val,
            TrainingSpec(**spec["training"]),
            task=inputs.entries["split"].value["task"],
            seed=seed,
            device=device(inputs),
            resume=resume,
            on_epoch=on_epoch,
        ),
    )
    if resume is not None:
        inputs.cost["resumed_epochs"] = resume.epoch
    save_weights(model, inputs.folder / WEIGHTS)
    return {"epochs": [dataclasses.asdict(epoch) for epoch in history]}


def _pretrain(inputs: Inputs) -> dict[str, Any]:
    return _train(inputs, "train")


def _retrain(inputs: Inputs) -> dict[str, Any]:
    return _train(inputs, "retain")


def _prepare(inputs: Inputs) -> dict[str, Any]:
    from safetensors.torch import save_file

    from oneshui import methods
    from oneshui.requests import PrepareRequest
    from oneshui.seeding import derive_seed

    spec = inputs.job.spec
    method = methods.build(spec["method"], spec["hyperparameters"])
    split = load_split(inputs)
    request = PrepareRequest(
        model=stored_model(inputs, "pretrained"),
        task=inputs.entries["split"].value["task"],
        seed=derive_seed(spec["unlearning_seed"], spec["method"], "prepare"),
        device=device(inputs),
        train=images(inputs, split, "train"),
        val=images(inputs, split, "val"),
        train_identities=split.train,
        num_forget=spec["num_forget"],
        checkpoint=PacedPrepareCheckpoint(
            inputs.env.store.checkpoint(inputs.job), inputs.env.checkpoint_seconds
        ),
    )
    assert isinstance(method, methods.PreparedMethod)
    prepared = inputs.timed("method_seconds", lambda: method.prepare(request))
    for name, tensor in prepared.items():
        if not tensor.isfinite().all():
            raise NumericalError(
                f"{spec['method']} prepared {name} with values that are not finite"
            )
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in prepared.items()},
        inputs.folder / PREPARED,
    )
    return {"tensors": len(prepared)}


def _unlearn(inputs: Inputs) -> dict[str, Any]:
    """After deletion: a one-shot method's inputs are weights, S and its own preparation."""
    from oneshui import methods
    from oneshui.deletion import deleted
    from oneshui.spec import Access
    from oneshui.training.models import save_weights

    spec = inputs.job.spec
    tuned = inputs.entries["tuned"].value["hyperparameters"] if "tuned" in inputs.entries else {}
    method = methods.build(spec["method"], {**spec["hyperparameters"], **tuned})
    request = real_request(inputs, spec["unlearning_seed"])
    if method.access is Access.FULL:
        split = load_split(inputs)
        request = full_access_request(
            inputs,
            request,
            forget=images(inputs, split, "forget"),
            retain=images(inputs, split, "retain"),
            val=images(inputs, split, "val"),
        )
        model = inputs.timed("method_seconds", lambda: method.unlearn(request))
    else:
        assert not inputs.entries.keys() & PICTURES
        with deleted(inputs.env.training_data, method.name):
            model = inputs.timed("method_seconds", lambda: method.unlearn(request))
    save_weights(model, inputs.folder / WEIGHTS)
    return {"hyperparameters": tuned} if tuned else {}


_STAGES: Mapping[Stage, Callable[[Inputs], dict[str, Any]]] = {
    "index": _index,
    "cache": _cache,
    "split": _split,
    "pretrain": _pretrain,
    "retrain": _retrain,
    "prepare": _prepare,
    "simulate": tuning.simulate,
    "trial": tuning.trial,
    "choose": tuning.choose,
    "unlearn": _unlearn,
    "evaluate": evaluate,
    "score": score,
    "true_tow": tuning.true_tow,
}
