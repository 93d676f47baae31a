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

from oneshui.methods.base import Range, register
from oneshui.spec import Access, require

if TYPE_CHECKING:
    from torch import nn

    from oneshui.requests import UnlearnRequest


@register
@dataclass(frozen=True, kw_only=True)
class FineTune:
    """Trains on with D_r.

    Attributes:
        learning_rate: Of the first epoch; a cosine over epochs follows.
        epochs: Passes over D_r.
        batch_size: Images per step.
        momentum: Of SGD.
        weight_decay: L2 penalty.
        augmentation: "none", "flip" or "crop".
    """

    name: ClassVar[str] = "finetune"
    access: ClassVar[Access] = Access.FULL
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=1e-4, high=1.0, log=True),
        "epochs": Range(low=1, high=10),
    }

    learning_rate: float = 0.01
    epochs: int = 5
    batch_size: int = 32
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augmentation: Literal["none", "flip", "crop"] = "none"

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        for name in ("epochs", "batch_size"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        require(
            self.augmentation in ("none", "flip", "crop"),
            "augmentation",
            self.augmentation,
            "'none', 'flip' or 'crop'",
        )

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
        sgd = CosineSGD(
            model,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
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
