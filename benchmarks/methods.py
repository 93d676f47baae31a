"""Each method's expensive part against the plain way of computing the same, in one process.

    python benchmarks/methods.py [PART ...]

    ssd         importances of single images: vectorised against a backward pass per image
    pgu         covariances and projections: the convolution's own stride and one symmetric
                decomposition, against patches at every pixel and two singular decompositions
    meta_step   one MetaUnlearn update: forward mode, against a copied model and second derivatives
                through it; time, and growth of the process's memory at its peak
    meta_epoch  MetaUnlearn's preparation with its data from the cache, against pictures decoded
                in the loop and a val loader made anew for every request
    ssd_point   one more SSD hyperparameter: prepared importances and one model evaluated from the
                cache, against everything again from files, with the retrained model evaluated too

One thread. The machine is shared, so ratios are of processor seconds (of this process and of the
workers it waited for), medians of alternating rounds; wall ratios stand beside them. The networks
are small (see NETWORKS). The last line is one JSON object.
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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from data import FILE_BYTES, Files, write_pictures
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Subset

from oneshui.data.cache import build_cache, open_cache
from oneshui.data.images import make_images, normalise
from oneshui.evaluation import predict_logits
from oneshui.importance import loss_of, sample_importances
from oneshui.meta_loss import (
    MetaLossNet,
    NetOptions,
    NetworkView,
    Support,
    make_net,
    meta_step,
    moved_parameters,
)
from oneshui.meta_objective import Batch, BatchGroup, Objective, forget_terms
from oneshui.methods import build
from oneshui.models import FeaturesAndLogits, make_model
from oneshui.projection import input_covariances, projection
from oneshui.requests import PrepareRequest, SupportSet, UnlearnRequest
from oneshui.simulation import simulate_requests
from oneshui.spec import ModelSpec

CPU = torch.device("cpu")
NUM_OUTPUTS = 40
NETWORKS = {
    "small": {"patch_size": 8, "embed_dim": 64, "depth": 4, "num_heads": 2},
    "medium": {"patch_size": 8, "embed_dim": 192, "depth": 6, "num_heads": 3},
}
SIDES = {"small": 48, "medium": 64}
BARS = {"ssd": 5.0, "pgu": 3.0, "meta_step": 1.3, "meta_epoch": 4.0, "ssd_point": 6.0}
MEMORY_BAR = 2 / 3


def network(name: str) -> nn.Module:
    """One of the networks, in evaluation mode."""
    spec = ModelSpec(
        name="vit_tiny_patch16_224",
        image_size=SIDES[name],
        weights="random",
        options=NETWORKS[name],
    )
    return make_model(spec, NUM_OUTPUTS, 0)


def some(name: str, count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised noise and attributes."""
    generator = torch.Generator().manual_seed(seed)
    side = SIDES[name]
    pixels = torch.randint(0, 256, (count, 3, side, side), generator=generator)
    labels = torch.randint(0, 2, (count, NUM_OUTPUTS), generator=generator)
    return normalise(pixels.to(torch.uint8)), labels.float()


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


def plain_importances(
    model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor
) -> dict[str, torch.Tensor]:
    """A backward pass per image."""
    total = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    for image, label in zip(inputs, labels, strict=True):
        model.zero_grad()
        F.binary_cross_entropy_with_logits(model(image[None]), label[None]).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            total[name] += parameter.grad.pow(2)
    model.zero_grad()
    return {name: value / len(inputs) for name, value in total.items()}


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


def plain_covariances(
    model: nn.Module, inputs: torch.Tensor, *, unit_stride: bool, only: str = ""
) -> dict[str, torch.Tensor]:
    """Image by image; patches at every pixel, or those that the convolution sees."""
    layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        layer.register_forward_hook(lambda _, given, __, name=name: seen.update({name: given[0]}))
        for name, layer in layers.items()
    ]
    total: dict[str, torch.Tensor] = {}
    for image in inputs:
        with torch.no_grad():
            model(image[None])
        for name, given in seen.items():
            if only and name != only:
                continue
            layer = layers[name]
            if isinstance(layer, nn.Conv2d):
                stride = 1 if unit_stride else layer.stride
                rows = F.unfold(given, layer.kernel_size, stride=stride)[0].T.double()
            else:
                rows = given.reshape(-1, given.shape[-1]).double()
            total[name] = total.get(name, 0) + rows.T @ rows
    for hook in hooks:
        hook.remove()
    return total


def plain_projection(covariance: torch.Tensor, gamma: float) -> torch.Tensor:
    """One singular decomposition for the rank, another one for the basis."""
    sizes = torch.linalg.svd(covariance)[1].sqrt()
    rank = int(((sizes.cumsum(0) / sizes.sum()) <= gamma).sum()) + 1
    basis = torch.linalg.svd(covariance)[0][:, :rank]
    return basis @ basis.T


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


@dataclass(frozen=True)
class MetaProblem:
    """One simulated request."""

    net: MetaLossNet
    model: nn.Module
    support: Support
    group: BatchGroup


def meta_problem() -> MetaProblem:
    """A support set of 20 people, a forget and a val batch of 64."""
    model = network("medium").requires_grad_(False)
    inputs, labels = some("medium", 148)
    net = make_net(
        num_outputs=NUM_OUTPUTS,
        num_features=NETWORKS["medium"]["embed_dim"],
        num_identities=100,
        options=NetOptions(dropout=0.0),
        generator=torch.Generator().manual_seed(0),
    )
    with torch.no_grad():
        original = model(inputs[84:])
    return MetaProblem(
        net=net,
        model=model,
        support=Support(inputs=inputs[:20], labels=labels[:20], index=torch.arange(20)),
        group=BatchGroup(
            forget=Batch(inputs=inputs[20:84], labels=labels[20:84]),
            val=Batch(inputs=inputs[84:], labels=labels[84:], original=original),
        ),
    )


def plain_meta_step(problem: MetaProblem, objective: Objective) -> dict[str, torch.Tensor]:
    """A copied model, a step that is differentiable, and a backward pass through all of it."""
    problem.net.zero_grad()
    unlearned = copy.deepcopy(problem.model).requires_grad_(True)
    original_val = unlearned(problem.group.val.inputs).detach()
    moved = moved_parameters(unlearned, "layers")
    with sdpa_kernel(SDPBackend.MATH):
        support = problem.support
        logits, features = FeaturesAndLogits(unlearned)(support.inputs)
        mean = problem.net(logits, features, support.labels, support.index).mean()
        parameters = {n: p for n, p in unlearned.named_parameters() if n in moved}
        gradients = torch.autograd.grad(mean, list(parameters.values()), create_graph=True)
        for (name, value), gradient in zip(parameters.items(), gradients, strict=True):
            owner, _, attribute = name.rpartition(".")
            module = unlearned.get_submodule(owner)
            delattr(module, attribute)
            setattr(module, attribute, value - 0.1 * gradient)
        val = problem.group.val
        group = BatchGroup(
            forget=problem.group.forget,
            val=Batch(inputs=val.inputs, labels=val.labels, original=original_val),
        )
        objective(unlearned, group).backward()
    return {n: p.grad for n, p in problem.net.named_parameters() if p.grad is not None}


def meta_update() -> dict[str, Any]:
    """One step and its gradient, time and memory."""
    problem, objective = meta_problem(), Objective(task="multilabel")
    view = NetworkView(problem.model)
    start = moved_parameters(problem.model, "layers")

    def ours() -> dict[str, torch.Tensor]:
        terms = forget_terms(view, objective, [problem.group])
        found = meta_step(problem.net, view, start, problem.support, terms, step_size=0.1)
        return found.gradients

    plain = partial(plain_meta_step, problem, objective)
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


PEOPLE, PICTURES = 24, 5


class PictureSets:
    """Pictures at 1024 x 1024 as files and as a cache: 18 people to train on, 6 for val."""

    def __init__(self, scratch: Path, side: int) -> None:
        count = PEOPLE * PICTURES
        made = write_pictures(scratch / "files", 1024, 1024, count, FILE_BYTES["1024x1024"])
        build_cache(made, side, scratch / "cache.npy")
        generator = np.random.default_rng(0)
        label = generator.integers(0, 2, (count, NUM_OUTPUTS)).astype(np.uint8)
        self.identity = np.repeat(np.arange(PEOPLE, dtype=np.int64), PICTURES)
        self.label = torch.from_numpy(label).float()
        rows = np.arange(count, dtype=np.int64)
        whole = make_images(open_cache(scratch / "cache.npy"), label, self.identity, rows)
        self.train = whole.select(np.flatnonzero(self.identity < 18))
        self.val = whole.select(np.flatnonzero(self.identity >= 18))
        self.files = Files(made, train=False, size=side)

    def decoded(
        self, rows: list[int], batch_size: int, *, shuffle: bool = False, workers: int = 0
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches from the files."""
        loader = DataLoader(
            labelled(self.files, self.label, rows), batch_size, shuffle=shuffle, num_workers=workers
        )
        yield from loader

    def support(self) -> SupportSet:
        """One picture each of three people."""
        chosen = self.train.select(np.arange(3) * PICTURES)
        return SupportSet(images=chosen.raw(), labels=chosen.labels, identities=chosen.identities)


def labelled(files: Files, label: torch.Tensor, rows: list[int]) -> Subset[Any]:
    """A data set of these rows with their attributes."""

    class Joined(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            return files[index][0], label[index]

    return Subset(Joined(), rows)


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


def plain_meta_epoch(sets: PictureSets, model: nn.Module) -> None:
    """Loaders made anew for every request, all from files; val by two workers, as the authors."""
    model = copy.deepcopy(model).requires_grad_(False)
    net = make_net(
        num_outputs=NUM_OUTPUTS,
        num_features=NETWORKS["small"]["embed_dim"],
        num_identities=18,
        options=NetOptions(hidden_size=64),
        generator=torch.Generator().manual_seed(0),
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=0.0, amsgrad=True)
    objective = Objective(task="multilabel")
    images = {who: list(range(who * PICTURES, (who + 1) * PICTURES)) for who in range(18)}
    for request in simulate_requests(range(18), images, num_forget=3, seed=0):
        inputs, labels = next(sets.decoded(list(request.support), 3))
        support = Support(inputs=inputs, labels=labels, index=torch.tensor(request.identities))
        forget = sets.decoded(list(request.forget), 16)
        val_rows = [int(row) for row in sets.val.rows]
        val = sets.decoded(val_rows, 16, shuffle=True, workers=2)
        for of_forget, of_val in zip(forget, val, strict=False):
            group = BatchGroup(
                forget=Batch(inputs=of_forget[0], labels=of_forget[1]),
                val=Batch(inputs=of_val[0], labels=of_val[1]),
            )
            problem = MetaProblem(net, model, support, group)
            plain_meta_step(problem, objective)
            optimizer.step()


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


def plain_ssd_point(sets: PictureSets, model: nn.Module, retrained: nn.Module) -> None:
    """Importances of everything again, and both models evaluated, all from files."""
    unlearned = copy.deepcopy(model)
    rows = {
        name: [int(row) for row in data.rows] for name, data in (("t", sets.train), ("v", sets.val))
    }
    importances = []
    for part in (rows["t"], [0, PICTURES, 2 * PICTURES]):
        total = {name: torch.zeros_like(value) for name, value in unlearned.named_parameters()}
        for inputs, labels in sets.decoded(part, 32):
            unlearned.zero_grad()
            F.binary_cross_entropy_with_logits(unlearned(inputs), labels).backward()
            for name, parameter in unlearned.named_parameters():
                assert parameter.grad is not None
                total[name] += parameter.grad.pow(2)
        importances.append(total)
    with torch.no_grad():
        for name, parameter in unlearned.named_parameters():
            original, forget = importances[0][name], importances[1][name]
            factor = (0.1 * original / forget).clamp(max=1)
            parameter.mul_(torch.where(forget > 10 * original, factor, 1.0))
        for evaluated in (unlearned, retrained):
            for part in rows.values():
                for inputs, _ in sets.decoded(part, 32):
                    evaluated(inputs)


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "ssd": ssd,
    "pgu": pgu,
    "meta_step": meta_update,
    "meta_epoch": meta_epoch,
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
