"""Selective synaptic dampening: shrink the weights that matter much more to S than to D_tr.

Source: Foster et al., "Fast machine unlearning without retraining through selective synaptic
dampening" (arXiv 2308.07707), as the 1-SHUI benchmark (arXiv 2407.12069) runs it. With the
importance I_D of a data set D, f = I_S, o = I_{D_tr}:

    theta_i <- theta_i * min(lambda o_i / f_i, 1)   where f_i > alpha o_i.

``importance="batch"`` is the reference: I_D is the mean over batches of the squared gradient of
the batch's mean loss, so it depends on the batch size, and S (one small batch) and D_tr (batches
of 128) are on different scales; the published alphas absorb that (spec, S1). "sample" is the
diagonal Fisher information that the method means: the mean over images of the squared gradient
of the image's own loss. An alpha tuned for one means nothing for the other.

Deviations from the reference: D_tr is shuffled by the request's own generator (for "batch").
As there, D_tr does not contain S (S2); the bound by 1 acts only if lambda > alpha (S3); the key
part of a ViT's ``attn.qkv.bias`` has no true gradient and may be dampened at random, which does
not change the model's output (S4).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from oneshui.methods.base import Range, register
from oneshui.spec import Access, require

if TYPE_CHECKING:
    import torch
    from torch import nn

    from oneshui.requests import PrepareRequest, UnlearnRequest
    from oneshui.spec import Task

Importances = dict[str, "torch.Tensor"]
"""Importance of every entry of every parameter, by the parameter's name."""

MAX_GRADIENT_NUMBERS = 2**28
"""Numbers that the per-image gradients of one chunk may hold (1 GiB in float32)."""


@register
@dataclass(frozen=True, kw_only=True)
class SSD:
    """Dampens the weights that S needs and D_tr does not.

    Attributes:
        alpha: How many times more important to S than to D_tr a weight must be.
        dampening: Lambda, the strength: smaller dampens more.
        batch_size: Images per gradient ("batch"), or at most so many at a time ("sample").
        importance: "batch" (the reference's) or "sample" (per-image squares).
    """

    name: ClassVar[str] = "ssd"
    access: ClassVar[Access] = Access.PREPARED
    prepare_fields: ClassVar[tuple[str, ...]] = ("batch_size", "importance")
    search_space: ClassVar[Mapping[str, Range]] = {
        "alpha": Range(low=1.0, high=250.0, log=True),
        "dampening": Range(low=0.03, high=2.0, log=True),
    }

    alpha: float = 50.0
    dampening: float = 0.1
    batch_size: int = 128
    importance: Literal["batch", "sample"] = "batch"

    def __post_init__(self) -> None:
        require(self.alpha >= 0, "alpha", self.alpha, "0 or more")
        require(self.dampening >= 0, "dampening", self.dampening, "0 or more")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        require(
            self.importance in ("batch", "sample"),
            "importance",
            self.importance,
            "'batch' or 'sample'",
        )

    def prepare(self, request: PrepareRequest) -> Importances:
        """Importances of D_tr, float32 on the CPU, by parameter name."""
        import torch

        model = copy.deepcopy(request.model).to(request.device).eval()
        order = torch.randperm(len(request.train), generator=request.generator("ssd order"))
        batches = request.train.select(order).batches(self.batch_size, request.device)
        result = self._importances(model, batches, request.task)
        return {name: value.cpu() for name, value in result.items()}

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A dampened copy of the model, in evaluation mode."""
        model = copy.deepcopy(request.model).to(request.device).eval()
        inputs = request.support.inputs().to(request.device)
        labels = request.support.labels.to(request.device)
        batches = _smaller([(inputs, labels)], self.batch_size)
        forget = self._importances(model, batches, request.task)
        original = {name: request.prepared[name].to(request.device) for name in forget}
        dampen(model, forget, original, alpha=self.alpha, dampening=self.dampening)
        return model

    def _importances(
        self, model: nn.Module, batches: Iterable[tuple[torch.Tensor, torch.Tensor]], task: Task
    ) -> Importances:
        measure = batch_importances if self.importance == "batch" else sample_importances
        return measure(model, batches, task)


def batch_importances(
    model: nn.Module, batches: Iterable[tuple[torch.Tensor, torch.Tensor]], task: Task
) -> Importances:
    """Mean over batches of the squared gradient of the batch's mean loss.

    Args:
        model: In evaluation mode; only its parameters that require a gradient are measured.
        batches: (inputs [B, 3, S, S], labels) on the model's device, at least one.
        task: Which loss.
    """
    import torch

    from oneshui.losses import task_loss

    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    total = [torch.zeros_like(parameter) for parameter in parameters.values()]
    count = 0
    for inputs, labels in batches:
        loss = task_loss(model(inputs), labels, task)
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        torch._foreach_addcmul_(total, gradients, gradients)
        count += 1
    torch._foreach_div_(total, count)
    return dict(zip(parameters, total, strict=True))


def sample_importances(
    model: nn.Module, batches: Iterable[tuple[torch.Tensor, torch.Tensor]], task: Task
) -> Importances:
    """Mean over images of the squared gradient of the image's loss.

    Equals ``batch_importances`` with batches of one image. Gradients of several images are
    computed at once, of as many as MAX_GRADIENT_NUMBERS allows.

    Args:
        model: In evaluation mode; only its parameters that require a gradient are measured.
        batches: (inputs [B, 3, S, S], labels) on the model's device, at least one.
        task: Which loss.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from oneshui.losses import task_loss

    parameters = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    num_numbers = sum(parameter.numel() for parameter in parameters.values())
    chunk_size = max(1, MAX_GRADIENT_NUMBERS // num_numbers)

    def loss(
        parameters: dict[str, torch.Tensor], image: torch.Tensor, label: torch.Tensor
    ) -> torch.Tensor:
        logits = torch.func.functional_call(model, parameters, image[None])
        return task_loss(logits, label[None], task)

    gradients_of = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    count = 0
    # The fused attention kernels have no rule for a batch of gradients.
    with sdpa_kernel(SDPBackend.MATH):
        for inputs, labels in _smaller(batches, chunk_size):
            for name, gradient in gradients_of(parameters, inputs, labels).items():
                total[name] += gradient.square().sum(dim=0)
            count += len(inputs)
    return {name: value / count for name, value in total.items()}


def _smaller(
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]], size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    import torch

    for inputs, labels in batches:
        yield from zip(torch.split(inputs, size), torch.split(labels, size), strict=True)


def dampen(
    model: nn.Module,
    forget: Mapping[str, torch.Tensor],
    original: Mapping[str, torch.Tensor],
    *,
    alpha: float,
    dampening: float,
) -> None:
    """Dampen the model's weights in place.

    Args:
        model: The model.
        forget: Importances of S.
        original: Importances of D_tr, with the same names and shapes.
        alpha: Selection threshold.
        dampening: Lambda.
    """
    import torch

    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, importance in forget.items():
            # A selected weight has a positive importance to S, so nothing is divided by 0.
            selected = importance > alpha * original[name]
            factor = (dampening * original[name] / importance).clamp(max=1.0)
            parameters[name].mul_(torch.where(selected, factor, 1.0))
