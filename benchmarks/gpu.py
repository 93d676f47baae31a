"""ViT-B/16 at 224 px in bfloat16 on this machine's GPU: images per second, and every method's cost.

    python benchmarks/gpu.py [--images 2048] [--methods NAME ...]

Needs oneshui, torch, timm and a GPU; neither Ray nor the engine. Pictures are noise in a cache on
disk, so that reading, sending, cropping and computing are all in the figures. Training and
evaluation run as ``oneshui.training`` runs them. The ceiling is the best rate of a bfloat16 matrix
product of this device, measured here; floating-point operations of the
network are counted by torch (forward), and a training step is three forward passes. Methods run
with the paper's forget sizes on the cache's images as D_tr: their preparation grows with D_tr,
and its seconds are given per image too.

Exit status 0 if training reaches the aim, 1 if not, 2 without a GPU. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from oneshui import methods
from oneshui.accelerator import FAST, Policy, policy_of
from oneshui.data.images import LabelledImages, make_images
from oneshui.errors import OneshuiError
from oneshui.requests import FullAccessRequest, PrepareRequest, SupportSet, UnlearnRequest
from oneshui.spec import Access, ModelSpec, TrainingSpec
from oneshui.training.models import make_model
from oneshui.training.predict import predict_logits
from oneshui.training.train import train

AIM = 0.45
SIZE = 224
NUM_OUTPUTS = 40
PICTURES_PER_PERSON = 8
FORGET_SIZES = (20, 50)
BATCH_SIZE = 128
NAMES = ("ssd", "lfssd", "pgu", "metaunlearn", "jit", "scrub_support", "bad_teacher_support")


def write_cache(path: Path, images: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Noise in the form of a decoded dataset, memory-mapped."""
    shape = (images, 3, SIZE, SIZE)
    pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    generator = np.random.default_rng(0)
    for start in range(0, images, 256):
        block = pixels[start : start + 256]
        block[:] = generator.integers(0, 256, block.shape, dtype=np.uint8)
    pixels.flush()
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


def ceiling(device: torch.device) -> float:
    """The best bfloat16 matrix product of the device, operations per second."""
    best = 0.0
    for side in (4096, 8192, 16384):
        left, right = (
            torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2)
        )
        for _ in range(3):
            left @ right
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        for _ in range(10):
            left @ right
        torch.cuda.synchronize(device)
        best = max(best, 10 * 2 * side**3 / (time.perf_counter() - start))
    return best


def forward_operations(model: nn.Module) -> float:
    """Floating-point operations of one image's forward pass."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, SIZE, SIZE, device=next(model.parameters()).device))
    return float(counter.get_total_flops())


def training_rate(
    data: LabelledImages, device: torch.device, policy: Policy, model: nn.Module
) -> float:
    """Images per second of whole epochs, validation left out; the first one warms up."""
    spec = TrainingSpec(epochs=4, warmup_epochs=0, batch_size=BATCH_SIZE, keep="last")
    ends: list[float] = []

    def on_epoch(*_: object) -> None:
        torch.cuda.synchronize(device)
        ends.append(time.perf_counter())

    tiny = data.select(np.arange(2))
    train(
        model,
        data,
        tiny,
        spec,
        task="multilabel",
        seed=0,
        device=device,
        policy=policy,
        on_epoch=on_epoch,
    )
    seconds = [later - earlier for earlier, later in itertools.pairwise(ends)]
    return len(data) / statistics.median(seconds)


def evaluation_rate(data: LabelledImages, device: torch.device, model: nn.Module) -> float:
    """Images per second of ``predict_logits``."""
    predict_logits(model, data, device=device)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        predict_logits(model, data, device=device)
        seconds.append(time.perf_counter() - start)
    return len(data) / statistics.median(seconds)


def measured(action: Callable[[], Any], device: torch.device) -> tuple[Any, dict[str, float]]:
    """The action's result, its seconds and its peak of GPU memory."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    result = action()
    torch.cuda.synchronize(device)
    return result, {
        "seconds": round(time.perf_counter() - start, 2),
        "peak_gib": round(torch.cuda.max_memory_allocated(device) / 2**30, 2),
    }


def method_costs(
    name: str, num_forget: int, model: nn.Module, data: LabelledImages, device: torch.device
) -> dict[str, Any]:
    """What preparing and unlearning with a method's defaults costs, MetaUnlearn one request."""
    values = {"epochs": 1, "num_requests": 2} if name == "metaunlearn" else {}
    method = methods.build(name, values)
    people = tuple(sorted({int(who) for who in data.identities}))
    cut = len(people) - len(people) // 5
    members = data.select(np.flatnonzero(data.identities.numpy() < cut))
    val = data.select(np.flatnonzero(data.identities.numpy() >= cut))
    first = members.select(np.arange(num_forget) * PICTURES_PER_PERSON)
    base = {"model": model, "task": "multilabel", "seed": 0, "device": device}
    costs: dict[str, Any] = {}
    prepared: Any = {}
    if isinstance(method, methods.PreparedMethod):
        request = PrepareRequest(
            **base,  # type: ignore[arg-type]
            train=members,
            val=val,
            train_identities=people[:cut],
            num_forget=num_forget,
        )
        prepared, costs["prepare"] = measured(lambda: method.prepare(request), device)
        costs["prepare"]["ms_per_image"] = round(
            1000 * costs["prepare"]["seconds"] / len(members), 2
        )
    support = SupportSet(images=first.raw(), labels=first.labels, identities=first.identities)
    after = UnlearnRequest(**base, support=support, prepared=prepared)  # type: ignore[arg-type]
    if method.access is Access.FULL:
        forget = np.flatnonzero(members.identities.numpy() < num_forget)
        retain = np.flatnonzero(members.identities.numpy() >= num_forget)
        fields = {f.name: getattr(after, f.name) for f in dataclasses.fields(after)}
        after = FullAccessRequest(
            **fields,
            forget=members.select(forget),
            retain=members.select(retain),
            val=val,
            training=TrainingSpec(epochs=1, warmup_epochs=0),
            fresh_model=model,
        )
    _, costs["unlearn"] = measured(lambda: method.unlearn(after), device)
    return costs


def all_methods(
    names: list[str], model: nn.Module, data: LabelledImages, device: torch.device
) -> dict[str, Any]:
    """Costs by method and forget size; a method that fails says why and stops nobody."""
    costs: dict[str, Any] = {}
    for name in names:
        for num_forget in FORGET_SIZES:
            try:
                found = method_costs(name, num_forget, model, data, device)
            except (OneshuiError, torch.OutOfMemoryError) as error:
                found = {"error": f"{type(error).__name__}: {error}"[:200]}
            costs[f"{name} N={num_forget}"] = found
            print(f"{name:22}N={num_forget:<4}{json.dumps(found)}", flush=True)
    return costs


def main(arguments: list[str]) -> int:
    """Measure, print; see the module for the exit status."""
    parser = argparse.ArgumentParser(description="ViT-B/16 at 224 px in bfloat16 on this GPU")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--methods", nargs="*", default=list(NAMES))
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("benchmarks/gpu.py needs a GPU, and torch finds none here", file=sys.stderr)
        return 2
    device = torch.device("cuda", 0)
    count = options.images
    with tempfile.TemporaryDirectory() as scratch:
        pixels = write_cache(Path(scratch) / "cache.npy", count)
        label = np.random.default_rng(1).integers(0, 2, (count, NUM_OUTPUTS)).astype(np.uint8)
        identity = np.arange(count, dtype=np.int64) // PICTURES_PER_PERSON
        data = make_images(pixels, label, identity, np.arange(count, dtype=np.int64))
        spec = ModelSpec(name="vit_base_patch16_224", image_size=SIZE, weights="random")
        model = make_model(spec, NUM_OUTPUTS, 0).to(device)
        operations, best = forward_operations(model), ceiling(device)
        assert policy_of(device) == FAST
        rates = {
            "training": training_rate(data, device, FAST, model),
            "training_compiled": training_rate(
                data, device, dataclasses.replace(FAST, compile=True, compile_steps=0), model
            ),
            "evaluation": evaluation_rate(data, device, model),
        }
        passes = {"training": 3, "training_compiled": 3, "evaluation": 1}
        shares = {name: rate * passes[name] * operations / best for name, rate in rates.items()}
        for name, rate in rates.items():
            print(f"{name:22}{rate:8.0f} images/s{100 * shares[name]:8.1f} % of the ceiling")
        costs = all_methods(options.methods, model, data, device)
    ok = shares["training"] >= AIM
    result = {
        "benchmark": "gpu",
        "ratio": round(shares["training"], 3),
        "bar": AIM,
        "ok": ok,
        "device": torch.cuda.get_device_name(device),
        "ceiling_tflops": round(best / 1e12, 1),
        "forward_gflop_per_image": round(operations / 1e9, 2),
        "batch_size": BATCH_SIZE,
        "images_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "share_of_ceiling": {name: round(share, 3) for name, share in shares.items()},
        "methods": costs,
    }
    print(json.dumps(result))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
