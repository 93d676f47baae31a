"""SalUn: random labels on D_f, learned by the weights that D_f hangs on most.

Source: Fan et al., "SalUn: empowering machine unlearning via gradient-based weight saliency in
both image classification and generation" (arXiv 2310.12508). With g the gradient of the mean
forget loss at the pretrained weights, the mask keeps the entries of all weights together whose
|g| is above its quantile ``sparsity`` (the median by default), and

    loss = l(f(x), y') for x in D_f, with y' random,    l(f(x), y) for x in D_r

moves those entries only. Choices that the source leaves open: images of D_f and D_r share batches
and weigh the same; y' is drawn anew every epoch, a class uniformly from the other classes, an
attribute with the share it has in D_r, so that the labels stay as common as they are and only
their tie to the image is lost. The benchmark's code has no such method.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from oneshui.methods.base import STEP_RANGE, Range, register
from oneshui.methods.fields import clipping, number
from oneshui.spec import Access

if TYPE_CHECKING:
    import torch
    from torch import nn

    from oneshui.requests import UnlearnRequest
    from oneshui.spec import Task


@register
@dataclass(frozen=True, kw_only=True)
class SalUn:
    """Fine-tunes the salient weights on random labels for D_f and true ones for D_r.

    Attributes:
        learning_rate: Of the first epoch; a cosine over epochs follows.
        step: Length of the first step as a share of the norm of the weights that move, in place of
            ``learning_rate``; 0: not used.
        epochs: Passes over D_f and D_r together.
        sparsity: Share of the weights that stay as they are; 0 moves all.
        batch_size: Images per step.
        momentum: Of SGD.
        weight_decay: L2 penalty, on the weights that move.
        augmentation: Of all images: "none", "flip" or "crop".
        clip_norm: Largest norm of the gradient; 0 leaves it alone.
    """

    name: ClassVar[str] = "salun"
    access: ClassVar[Access] = Access.FULL
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=1e-4, high=1.0, log=True),
        "sparsity": Range(low=0.1, high=0.9),
    }
    relative_space: ClassVar[Mapping[str, Range]] = {"step": STEP_RANGE}
    nothing: ClassVar[Mapping[str, float | int]] = {"learning_rate": 0.0, "step": 0.0}

    learning_rate: float = number(0.01, at_least=0)
    step: float = number(0.0, at_least=0)
    epochs: int = number(5, at_least=1)
    sparsity: float = number(0.5, at_least=0, below=1)
    batch_size: int = number(32, at_least=1)
    momentum: float = number(0.9, at_least=0, below=1)
    weight_decay: float = number(5e-4, at_least=0)
    augmentation: Literal["none", "flip", "crop"] = "none"
    clip_norm: float = clipping()

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the model, in evaluation mode, after all steps.

        Raises:
            DataAccessError: The request carries no D_f and D_r.
        """
        import torch

        from oneshui.methods._sgd import (
            CosineSGD,
            full_access,
            label_prior,
            mixed_batches,
            random_labels,
        )
        from oneshui.training.losses import task_loss
        from oneshui.training.models import classifier_of

        full = full_access(request, self.name)
        model = copy.deepcopy(full.model).to(full.device).eval()
        num_outputs = classifier_of(model).out_features
        prior = label_prior(full.retain.labels)
        draws, label_draws = full.generator("salun batches"), full.generator("salun labels")
        forget_batches = full.forget.batches(self.batch_size, full.device)
        masks = saliency_masks(model, forget_batches, full.task, self.sparsity)
        sgd = CosineSGD(model, self, masks)
        for epoch in range(self.epochs):
            sgd.start_epoch(epoch)
            for inputs, labels, is_forget in mixed_batches(
                full.forget,
                full.retain,
                self.batch_size,
                device=full.device,
                generator=draws,
                augmentation=self.augmentation,
            ):
                false = random_labels(labels, prior, num_outputs, label_draws)
                where = is_forget if labels.ndim == 1 else is_forget.unsqueeze(1)
                targets = torch.where(where, false, labels)
                sgd.step(task_loss(model(inputs), targets, full.task))
        return model


def saliency_masks(
    model: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    task: Task,
    sparsity: float,
) -> dict[str, torch.Tensor]:
    """1 where the mean loss's gradient is among the largest, else 0; by parameter name.

    Args:
        model: In evaluation mode; only its parameters that require a gradient are ranked.
        batches: (inputs [B, 3, S, S], labels) of D_f on the model's device.
        task: Which loss.
        sparsity: Share of zeros over all parameters together, in [0, 1).
    """
    import torch

    from oneshui.methods._sgd import mean_gradient

    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = mean_gradient(model, list(parameters.values()), batches, task)
    sizes = torch.cat([gradient.abs().flatten() for gradient in gradients])
    num_zeros = int(sparsity * len(sizes))
    # Without a weight to leave out, a threshold below all sizes lets also those of size 0 move.
    threshold = sizes.kthvalue(num_zeros).values if num_zeros else sizes.new_tensor(-1.0)
    return {
        name: (gradient.abs() > threshold).to(gradient)
        for name, gradient in zip(parameters, gradients, strict=True)
    }
