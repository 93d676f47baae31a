"""The outer losses and their gradients against formulas (docs/benchmark.md, "metaunlearn")."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference.ap import average_precision
from reference.training import loss_of
from torch.nn import functional as F

from oneshui.methods.metaunlearn import MetaUnlearn
from oneshui.methods.metaunlearn.objective import Batch, BatchGroup, OuterLoss, forget_terms

NUM_OUTPUTS, TEMPERATURE = 4, 4.0


def batch(seed: int, size: int, task: Any) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def draw() -> torch.Tensor:
        return torch.randn(size, NUM_OUTPUTS, generator=generator, dtype=torch.float64)

    labels = (draw() > 0).double() if task == "multilabel" else draw().argmax(1)
    return Batch(inputs=draw(), labels=labels, original=draw())


def group_of(task: Any, size: int = 7, seed: int = 0) -> BatchGroup:
    return BatchGroup(
        forget=batch(seed, size, task),
        val=batch(seed + 1, 6, task),
        retain=batch(seed + 2, 5, task),
    )


def score(logits: torch.Tensor, labels: torch.Tensor) -> float:
    if labels.ndim == 1:
        return (logits.argmax(1) == labels).double().mean().item()
    columns = zip(logits.T.tolist(), labels.int().T.tolist(), strict=True)
    precisions = [average_precision(z, y) for z, y in columns if any(y)]
    return sum(precisions) / len(precisions)


def badness(logits: torch.Tensor, labels: torch.Tensor, use_accs: bool) -> torch.Tensor:
    return loss_of(logits, labels) * (1 - score(logits.detach(), labels) if use_accs else 1)


def distance(one: torch.Tensor, other: torch.Tensor, kind: str) -> torch.Tensor:
    gap = (one - other.detach()).abs()
    if kind == "smooth_l1":
        return gap**2 / 2 if gap < 1 else gap - 0.5
    return gap if kind == "l1" else gap**2


def divergence(original: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    p, q = (F.softmax(z / TEMPERATURE, dim=1) for z in (original, logits))
    return TEMPERATURE**2 * (p * (p.log() - q.log())).mean()


def expected(group: BatchGroup, scale: torch.Tensor, method: MetaUnlearn) -> torch.Tensor:
    forget, val, retain = group.forget, group.val, group.retain
    assert retain is not None
    kind, accs = method.distance, method.use_accs
    of_forget = badness(forget.inputs * scale, forget.labels, accs)
    before = badness(val.original_logits(), val.labels, accs)
    after = badness(val.inputs * scale, val.labels, accs)
    kept = loss_of(retain.inputs * scale, retain.labels)
    match method.loss_type:
        case "original":
            return distance(of_forget, before, kind)
        case "unlearned":
            return distance(of_forget, after, kind)
        case "full":
            return distance(of_forget, before, kind) + distance(of_forget, after, kind)
        case "rev":
            return distance(of_forget, after, kind) + distance(after, before, kind)
        case "scrub":
            near = divergence(retain.original_logits(), retain.inputs * scale)
            far = divergence(forget.original_logits(), forget.inputs * scale)
            return 0.99 * kept + 0.001 * near - far


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
@pytest.mark.parametrize("loss_type", ["full", "original", "unlearned", "scrub", "rev"])
@pytest.mark.parametrize(
    ("kind", "use_accs"), [("smooth_l1", True), ("l1", False), ("l2", True), ("smooth_l1", False)]
)
@pytest.mark.parametrize("size", [1.2, 6.0], ids=["near", "far"])
def test_outer_losses_and_their_gradients_are_their_formulas(
    task: Any, loss_type: Any, kind: Any, use_accs: bool, size: float
) -> None:
    method = MetaUnlearn(loss_type=loss_type, distance=kind, use_accs=use_accs)
    outer, group = OuterLoss(method=method, task=task), group_of(task)
    scale = torch.tensor(size, dtype=torch.float64, requires_grad=True)
    values = [outer(lambda inputs: inputs * scale, group), expected(group, scale, method)]
    gradients = [torch.autograd.grad(value, scale)[0].item() for value in values]
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-9)
    assert gradients[0] == pytest.approx(gradients[1], rel=1e-9)


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_groups_weigh_as_much_as_they_have_forget_images(task: Any) -> None:
    method = MetaUnlearn()
    groups = [group_of(task), group_of(task, size=2, seed=10)]
    scale = torch.tensor(1.3, dtype=torch.float64)

    def view(parameters: Any, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return inputs * parameters["scale"], inputs

    terms = forget_terms(view, OuterLoss(method=method, task=task), groups)
    total = sum(term({"scale": scale}).item() for term in terms)
    first, second = (expected(group, scale, method).item() for group in groups)
    assert total == pytest.approx((7 * first + 2 * second) / 9)
