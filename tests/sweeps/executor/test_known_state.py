"""No job poisons the next: what a job may leave behind in a warm process, one thing at a time."""

from __future__ import annotations

import builtins
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.worker_jobs import JOBS, SPLIT
from timm.layers.config import set_fused_attn
from torch.utils.flop_counter import FlopCounterMode

import oneshui.data.images
import oneshui.data.splits
import oneshui.training.losses
from oneshui.methods.base import METHODS
from oneshui.methods.neggrad_plus import NegGradPlus
from oneshui.methods.ssd import SSD
from sweeps.executor import known_state
from sweeps.executor.known_state import KnownState
from sweeps.stages.context import WorkerEnvironment
from sweeps.stages.run import run
from sweeps.store import LocalStore


@contextlib.contextmanager
def taken() -> Iterator[KnownState]:
    """The state from here on, and again afterwards; between fixture and test pytest changes it."""
    state = KnownState.take()
    try:
        yield state
    finally:
        state.restore()


def nothing(*_: Any, **__: Any) -> None:
    pass


POISON: dict[str, Callable[[], Any]] = {
    "number of threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "gradients": lambda: torch.set_grad_enabled(False),
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
    "default type": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "deterministic algorithms": lambda: torch.use_deterministic_algorithms(
        not torch.are_deterministic_algorithms_enabled()
    ),
    "precision of products": lambda: torch.set_float32_matmul_precision("medium"),
    "denormal numbers": lambda: torch.set_flush_denormal(True),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "backends of torch": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "kernels of torch": lambda: torch.backends.cuda.enable_math_sdp(False),
    "fused attention": lambda: set_fused_attn(False),
    "threads of gradients": lambda: torch._C._set_multithreading_enabled(False),
    "filling of memory": lambda: setattr(
        torch.utils.deterministic, "fill_uninitialized_memory", False
    ),
    "numpy's printing": lambda: np.set_printoptions(precision=2),
    "finders of modules": lambda: sys.meta_path.append(PathFinder),
    "profiling": lambda: sys.setprofile(nothing),
    "builtins.sum": lambda: setattr(builtins, "sum", nothing),
    "Linear.forward": lambda: setattr(torch.nn.Linear, "forward", nothing),
    "SSD.prepare_fields": lambda: setattr(SSD, "prepare_fields", ()),
    "oneshui.data.images._MINUS_ONE": lambda: setattr(
        oneshui.data.images, "_MINUS_ONE", torch.tensor(5.0)
    ),
    "what is registered as ssd": lambda: METHODS.known.update(ssd=NegGradPlus),
    "module oneshui.training.losses": lambda: sys.modules.update(
        {"oneshui.training.losses": oneshui.data.images}
    ),
    "numpy's errors": lambda: np.seterr(all="ignore", over="raise"),
    "filters of warnings": lambda: warnings.simplefilter("ignore", BytesWarning),
    "Pillow's limits": lambda: setattr(Image, "MAX_IMAGE_PIXELS", 1),
    "environment": lambda: os.environ.update(ONESHUI_POISON="1"),
    "working folder": lambda: os.chdir("/"),
    "file permissions": lambda: os.umask(0o777),
    "search path of modules": lambda: sys.path.insert(0, "/nowhere"),
    "limit of recursion": lambda: sys.setrecursionlimit(5000),
    "garbage collection": gc.disable,
    "standard output": lambda: setattr(sys, "stdout", None),
    "signal handlers": lambda: signal.signal(signal.SIGTERM, nothing),
    "torch.nn.functional.relu": lambda: setattr(torch.nn.functional, "relu", nothing),
    "Tensor.add": lambda: setattr(torch.Tensor, "add", nothing),
    "Module.forward": lambda: setattr(torch.nn.Module, "forward", nothing),
    "oneshui.training.losses.sample_losses": lambda: setattr(
        oneshui.training.losses, "sample_losses", nothing
    ),
    "LabelledImages.inputs": lambda: setattr(oneshui.data.images.LabelledImages, "inputs", nothing),
    "SSD.unlearn": lambda: setattr(SSD, "unlearn", nothing),
    "_global_forward_hooks": lambda: torch.nn.modules.module.register_module_forward_hook(nothing),
}


@pytest.mark.parametrize("name", POISON)
def test_what_a_job_changed_is_put_back_and_named(name: str) -> None:
    with taken() as known:
        assert known.restore() == []
        POISON[name]()
        assert name in known.restore()
        assert known.left() == []
        assert known.restore() == []


@pytest.mark.parametrize("setting", ["autocast", "backends of torch"])
def test_a_precision_of_one_kind_of_kernel_is_put_back(setting: str) -> None:
    backend: Any = torch.backends.mkldnn
    convolutions = backend.conv
    with taken() as known:
        if setting == "autocast":
            torch.set_autocast_dtype("cpu", torch.float16)
        else:
            convolutions.fp32_precision = "bf16"
        assert known.restore() == [setting]
        assert torch.get_autocast_dtype("cpu") is torch.bfloat16
        assert convolutions.fp32_precision == "none"


def test_what_is_changed_in_its_place_cannot_be_put_back() -> None:
    constant, shares = oneshui.data.images._MINUS_ONE, oneshui.data.splits.SHARES
    assert isinstance(shares, dict)
    with taken() as known:
        constant.fill_(7.0)
        shares["val"] = 0.5
        SSD.unlearn.__code__, code = nothing.__code__, SSD.unlearn.__code__
        try:
            assert set(known.left()) == {
                "content of oneshui.data.images._MINUS_ONE",
                "content of oneshui.data.splits.SHARES",
                "content of SSD.unlearn",
            }
        finally:
            constant.fill_(-1.0)
            shares["val"] = 0.2
            SSD.unlearn.__code__ = code
        assert known.left() == []


def test_what_cannot_even_be_asked_for_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise RuntimeError("a mix of the legacy and new APIs")

    with taken() as known:
        setting = known_state._SETTINGS["precision of products"]
        with monkeypatch.context() as patched:
            patched.setitem(known_state._SETTINGS, "precision of products", (refuse, setting[1]))
            assert "precision of products" in known.left()


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_an_optimiser_that_is_made_changes_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = getattr(torch.optim, name)
    if hasattr(own := vars(kind).get("step"), "hooked"):
        # As in a process that has made none yet: torch wraps the step when the first is made.
        monkeypatch.setattr(kind, "step", own.__wrapped__)
    with taken() as known:
        kind([torch.zeros(1, requires_grad=True)])
        assert kind.step.hooked
        assert known.restore() == []
        assert known.left() == []


def test_a_step_that_is_changed_behind_torchs_own_wrapper_ends_the_process() -> None:
    with taken() as known:
        torch.optim.SGD([torch.zeros(1, requires_grad=True)])
        step: Any = torch.optim.SGD.step
        try:
            step.__wrapped__.__kwdefaults__ = {"closure": None}
            assert known.left() == ["content of SGD.step"]
        finally:
            step.__wrapped__.__kwdefaults__ = None
        assert known.left() == []


def test_hooks_of_saved_tensors_cannot_be_put_back() -> None:
    with taken() as known:
        with torch.autograd.graph.saved_tensors_hooks(torch.neg, torch.neg):
            assert known.left() == ["a mode of torch"]
        assert known.left() == []


def test_a_thread_that_still_runs_cannot_be_put_back() -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="lurker")
    with taken() as known:
        thread.start()
        try:
            assert known.restore() == []
            assert known.left() == ["thread lurker"]
        finally:
            end.set()
            thread.join()
        assert known.left() == []


def test_a_mode_that_every_operation_goes_through_cannot_be_put_back() -> None:
    with taken() as known:
        with FlopCounterMode(display=False):
            assert known.left() == ["a mode of torch"]
        assert known.left() == []


def test_every_job_begins_with_random_numbers_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[float] = []

    def draw(_: Any) -> dict[str, Any]:
        drawn.extend([torch.rand(1).item(), np.random.rand()])  # noqa: NPY002
        return {}

    monkeypatch.setattr("sweeps.stages.run.STAGES", {"split": draw})
    for place in ("one", "another"):
        store = LocalStore(tmp_path / place)
        run(SPLIT, JOBS, WorkerEnvironment(store=store, data_folders={}, logs=tmp_path))
        torch.rand(5)
    assert drawn[:2] == drawn[2:]


PROCESS = """
import json, os, sys, threading, time
from support.worker_jobs import JOBS, SPLIT, PRETRAIN
from sweeps.executor.trainable import JobTrainable
from sweeps.executor.worker import Outcome
import sweeps.executor.trainable as trainable
import ray, torch

def poison(job, *_, **__):
    torch.set_num_threads(7)
    if sys.argv[1] == "thread":
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    return Outcome()

class Node:
    def get_node_id(self):
        return "node"

ray.get_runtime_context = Node
made = JobTrainable.__new__(JobTrainable)
config = {"gpus": 0, "job": SPLIT.key, "stale_lease": 0}
from sweeps.stages.context import WorkerEnvironment
env = WorkerEnvironment(store=None, data_folders={}, logs=None)
torch.set_num_threads(1)
made.setup(config, jobs=JOBS, env=env, run=poison, prepare=lambda *_: "")
print(made.step()["done"], torch.get_num_threads(), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(
    ("what", "status", "said"), [("settings", 0, "True 1\n"), ("thread", 1, "")]
)
def test_a_worker_cleans_up_after_a_job_or_ends(what: str, status: int, said: str) -> None:
    tests = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROCESS, what],
        env={**os.environ, "PYTHONPATH": f"{tests}:{tests.parent}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (status, said), done.stderr
