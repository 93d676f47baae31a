"""SCRUB from the support set alone: forget steps on S, and nothing to repair with.

Source: Kurmanji et al., "Towards unbounded machine unlearning" (arXiv 2302.09880), cut down to
what 1-SHUI leaves: the forget steps of ``oneshui.methods.scrub`` with S in place of D_f, and no
retain steps. It shows what SCRUB owes to the retain data.

The student starts as its own teacher, where the divergence has no gradient: weight decay, not S,
takes the first step away (docs/benchmark.md, R3). So one epoch over a single batch forgets nothing,
and without weight decay nothing but rounding ever starts it.
"""

from __future__ import annotations

import copy
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
class SCRUBSupport:
    """Moves away from the pretrained model on S.

    Attributes:
        learning_rate: Of the first epoch; a cosine over epochs follows.
        epochs: Passes over S.
        temperature: Divides logits in the divergence.
        batch_size: Images per step.
        momentum: Of SGD.
        weight_decay: L2 penalty.
        divergence: "softmax" (the reference's), or "bernoulli" for independent attributes.
    """

    name: ClassVar[str] = "scrub_support"
    access: ClassVar[Access] = Access.SUPPORT
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=1e-4, high=0.1, log=True),
        "epochs": Range(low=2, high=20),
    }

    learning_rate: float = 0.01
    epochs: int = 5
    temperature: float = 4.0
    batch_size: int = 32
    momentum: float = 0.9
    weight_decay: float = 5e-4
    divergence: Literal["softmax", "bernoulli"] = "softmax"

    def __post_init__(self) -> None:
        for name in ("learning_rate", "temperature"):
            require(getattr(self, name) > 0, name, getattr(self, name), "above 0")
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
        """A copy of the model, in evaluation mode, after the forget steps.

        Raises:
            InputError: ``divergence`` does not fit the task.
        """
        from oneshui.methods._distillation import ScrubOptions, require_divergence, scrub
        from oneshui.methods._sgd import shuffled_batches, support_images

        require_divergence(self.divergence, request.task, self.name)
        model = copy.deepcopy(request.model).to(request.device).eval()
        support = support_images(request.support)
        draws = request.generator("scrub_support batches")
        scrub(
            model,
            lambda: shuffled_batches(
                support, self.batch_size, device=request.device, generator=draws
            ),
            None,
            ScrubOptions(
                epochs=self.epochs,
                forget_epochs=self.epochs,
                learning_rate=self.learning_rate,
                momentum=self.momentum,
                weight_decay=self.weight_decay,
                temperature=self.temperature,
                divergence=self.divergence,
            ),
            task=request.task,
        )
        return model
