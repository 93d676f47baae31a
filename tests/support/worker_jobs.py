"""A few small jobs for a worker, and what tests of workers ask of their results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support.tiny import SPECS

from sweeps.graph.job import Job
from sweeps.stages.context import JobContext, WorkerEnvironment
from sweeps.store import Entry

SPLIT = Job(stage="split", spec={"num_forget": 3}, inputs={}, label="split")
TRAINING = {
    "epochs": 3,
    "batch_size": 16,
    "optimizer": "adamw",
    "learning_rate": 5e-3,
    "augmentation": "flip",
    "warmup_epochs": 0,
    "keep": "best",
}
MODEL = {
    "name": SPECS["convnext"].name,
    "image_size": 32,
    "weights": "random",
    "options": SPECS["convnext"].options,
}
PRETRAIN = Job(
    stage="pretrain",
    spec={"model": MODEL, "training": TRAINING, "training_seed": 0, "reseed": 0},
    inputs={"split": SPLIT.key},
    label="pretrain",
)
PREPARE = Job(
    stage="prepare",
    spec={
        "method": "broken",
        "source": "of a test",
        "hyperparameters": {},
        "unlearning_seed": 0,
        "num_forget": 3,
    },
    inputs={"split": SPLIT.key},
    label="prepare",
)
JOBS = {job.key: job for job in (SPLIT, PRETRAIN, PREPARE)}
Do = Callable[[JobContext], dict[str, Any]]


def write_hello(inputs: JobContext) -> dict[str, Any]:
    (inputs.folder / "hello.txt").write_text("hello")
    inputs.cost["method_seconds"] = 1.5
    return {"task": "multilabel", "num_outputs": 5}


def found(env: WorkerEnvironment, job: Job) -> Entry:
    entry = env.store.find(job.stage, job.key)
    assert entry is not None
    return entry
