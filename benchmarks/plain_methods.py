"""The plain ways that ``methods.py`` compares with, and the problems that both ways solve."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data import FILE_BYTES, Files, write_pictures
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Subset

from oneshui.data.cache import build_cache, open_cache
from oneshui.data.images import make_images, normalise
from oneshui.data.simulated_requests import simulate_requests
from oneshui.methods._teachers import TeacherSteps
from oneshui.methods.bad_teacher import BadTeacher
from oneshui.methods.jit import JiT
from oneshui.methods.metaunlearn import MetaUnlearn
from oneshui.methods.metaunlearn.loss_net import (
    MetaLossNet,
    Support,
    make_net,
    moved_parameters,
)
from oneshui.methods.metaunlearn.objective import Batch, BatchGroup, OuterLoss
from oneshui.methods.scrub import SCRUB
from oneshui.requests import SupportSet, UnlearnRequest
from oneshui.spec import ModelSpec
from oneshui.training.models import FeaturesAndLogits, make_model

NUM_OUTPUTS = 40
NETWORKS = {
    "small": {"patch_size": 8, "embed_dim": 64, "depth": 4, "num_heads": 2},
    "medium": {"patch_size": 8, "embed_dim": 192, "depth": 6, "num_heads": 3},
}
SIDES = {"small": 48, "medium": 64}
PEOPLE, PICTURES = 24, 5


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
        method=MetaUnlearn(dropout=0.0),
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


def plain_meta_step(problem: MetaProblem, outer: OuterLoss) -> dict[str, torch.Tensor]:
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
        outer(unlearned, group).backward()
    return {n: p.grad for n, p in problem.net.named_parameters() if p.grad is not None}


def plain_meta_epoch(sets: PictureSets, model: nn.Module) -> None:
    """Loaders made anew for every request, all from files; val by two workers, as the authors."""
    model = copy.deepcopy(model).requires_grad_(False)
    net = make_net(
        num_outputs=NUM_OUTPUTS,
        num_features=NETWORKS["small"]["embed_dim"],
        num_identities=18,
        method=MetaUnlearn(hidden_size=64),
        generator=torch.Generator().manual_seed(0),
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=0.0, amsgrad=True)
    outer = OuterLoss(method=MetaUnlearn(), task="multilabel")
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
            plain_meta_step(problem, outer)
            optimizer.step()


def plain_smoothing(request: UnlearnRequest, method: JiT) -> nn.Module:
    """JiT with a pass for every noisy copy."""
    model, draws = copy.deepcopy(request.model), request.generator("jit noise")
    inputs = request.support.inputs()
    optimizer = torch.optim.SGD(model.parameters(), lr=method.learning_rate)
    logits, loss = model(inputs), torch.zeros(())
    for _ in range(method.num_samples):
        noisy = inputs + method.sigma * torch.randn(inputs.shape, generator=draws)
        noisy = noisy.clamp(inputs.min(), inputs.max())
        with torch.no_grad():
            others = model(noisy)
        loss = (
            loss + ((logits - others).norm(dim=1) / (inputs - noisy).flatten(1).norm(dim=1)).sum()
        )
    (loss / method.num_samples).backward()
    optimizer.step()
    return model


def plain_scrub(
    model: nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]], method: SCRUB
) -> nn.Module:
    """Retain steps of SCRUB."""
    student = copy.deepcopy(model)
    optimizer = _sgd(student, method)
    for inputs, labels in batches:
        with torch.no_grad():
            target = (model(inputs) / method.temperature).sigmoid()
        logits = student(inputs)
        away = method.temperature**2 * bernoulli(target, logits / method.temperature)
        task = F.binary_cross_entropy_with_logits(logits, labels)
        optimizer.zero_grad()
        (method.alpha * away + method.gamma * task).backward()
        optimizer.step()
    return student


def plain_bad_teacher(
    model: nn.Module,
    dumb: nn.Module,
    batches: Callable[[], Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]],
    method: BadTeacher,
) -> nn.Module:
    """Both teachers see every picture in every epoch."""
    student = copy.deepcopy(model)
    optimizer = _sgd(student, method)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, method.epochs)
    for _ in range(method.epochs):
        for inputs, _, is_forget in batches():
            with torch.no_grad():
                asked = torch.where(is_forget[:, None], dumb(inputs), model(inputs))
            optimizer.zero_grad()
            bernoulli(asked.sigmoid(), student(inputs)).backward()
            optimizer.step()
        schedule.step()
    return student


def _sgd(model: nn.Module, method: TeacherSteps) -> torch.optim.SGD:
    return torch.optim.SGD(
        model.parameters(),
        lr=method.learning_rate,
        momentum=method.momentum,
        weight_decay=method.weight_decay,
    )


def bernoulli(target: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """KL of independent attributes, summed over them, mean over images."""
    present = F.kl_div(F.logsigmoid(logits), target, reduction="batchmean")
    absent = F.logsigmoid(-logits)
    return present + F.kl_div(absent, 1 - target, reduction="batchmean")


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
