"""What an accelerator gives a sweep, against its own ceiling, measured in the same run.

    python benchmarks/gpu.py [--images 2048] [--methods NAME ...] [--device cuda] [--toy]

Needs oneshui, torch, timm and an accelerator; neither Ray nor the engine. ViT-B/16 at 224 px on
noise in a cache on disk, so that reading, sending, cropping and computing are all in the figures.

1. The ceiling: the best rate of matrix products in bfloat16 and in float32, and of copying.
2. Images per second of training and evaluation, run as ``oneshui.training`` runs them, in bfloat16.
3. Images per second of what methods prepare, in float32, SSD and PGU among them; of MetaUnlearn,
   which looks at few pictures often, simulated requests. Operations of each are counted by torch
   in a first run, which warms up; their rate is given as a share of the ceiling of their
   precision, and so it is for training and evaluation.
4. Two trainings at the same time on one device, against one after the other: what shares of a GPU
   (``cluster.gpus_per_worker=0.5``) gain.
5. The device's memory at the peak of every stage.

Without an accelerator a line says so, and everything runs at toy size on the processor: that shows
that it works, and its figures mean nothing. ``--toy`` asks for the toy size on any device.

Exit status 0 if training reaches the aim, or at toy size; 1 if not. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from oneshui import methods
from oneshui.accelerator import (
    Policy,
    forget_peak,
    is_accelerator,
    peak_bytes,
    policy_of,
    require_usable,
    title_of,
    usual_device,
    wait_for,
)
from oneshui.data.images import LabelledImages, make_images
from oneshui.errors import OneshuiError
from oneshui.requests import FullAccessRequest, PrepareRequest, SupportSet, UnlearnRequest
from oneshui.spec import Access, ModelSpec, TrainingSpec
from oneshui.training.models import make_model
from oneshui.training.predict import predict_logits
from oneshui.training.train import train

AIM = 0.45
NUM_OUTPUTS = 40
PICTURES_PER_PERSON = 8
NAMES = ("ssd", "lfssd", "pgu", "metaunlearn", "jit", "scrub_support", "bad_teacher_support")
EPOCHS = 4
REQUESTS = 2
"""Simulated ones that MetaUnlearn learns from; a whole epoch has as many as the people allow."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large everything is.

    Attributes:
        model: Network, with its input's side in pixels.
        images: In the cache.
        batch_size: Of training.
        forget_sizes: People in a request.
        sides: Of the matrices that are multiplied.
        copied: Numbers in float32 that are copied.
    """

    model: ModelSpec
    images: int
    batch_size: int
    forget_sizes: tuple[int, ...]
    sides: tuple[int, ...]
    copied: int


LARGE = Size(
    model=ModelSpec(name="vit_base_patch16_224", image_size=224, weights="random"),
    images=2048,
    batch_size=128,
    forget_sizes=(20, 50),
    sides=(4096, 8192, 16384),
    copied=2**28,
)
TOY = Size(
    model=ModelSpec(
        name="vit_tiny_patch16_224",
        image_size=32,
        weights="random",
        options={"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    ),
    images=160,
    batch_size=32,
    forget_sizes=(3,),
    sides=(256, 512),
    copied=2**20,
)


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """The best that the device does.

    Attributes:
        products: Operations per second of matrix products, by precision.
        copy: Bytes per second, read and written, of a copy.
    """

    products: Mapping[str, float]
    copy: float


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is measured on.

    Attributes:
        size: How large.
        device: Where.
        data: The pictures.
        model: The network, on the device.
        peaks: Bytes at the peak of every stage, by its name; filled as stages run.
    """

    size: Size
    device: torch.device
    data: LabelledImages
    model: nn.Module
    peaks: dict[str, int] = field(default_factory=dict)

    def timed(self, stage: str, action: Callable[[], Any]) -> tuple[Any, float]:
        """What the action gives, and its seconds; its peak of memory is kept."""
        wait_for(self.device)
        forget_peak(self.device)
        start = time.perf_counter()
        result = action()
        wait_for(self.device)
        seconds = time.perf_counter() - start
        peak = peak_bytes(self.device)
        if peak is not None:
            self.peaks[stage] = max(peak, self.peaks.get(stage, 0))
        return result, seconds


def write_cache(path: Path, images: int, side: int) -> None:
    """Noise in the form of a decoded dataset."""
    shape = (images, 3, side, side)
    pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    generator = np.random.default_rng(0)
    for start in range(0, images, 256):
        block = pixels[start : start + 256]
        block[:] = generator.integers(0, 256, block.shape, dtype=np.uint8)
    pixels.flush()


def read_cache(path: Path) -> LabelledImages:
    """The pictures, memory-mapped, with attributes that are drawn."""
    pixels = np.load(path, mmap_mode="r")
    count = len(pixels)
    label = np.random.default_rng(1).integers(0, 2, (count, NUM_OUTPUTS)).astype(np.uint8)
    identity = np.arange(count, dtype=np.int64) // PICTURES_PER_PERSON
    return make_images(pixels, label, identity, np.arange(count, dtype=np.int64))


def rate(action: Callable[[], Any], device: torch.device, times: int = 10) -> float:
    """How often a second, after three times that do not count."""
    for _ in range(3):
        action()
    wait_for(device)
    start = time.perf_counter()
    for _ in range(times):
        action()
    wait_for(device)
    return times / (time.perf_counter() - start)


def ceiling(size: Size, device: torch.device) -> Ceiling:
    """The best rates of the device, over the sides."""
    products = {}
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        best = 0.0
        for side in size.sides:
            left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
            best = max(best, 2 * side**3 * rate(lambda a=left, b=right: a @ b, device))
        products[name] = best
    source, target = (torch.zeros(size.copied, device=device) for _ in range(2))
    return Ceiling(
        products=products, copy=2 * 4 * size.copied * rate(lambda: target.copy_(source), device)
    )


class _Counting(TorchDispatchMode):
    """Adds up operations of products, by torch's formulas.

    Torch's own counter also watches modules, which it cannot where gradients are asked for by
    ``torch.autograd.grad``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        formula = flop_registry.get(function._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=found)
        return found


def operations(action: Callable[[], Any]) -> float:
    """Floating-point operations of the products that the action computes."""
    with _Counting() as counter:
        action()
    return counter.total


def train_epochs(bench: Bench, model: nn.Module, policy: Policy) -> list[float]:
    """Train for some epochs; when each of them ended."""
    spec = TrainingSpec(
        epochs=EPOCHS, warmup_epochs=0, batch_size=bench.size.batch_size, keep="last"
    )
    ends: list[float] = []

    def on_epoch(*_: object) -> None:
        wait_for(bench.device)
        ends.append(time.perf_counter())

    tiny = bench.data.select(np.arange(2))
    train(
        model,
        bench.data,
        tiny,
        spec,
        task="multilabel",
        seed=0,
        device=bench.device,
        policy=policy,
        on_epoch=on_epoch,
    )
    return ends


def training_rate(bench: Bench, policy: Policy) -> float:
    """Images per second of whole epochs, validation left out; the first one warms up."""
    ends, _ = bench.timed("pretrain", lambda: train_epochs(bench, bench.model, policy))
    seconds = [later - earlier for earlier, later in itertools.pairwise(ends)]
    return len(bench.data) / statistics.median(seconds)


def evaluation_rate(bench: Bench) -> float:
    """Images per second of ``predict_logits``."""

    def look() -> Any:
        return predict_logits(bench.model, bench.data, device=bench.device)

    look()
    seconds = [bench.timed("evaluate", look)[1] for _ in range(3)]
    return len(bench.data) / statistics.median(seconds)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A method with what it is handed.

    Attributes:
        method: With its defaults, MetaUnlearn with few simulated requests.
        prepare: Before deletion; None if it prepares nothing.
        after: After it, without what was prepared.
        unit: What its preparation goes through: images, or simulated requests.
        count: How many of them.
    """

    method: Any
    prepare: PrepareRequest | None
    after: UnlearnRequest
    unit: str
    count: int


def asked_of(bench: Bench, name: str, num_forget: int) -> Asked:
    """A request of so many people: the first; the last fifth validates."""
    is_meta = name == "metaunlearn"
    method = methods.build(name, {"epochs": 1, "num_requests": REQUESTS} if is_meta else {})
    data = bench.data
    people = tuple(sorted({int(who) for who in data.identities}))
    cut = len(people) - len(people) // 5
    members = data.select(np.flatnonzero(data.identities.numpy() < cut))
    val = data.select(np.flatnonzero(data.identities.numpy() >= cut))
    first = members.select(np.arange(num_forget) * PICTURES_PER_PERSON)
    base: dict[str, Any] = {
        "model": bench.model,
        "task": "multilabel",
        "seed": 0,
        "device": bench.device,
    }
    support = SupportSet(images=first.raw(), labels=first.labels, identities=first.identities)
    after = UnlearnRequest(**base, support=support, prepared={})
    if method.access is Access.FULL:
        forget = np.flatnonzero(members.identities.numpy() < num_forget)
        retain = np.flatnonzero(members.identities.numpy() >= num_forget)
        after = FullAccessRequest(
            **{one.name: getattr(after, one.name) for one in dataclasses.fields(after)},
            forget=members.select(forget),
            retain=members.select(retain),
            val=val,
            training=TrainingSpec(epochs=1, warmup_epochs=0),
            fresh_model=bench.model,
        )
    prepare = None
    if isinstance(method, methods.PreparedMethod):
        prepare = PrepareRequest(
            **base, train=members, val=val, train_identities=people[:cut], num_forget=num_forget
        )
    return Asked(
        method=method,
        prepare=prepare,
        after=after,
        unit="requests" if is_meta else "images",
        count=REQUESTS if is_meta else len(members),
    )


def method_costs(bench: Bench, name: str, num_forget: int, best: Ceiling) -> dict[str, Any]:
    """What preparing and unlearning with a method's defaults costs."""
    asked = asked_of(bench, name, num_forget)
    costs: dict[str, Any] = {}
    prepared: Any = {}
    if asked.prepare is not None:
        counted = operations(lambda: asked.method.prepare(asked.prepare))
        prepared, seconds = bench.timed(
            f"prepare {name}", lambda: asked.method.prepare(asked.prepare)
        )
        costs["prepare"] = {
            "seconds": round(seconds, 3),
            f"{asked.unit}_per_second": round(asked.count / seconds, 2),
            f"gflop_per_{asked.unit.removesuffix('s')}": round(counted / asked.count / 1e9, 3),
            "share_of_ceiling": round(counted / seconds / best.products["float32"], 3),
        }
    after = dataclasses.replace(asked.after, prepared=prepared)
    _, seconds = bench.timed(f"unlearn {name}", lambda: asked.method.unlearn(after))
    costs["unlearn"] = {"seconds": round(seconds, 3)}
    return costs


def all_methods(bench: Bench, names: list[str], best: Ceiling) -> dict[str, Any]:
    """Costs by method and forget size; a method that fails says why and stops nobody."""
    costs: dict[str, Any] = {}
    for name in names:
        for num_forget in bench.size.forget_sizes:
            try:
                found = method_costs(bench, name, num_forget, best)
            except (OneshuiError, torch.OutOfMemoryError) as error:
                found = {"error": f"{type(error).__name__}: {error}"[:200]}
            costs[f"{name} N={num_forget}"] = found
            print(f"{name:22}N={num_forget:<4}{json.dumps(found)}", flush=True)
    return costs


def _one_job(size: Size, device: str, cache: Path, barrier: Any, seconds: Any) -> None:
    """A training as a worker runs it; the first epoch, which warms up, is before the barrier."""
    torch.set_num_threads(1)
    where = torch.device(device)
    model = make_model(size.model, NUM_OUTPUTS, 0).to(where)
    bench = Bench(size=size, device=where, data=read_cache(cache), model=model)
    train_epochs(bench, model, policy_of(where))
    barrier.wait()
    start = time.perf_counter()
    train_epochs(bench, model, policy_of(where))
    seconds.put(time.perf_counter() - start)


def together(size: Size, device: torch.device, cache: Path, jobs: int) -> float:
    """Seconds until so many trainings that begin at once are done, each in its own process."""
    context = multiprocessing.get_context("spawn")
    barrier, seconds = context.Barrier(jobs), context.Queue()
    workers = [
        context.Process(target=_one_job, args=(size, str(device), cache, barrier, seconds))
        for _ in range(jobs)
    ]
    for worker in workers:
        worker.start()
    found = [seconds.get(timeout=900) for _ in workers]
    for worker in workers:
        worker.join()
    return max(found)


def packing(size: Size, device: torch.device, cache: Path) -> dict[str, float]:
    """Two trainings on one device at the same time, against one after the other."""
    alone = together(size, device, cache, 1)
    both = together(size, device, cache, 2)
    return {
        "one_seconds": round(alone, 3),
        "two_at_once_seconds": round(both, 3),
        "gain": round(2 * alone / both, 3),
    }


def _chosen(named: str | None) -> torch.device:
    device = torch.device(named or usual_device())
    require_usable(str(device))
    return torch.device(device.type, device.index or 0) if is_accelerator(device) else device


def main(arguments: list[str]) -> int:
    """Measure, print; see the module for the exit status."""
    parser = argparse.ArgumentParser(description="An accelerator against its own ceiling")
    parser.add_argument("--images", type=int)
    parser.add_argument("--methods", nargs="*", default=list(NAMES))
    parser.add_argument("--device", help="as torch calls it; default: what there is")
    parser.add_argument("--toy", action="store_true", help="a tiny network on few pictures")
    options = parser.parse_args(arguments)
    device = _chosen(options.device)
    is_toy = options.toy or not is_accelerator(device)
    if not is_accelerator(device):
        print("no GPU here: toy size on the processor, which shows that it works; no figure counts")
    size = TOY if is_toy else LARGE
    size = dataclasses.replace(size, images=options.images or size.images)
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) / "cache.npy"
        write_cache(cache, size.images, size.model.image_size)
        model = make_model(size.model, NUM_OUTPUTS, 0).to(device)
        bench = Bench(size=size, device=device, data=read_cache(cache), model=model)
        result = measured(bench, options.methods, cache)
    ok = is_toy or result["share_of_ceiling"]["training"] >= AIM
    result = {
        "benchmark": "gpu",
        "ratio": result["share_of_ceiling"]["training"],
        "bar": None if is_toy else AIM,
        "ok": ok,
        "toy": is_toy,
        **result,
    }
    print(json.dumps(result))
    return 0 if ok else 1


def measured(bench: Bench, names: list[str], cache: Path) -> dict[str, Any]:
    """All figures, printed as they come."""
    device, side = bench.device, bench.size.model.image_size
    best = ceiling(bench.size, device)
    print(
        f"{'ceiling':22}"
        + ", ".join(f"{rate / 1e12:.3g} TFLOP/s in {name}" for name, rate in best.products.items())
        + f", {best.copy / 1e9:.3g} GB/s copied"
    )
    with torch.no_grad():
        forward = operations(lambda: bench.model(torch.zeros(1, 3, side, side, device=device)))
    policy = policy_of(device)
    rates = {"training": training_rate(bench, policy)}
    if is_accelerator(device):
        compiled = dataclasses.replace(policy, compile=True, compile_steps=0)
        rates["training_compiled"] = training_rate(bench, compiled)
    rates["evaluation"] = evaluation_rate(bench)
    ceiling_of = best.products[policy.precision]
    shares = {
        name: rate * forward * (1 if name == "evaluation" else 3) / ceiling_of
        for name, rate in rates.items()
    }
    for name, rate in rates.items():
        print(f"{name:22}{rate:8.0f} images/s{100 * shares[name]:8.1f} % of the ceiling")
    costs = all_methods(bench, names, best)
    packed = packing(bench.size, device, cache)
    print(f"{'two at once':22}{packed['gain']:.2f} times one after the other")
    for stage, peak in bench.peaks.items():
        print(f"{stage:34}{peak / 2**30:6.2f} GiB at the peak")
    return {
        "device": title_of(device) if is_accelerator(device) else str(device),
        "network": bench.size.model.name,
        "ceiling_tflops": {name: round(it / 1e12, 4) for name, it in best.products.items()},
        "copy_gb_per_second": round(best.copy / 1e9, 1),
        "forward_gflop_per_image": round(forward / 1e9, 4),
        "batch_size": bench.size.batch_size,
        "images_per_second": {name: round(it, 1) for name, it in rates.items()},
        "share_of_ceiling": {name: round(it, 3) for name, it in shares.items()},
        "methods": costs,
        "packing": packed,
        "peak_gib": {name: round(peak / 2**30, 3) for name, peak in bench.peaks.items()},
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
