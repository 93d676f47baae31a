"""Each method's expensive part against the plain way of computing the same, in one process.

    python benchmarks/methods.py [PART ...]

    ssd         importances of single images: vectorised against a backward pass per image
    pgu         covariances and projections: the convolution's own stride and one symmetric
                decomposition, against patches at every pixel and two singular decompositions
    meta_step   one MetaUnlearn update: forward mode, against a copied model and second derivatives
                through it; time, and growth of the process's memory at its peak
    meta_epoch  MetaUnlearn's preparation with its data from the cache, against pictures decoded
                in the loop and a val loader made anew for every request
    jit         JiT on 20 people: noisy copies together, against a pass for every copy
    scrub       a retain epoch of SCRUB on 128 pictures, against torch's own optimiser in a loop
    bad_teacher three epochs over 128 pictures, against both teachers asked in every step
    predict     logits of 512 pictures in passes that fit a processor's caches, against 256 a pass
    ssd_point   one more SSD hyperparameter: prepared importances and one model evaluated from the
                cache, against everything again from files, with the retrained model evaluated too

One thread. The machine is shared, so ratios are of processor seconds (of this process and of the
workers it waited for), medians of alternating rounds; wall ratios stand beside them. The networks
are small (see NETWORKS). The plain ways are in ``plain_methods.py``. The last line is one JSON
object.
"""

from __future__ import annotations

import copy
import ctypes
import gc
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from plain_methods import (
    NETWORKS,
    SIDES,
    PictureSets,
    meta_problem,
    network,
    plain_bad_teacher,
    plain_covariances,
    plain_importances,
    plain_meta_epoch,
    plain_meta_step,
    plain_projection,
    plain_scrub,
    plain_smoothing,
    plain_ssd_point,
    some,
)
from torch import nn

from oneshui.data.images import LabelledImages, make_images
from oneshui.methods import build
from oneshui.methods._distillation import random_teacher, scrub
from oneshui.methods._importance import loss_of, sample_importances
from oneshui.methods._projection import input_covariances, projection
from oneshui.methods._sgd import mixed_batches
from oneshui.methods.bad_teacher import BadTeacher
from oneshui.methods.metaunlearn import MetaUnlearn
from oneshui.methods.metaunlearn.loss_net import NetworkView, meta_step, moved_parameters
from oneshui.methods.metaunlearn.objective import OuterLoss, forget_terms
from oneshui.methods.scrub import SCRUB
from oneshui.requests import FullAccessRequest, PrepareRequest, SupportSet, UnlearnRequest
from oneshui.spec import TrainingSpec
from oneshui.training.predict import predict_logits

CPU = torch.device("cpu")
BARS = {
    "ssd": 5.0,
    "pgu": 3.0,
    "meta_step": 1.3,
    "meta_epoch": 4.0,
    "jit": 1.5,
    "scrub": 1.0,
    "bad_teacher": 1.0,
    "predict": 1.0,
    "ssd_point": 6.0,
}
MEMORY_BAR = 2 / 3


def used_seconds() -> float:
    """Processor seconds of this process and of the children that it waited for."""
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


def compare(
    plain: Callable[[], Any], ours: Callable[[], Any], *, rounds: int, warm: bool = True
) -> dict[str, float]:
    """Seconds and ratios of two ways that take turns."""
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    walls: dict[str, list[float]] = {"plain": [], "ours": []}
    for number in range(rounds + warm):
        for name, way in (("plain", plain), ("ours", ours)):
            gc.collect()
            used, wall = used_seconds(), time.perf_counter()
            way()
            used, wall = used_seconds() - used, time.perf_counter() - wall
            if number >= warm:
                seconds[name].append(used)
                walls[name].append(wall)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    wall = {name: statistics.median(values) for name, values in walls.items()}
    return {
        "plain_seconds": round(middle["plain"], 4),
        "ours_seconds": round(middle["ours"], 4),
        "ratio": round(middle["plain"] / middle["ours"], 2),
        "wall_ratio": round(wall["plain"] / wall["ours"], 2),
    }


def peak_growth(way: Callable[[], Any]) -> int:
    """Bytes by which the process's memory grows at the peak of ``way`` (Linux)."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = status("VmRSS")
    way()
    return status("VmHWM") - before


def status(field: str) -> int:
    """A figure of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


def ssd() -> dict[str, Any]:
    """Importances of single images."""
    figures: dict[str, Any] = {}
    for name in NETWORKS:
        model, (inputs, labels) = network(name), some(name, 48)
        ours = partial(sample_importances, model, [(inputs, labels)], loss_of("multilabel"))
        plain = partial(plain_importances, model, inputs, labels)
        close(ours(), plain())
        figures[name] = compare(plain, ours, rounds=3)
    return {**figures["small"], "medium": figures["medium"]}


def close(ours: Mapping[str, torch.Tensor], plain: Mapping[str, torch.Tensor]) -> None:
    """Refuse to compare the speed of two ways that differ in what they compute."""
    for name, value in plain.items():
        torch.testing.assert_close(ours[name], value, rtol=2e-3, atol=1e-6)


def pgu() -> dict[str, Any]:
    """Covariances of all layers, then projections."""
    model, (inputs, _) = network("medium"), some("medium", 32)

    def ours() -> dict[str, torch.Tensor]:
        found = input_covariances(model, [inputs], unit_stride=False)
        return {name: projection(value, 0.9)[0] for name, value in found.items()}

    def plain(unit_stride: bool = True) -> dict[str, torch.Tensor]:
        found = plain_covariances(model, inputs, unit_stride=unit_stride)
        return {name: plain_projection(value, 0.9) for name, value in found.items()}

    same = {n: v[0] for n, v in input_covariances(model, [inputs], unit_stride=False).items()}
    close(same, plain_covariances(model, inputs, unit_stride=False))
    figures: dict[str, Any] = compare(plain, ours, rounds=3)
    figures["same_patches"] = compare(partial(plain, unit_stride=False), ours, rounds=3)
    patches = nn.Sequential()
    patches.add_module("proj", model.get_submodule("patch_embed.proj"))
    figures["patch_embedding"] = compare(
        lambda: plain_covariances(patches, inputs, unit_stride=True),
        lambda: input_covariances(patches, [inputs], unit_stride=False),
        rounds=3,
    )
    return figures


def meta_update() -> dict[str, Any]:
    """One step and its gradient, time and memory."""
    problem, outer = meta_problem(), OuterLoss(method=MetaUnlearn(), task="multilabel")
    view = NetworkView(problem.model)
    start = moved_parameters(problem.model, "layers")

    def ours() -> dict[str, torch.Tensor]:
        terms = forget_terms(view, outer, [problem.group])
        found = meta_step(problem.net, view, start, problem.support, terms, step_size=0.1)
        return found.gradients

    plain = partial(plain_meta_step, problem, outer)
    close(ours(), plain())
    figures: dict[str, Any] = compare(plain, ours, rounds=5)
    growth = {"plain": [], "ours": []}
    for _ in range(3):
        growth["plain"].append(peak_growth(plain))
        growth["ours"].append(peak_growth(ours))
    middle = {name: statistics.median(values) for name, values in growth.items()}
    figures["plain_peak_mib"] = round(middle["plain"] / 2**20, 1)
    figures["ours_peak_mib"] = round(middle["ours"] / 2**20, 1)
    figures["memory_share"] = round(middle["ours"] / middle["plain"], 2)
    figures["memory_bar"] = round(MEMORY_BAR, 2)
    return figures


def meta_epoch() -> dict[str, Any]:
    """MetaUnlearn's preparation, one epoch, with its data."""
    with tempfile.TemporaryDirectory() as scratch:
        sets, model = PictureSets(Path(scratch), SIDES["small"]), network("small")
        request = PrepareRequest(
            model=model,
            task="multilabel",
            seed=0,
            train=sets.train,
            val=sets.val,
            train_identities=tuple(range(18)),
            num_forget=3,
        )
        method = build("metaunlearn", {"epochs": 1, "batch_size": 16, "hidden_size": 64})
        return compare(
            lambda: plain_meta_epoch(sets, model), lambda: method.prepare(request), rounds=2
        )


def jit() -> dict[str, Any]:
    """The whole of JiT."""
    model, (inputs, labels) = network("medium"), some("medium", 20)
    method = build("jit", {"sigma": 1.0})
    asked = UnlearnRequest(
        model=model, task="multilabel", seed=0, support=people(inputs, labels), prepared=None
    )
    plain = partial(plain_smoothing, asked, method)
    close(dict(method.unlearn(asked).named_parameters()), dict(plain().named_parameters()))
    return compare(plain, lambda: method.unlearn(asked), rounds=3)


def people(inputs: torch.Tensor, labels: torch.Tensor) -> SupportSet:
    """One of the normalised pictures each."""
    pixels = ((inputs + 1) * 127.5).round().to(torch.uint8)
    return SupportSet(images=pixels, labels=labels, identities=torch.arange(len(pixels)))


def scrub_epoch() -> dict[str, Any]:
    """An epoch of retain steps; pictures are augmented as in the paper, so nothing is kept."""
    model, batches = network("medium"), [some("medium", 32, seed) for seed in range(4)]
    method = SCRUB(epochs=1, forget_epochs=0, learning_rate=1e-3, divergence="bernoulli")

    def ours() -> nn.Module:
        student = copy.deepcopy(model)
        scrub(
            student,
            method,
            lambda: (),
            lambda: batches,
            temperature=method.temperature,
            forget_epochs=0,
            task="multilabel",
            alpha=method.alpha,
            gamma=method.gamma,
        )
        return student

    plain = partial(plain_scrub, model, batches, method)
    close(dict(ours().named_parameters()), dict(plain().named_parameters()))
    return compare(plain, ours, rounds=5)


def pictures(inputs: torch.Tensor, labels: torch.Tensor) -> LabelledImages:
    """The same as a data set."""
    whole = people(inputs, labels)
    rows = np.arange(len(labels))
    return make_images(whole.images.numpy(), labels.numpy(), whole.identities.numpy(), rows)


def bad_teacher() -> dict[str, Any]:
    """Both teachers."""
    model, images = network("medium"), pictures(*some("medium", 128))
    forget, retain = images.select(np.arange(16)), images.select(np.arange(16, 128))
    method = BadTeacher(epochs=3, learning_rate=1e-3, divergence="bernoulli")
    request = FullAccessRequest(
        model=model,
        task="multilabel",
        seed=0,
        support=people(*some("medium", 16)),
        prepared=None,
        forget=forget,
        retain=retain,
        val=retain,
        training=TrainingSpec(),
        fresh_model=model,
    )
    dumb = random_teacher(model, request.generator("bad teacher weights"))

    def plain() -> nn.Module:
        draws = request.generator("bad teacher batches")
        batches = partial(mixed_batches, forget, retain, 32, device=CPU, generator=draws)
        return plain_bad_teacher(model, dumb, batches, method)

    ours = partial(method.unlearn, request)
    close(dict(ours().named_parameters()), dict(plain().named_parameters()))
    return compare(plain, ours, rounds=3)


def predict() -> dict[str, Any]:
    """Evaluation."""
    figures: dict[str, Any] = {}
    for name in NETWORKS:
        model, images = network(name), pictures(*some(name, 512))
        ours = partial(predict_logits, model, images, device=CPU)
        plain = partial(ours, batch_size=256)
        assert torch.equal(ours(), plain())
        figures[name] = compare(plain, ours, rounds=5)
    return {**figures["medium"], "small": figures["small"]}


def ssd_point() -> dict[str, Any]:
    """Another alpha and lambda."""
    with tempfile.TemporaryDirectory() as scratch:
        sets = PictureSets(Path(scratch), SIDES["medium"])
        model, retrained = network("medium"), network("medium")
        method = build("ssd", {})
        request = PrepareRequest(
            model=model,
            task="multilabel",
            seed=0,
            train=sets.train,
            val=sets.val,
            train_identities=tuple(range(18)),
            num_forget=3,
        )
        prepared = method.prepare(request)  # type: ignore[attr-defined]
        after = UnlearnRequest(
            model=model, task="multilabel", seed=0, support=sets.support(), prepared=prepared
        )

        def ours() -> None:
            unlearned = build("ssd", {"alpha": 10.0}).unlearn(after)
            for data in (sets.train, sets.val):
                predict_logits(unlearned, data, device=CPU)

        return compare(lambda: plain_ssd_point(sets, model, retrained), ours, rounds=2)


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "ssd": ssd,
    "pgu": pgu,
    "meta_step": meta_update,
    "meta_epoch": meta_epoch,
    "jit": jit,
    "scrub": scrub_epoch,
    "bad_teacher": bad_teacher,
    "predict": predict,
    "ssd_point": ssd_point,
}


def main(arguments: list[str]) -> int:
    """Run the parts; the exit status is 0 if all bars are met."""
    unknown = [name for name in arguments if name not in PARTS]
    if unknown:
        print(f"no part {unknown[0]!r} (parts: {', '.join(PARTS)})", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    figures = {}
    for name in arguments or PARTS:
        figures[name] = {**PARTS[name](), "bar": BARS[name]}
        print(f"{name:12}{figures[name]['ratio']:8.1f} x   {json.dumps(figures[name])}", flush=True)
    ok = all(part["ratio"] >= part["bar"] for part in figures.values())
    if "meta_step" in figures:
        ok &= figures["meta_step"]["memory_share"] <= MEMORY_BAR
    worst = min(figures, key=lambda name: figures[name]["ratio"] / figures[name]["bar"])
    result = {
        "benchmark": "methods",
        "ratio": figures[worst]["ratio"],
        "bar": BARS[worst],
        "ok": ok,
        "narrowest": worst,
        "parts": figures,
        "processors": os.cpu_count(),
    }
    print(json.dumps(result))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
