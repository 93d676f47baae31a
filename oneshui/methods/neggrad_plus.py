"""NegGrad+: descend on D_r and ascend on D_f in the same step.

Source: Kurmanji et al., "Towards unbounded machine unlearning" (arXiv 2302.09880), where it is the
strengthened form of the NegGrad baseline. Every batch R of D_r is paired with a batch F of D_f:

    loss = beta l(R) - (1 - beta) l(F).

D_f is gone through again, in a new order, when it ends before D_r does. The ascent has no floor,
so ``clip_norm`` bounds the gradient. The benchmark's code has no such method, so there is nothing
to deviate from.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from oneshui.methods.base import STEP_RANGE, Range, register
from oneshui.methods.fields import number
from oneshui.spec import Access

if TYPE_CHECKING:
    import torch
    from torch import nn

    from oneshui.requests import UnlearnRequest


@register
@dataclass(frozen=True, kw_only=True)
class NegGradPlus:
    """Trains on with D_r and against D_f.

    Attributes:
        learning_rate: Of the first epoch; a cosine over epochs follows.
        step: Length of the first step as a share of the norm of the weights that move, in place of
            ``learning_rate``; 0: not used.
        epochs: Passes over D_r.
        beta: Share of the retain loss; the rest is the forget loss's.
        batch_size: Images of D_r per step, and at most so many of D_f.
        momentum: Of SGD.
        weight_decay: L2 penalty.
        clip_norm: Largest norm of the gradient; 0 leaves it alone.
        augmentation: Of retain images: "none", "flip" or "crop".
    """

    name: ClassVar[str] = "neggrad_plus"
    access: ClassVar[Access] = Access.FULL
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=1e-4, high=1.0, log=True),
        "beta": Range(low=0.5, high=0.999),
    }
    relative_space: ClassVar[Mapping[str, Range]] = {"step": STEP_RANGE}
    nothing: ClassVar[Mapping[str, float | int]] = {"learning_rate": 0.0, "step": 0.0}

    learning_rate: float = number(0.01, at_least=0)
    step: float = number(0.0, at_least=0)
    epochs: int = number(5, at_least=1)
    beta: float = number(0.95, at_least=0, at_most=1)
    batch_size: int = number(32, at_least=1)
    momentum: float = number(0.9, at_least=0, below=1)
    weight_decay: float = number(5e-4, at_least=0)
    clip_norm: float = number(1.0, at_least=0)
    augmentation: Literal["none", "flip", "crop"] = "none"

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the model, in evaluation mode, after all steps.

        Raises:
            DataAccessError: The request carries no D_f and D_r.
        """
        from oneshui.methods._sgd import CosineSGD, full_access, shuffled_batches
        from oneshui.training.losses import task_loss

        full = full_access(request, self.name)
        model = copy.deepcopy(full.model).to(full.device).eval()
        retain_draws = full.generator("neggrad_plus retain")
        forget_draws = full.generator("neggrad_plus forget")

        def forget_batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            while True:
                yield from shuffled_batches(
                    full.forget, self.batch_size, device=full.device, generator=forget_draws
                )

        forget = forget_batches()
        sgd = CosineSGD(model, self)
        for epoch in range(self.epochs):
            sgd.start_epoch(epoch)
            for inputs, labels in shuffled_batches(
                full.retain,
                self.batch_size,
                device=full.device,
                generator=retain_draws,
                augmentation=self.augmentation,
            ):
                forget_inputs, forget_labels = next(forget)
                kept = task_loss(model(inputs), labels, full.task)
                lost = task_loss(model(forget_inputs), forget_labels, full.task)
                sgd.step(self.beta * kept - (1 - self.beta) * lost, self.clip_norm)
        return model
