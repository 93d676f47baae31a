"""Fine-tuning on D_r: forgetting by not being reminded.

Source: the fine-tuning baseline of Golatkar et al., "Eternal sunshine of the spotless net"
(arXiv 1911.04933): train on with the task loss on the retain set alone. The benchmark's code has
no such method, so there is nothing to deviate from.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from oneshui.methods.base import STEP_RANGE, Range, register
from oneshui.methods.fields import clipping, number
from oneshui.spec import Access

if TYPE_CHECKING:
    from torch import nn

    from oneshui.requests import UnlearnRequest


@register
@dataclass(frozen=True, kw_only=True)
class FineTune:
    """Trains on with D_r.

    Attributes:
        learning_rate: Of the first epoch; a cosine over epochs follows.
        step: Length of the first step as a share of the norm of the weights that move, in place of
            ``learning_rate``; 0: not used.
        epochs: Passes over D_r.
        batch_size: Images per step.
        momentum: Of SGD.
        weight_decay: L2 penalty.
        augmentation: "none", "flip" or "crop".
        clip_norm: Largest norm of the gradient; 0 leaves it alone.
    """

    name: ClassVar[str] = "finetune"
    access: ClassVar[Access] = Access.FULL
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=1e-4, high=1.0, log=True),
        "epochs": Range(low=1, high=10),
    }
    relative_space: ClassVar[Mapping[str, Range]] = {"step": STEP_RANGE}
    nothing: ClassVar[Mapping[str, float | int]] = {"learning_rate": 0.0, "step": 0.0}

    learning_rate: float = number(0.01, at_least=0)
    step: float = number(0.0, at_least=0)
    epochs: int = number(5, at_least=1)
    batch_size: int = number(32, at_least=1)
    momentum: float = number(0.9, at_least=0, below=1)
    weight_decay: float = number(5e-4, at_least=0)
    augmentation: Literal["none", "flip", "crop"] = "none"
    clip_norm: float = clipping()

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the model, in evaluation mode, trained on with D_r.

        Raises:
            DataAccessError: The request carries no D_f and D_r.
        """
        from oneshui.methods._sgd import CosineSGD, full_access, shuffled_batches
        from oneshui.training.losses import task_loss

        full = full_access(request, self.name)
        model = copy.deepcopy(full.model).to(full.device).eval()
        generator = full.generator("finetune batches")
        sgd = CosineSGD(model, self)
        for epoch in range(self.epochs):
            sgd.start_epoch(epoch)
            for inputs, labels in shuffled_batches(
                full.retain,
                self.batch_size,
                device=full.device,
                generator=generator,
                augmentation=self.augmentation,
            ):
                sgd.step(task_loss(model(inputs), labels, full.task))
        return model
