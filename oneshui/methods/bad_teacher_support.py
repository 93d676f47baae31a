"""Bad Teacher from the support set alone: predict like an untrained network on S.

Source: Chundawat et al., "Can bad teaching induce forgetting? Unlearning in deep networks using
an incompetent teacher" (arXiv 2205.08096), cut down to what 1-SHUI leaves: the steps of
``oneshui.methods.bad_teacher`` with S in place of D_f and no retain images (s = 1 throughout), so
that the good teacher has nothing to say. It shows what Bad Teacher owes to the retain data.
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
class BadTeacherSupport:
    """Follows a random network on S.

    Attributes:
        learning_rate: Of the first epoch; a cosine over epochs follows.
        epochs: Passes over S.
        batch_size: Images per step.
        momentum: Of SGD.
        weight_decay: L2 penalty.
        divergence: "softmax" (the reference's), or "bernoulli" for independent attributes.
    """

    name: ClassVar[str] = "bad_teacher_support"
    access: ClassVar[Access] = Access.SUPPORT
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=1e-5, high=0.1, log=True),
        "epochs": Range(low=1, high=20),
    }

    learning_rate: float = 1e-4
    epochs: int = 5
    batch_size: int = 32
    momentum: float = 0.9
    weight_decay: float = 5e-4
    divergence: Literal["softmax", "bernoulli"] = "softmax"

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

    def check(self, model: nn.Module, task: Task) -> None:  # noqa: ARG002
        """Refuse a divergence that does not fit the task.

        Raises:
            InputError: ``divergence`` is "bernoulli" and the task has classes.
        """
        from oneshui.methods._distillation import require_divergence

        require_divergence(self.divergence, task, self.name)

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the model, in evaluation mode, taught by the random network.

        Raises:
            InputError: ``divergence`` does not fit the task.
        """
        from oneshui.methods._distillation import (
            BadTeacherOptions,
            bad_teaching,
            require_divergence,
        )
        from oneshui.methods._sgd import support_images

        require_divergence(self.divergence, request.task, self.name)
        return bad_teaching(
            request,
            support_images(request.support),
            None,
            BadTeacherOptions(
                epochs=self.epochs,
                learning_rate=self.learning_rate,
                momentum=self.momentum,
                weight_decay=self.weight_decay,
                divergence=self.divergence,
            ),
            batch_size=self.batch_size,
        )
