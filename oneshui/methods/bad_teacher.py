"""Bad Teacher: predict like an untrained network on D_f, like the pretrained one on D_r.

Source: Chundawat et al., "Can bad teaching induce forgetting? Unlearning in deep networks using
an incompetent teacher" (arXiv 2205.08096), as the 1-SHUI benchmark (arXiv 2407.12069) runs it.
Batches are drawn from D_f and D_r together; with s = 1 for an image of D_f and 0 for one of D_r,

    q = s p_dumb + (1 - s) p_original,      loss = mean over images of KL(q || p_student).

Kept from the reference (docs/benchmark.md, R4): the divergence is summed over outputs, SGD with
momentum and a cosine over epochs, all retain data. ``divergence="softmax"`` is the reference, also
for attributes; "bernoulli" sums over independent attributes (R1).

Deviations: the dumb teacher is drawn from the request's own generator, never from pretraining's
starting weights, which may be ImageNet's; only retain images are augmented; the model is in
evaluation mode; nothing is evaluated on the way (R5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from oneshui.methods.base import Range, register
from oneshui.spec import Access, Task, require

if TYPE_CHECKING:
    from torch import nn

    from oneshui.requests import UnlearnRequest


@register
@dataclass(frozen=True, kw_only=True)
class BadTeacher:
    """Follows a random network on D_f and the pretrained one on D_r.

    Attributes:
        learning_rate: Of the first epoch; a cosine over epochs follows.
        epochs: Passes over D_f and D_r together.
        batch_size: Images per step.
        momentum: Of SGD.
        weight_decay: L2 penalty.
        divergence: "softmax" (the reference's), or "bernoulli" for independent attributes.
        augmentation: Of retain images: "none", "flip" or "crop".
    """

    name: ClassVar[str] = "bad_teacher"
    access: ClassVar[Access] = Access.FULL
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=1e-5, high=0.1, log=True),
        "epochs": Range(low=1, high=10),
    }

    learning_rate: float = 1e-4
    epochs: int = 5
    batch_size: int = 32
    momentum: float = 0.9
    weight_decay: float = 5e-4
    divergence: Literal["softmax", "bernoulli"] = "softmax"
    augmentation: Literal["none", "flip", "crop"] = "none"

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        for name in ("epochs", "batch_size"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        require(
            self.divergence in ("softmax", "bernoulli"),
            "divergence",
            self.divergence,
            "'softmax' or 'bernoulli'",
        )
        require(
            self.augmentation in ("none", "flip", "crop"),
            "augmentation",
            self.augmentation,
            "'none', 'flip' or 'crop'",
        )

    def check(self, model: nn.Module, task: Task) -> None:  # noqa: ARG002
        """Refuse a divergence that does not fit the task.

        Raises:
            InputError: ``divergence`` is "bernoulli" and the task has classes.
        """
        from oneshui.methods._distillation import require_divergence

        require_divergence(self.divergence, task, self.name)

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the model, in evaluation mode, taught by both teachers.

        Raises:
            DataAccessError: The request carries no D_f and D_r.
            InputError: ``divergence`` does not fit the task.
        """
        from oneshui.methods._distillation import (
            BadTeacherOptions,
            bad_teaching,
            require_divergence,
        )
        from oneshui.methods._sgd import full_access

        full = full_access(request, self.name)
        require_divergence(self.divergence, request.task, self.name)
        return bad_teaching(
            request,
            full.forget,
            full.retain,
            BadTeacherOptions(
                epochs=self.epochs,
                learning_rate=self.learning_rate,
                momentum=self.momentum,
                weight_decay=self.weight_decay,
                divergence=self.divergence,
            ),
            batch_size=self.batch_size,
            augmentation=self.augmentation,
        )
