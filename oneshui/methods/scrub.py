"""SCRUB: move away from the pretrained model on D_f, stay with it on D_r.

Source: Kurmanji et al., "Towards unbounded machine unlearning" (arXiv 2302.09880), as the 1-SHUI
benchmark (arXiv 2407.12069) runs it. With the pretrained model as teacher, the student z and
temperature T, KL = T^2 KL(teacher / T || student / T) per image:

    forget step, first E_f epochs:   maximise KL on a batch of D_f, gradient clipped to norm 1
    retain step, every epoch:        minimise alpha KL + gamma l on a batch of D_r

Kept from the reference (docs/benchmark.md, R2): SGD with momentum for both, one cosine over
epochs, clipping in forget steps only. ``divergence="softmax"`` is the reference, also for
attributes, where a common shift of all logits goes unseen; "bernoulli" sums over independent
attributes (R1). At the start student and teacher agree, so the first forget batch has no gradient
but rounding, and with a D_f of one batch the first forget epoch does nothing but decay weights
(R3).

Deviations: batches are drawn by the request's own generator; the model is in evaluation mode;
nothing is evaluated on the way (R5).
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
class SCRUB:
    """Forget steps on D_f, then retain steps on D_r.

    Attributes:
        learning_rate: Of the first epoch; a cosine over epochs follows.
        epochs: Passes over D_r.
        forget_epochs: The first so many epochs begin with a pass over D_f.
        temperature: Divides logits in the divergence.
        alpha: Weight of the divergence on D_r.
        gamma: Weight of the task loss on D_r.
        forget_batch_size: Images per forget step.
        retain_batch_size: Images per retain step.
        momentum: Of SGD.
        weight_decay: L2 penalty.
        divergence: "softmax" (the reference's), or "bernoulli" for independent attributes.
        augmentation: Of retain images: "none", "flip" or "crop" (the paper's).
    """

    name: ClassVar[str] = "scrub"
    access: ClassVar[Access] = Access.FULL
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=1e-4, high=0.1, log=True),
        "forget_epochs": Range(low=1, high=9),
    }

    learning_rate: float = 0.01
    epochs: int = 10
    forget_epochs: int = 5
    temperature: float = 4.0
    alpha: float = 0.001
    gamma: float = 0.99
    forget_batch_size: int = 32
    retain_batch_size: int = 32
    momentum: float = 0.9
    weight_decay: float = 5e-4
    divergence: Literal["softmax", "bernoulli"] = "softmax"
    augmentation: Literal["none", "flip", "crop"] = "crop"

    def __post_init__(self) -> None:
        for name in ("learning_rate", "temperature"):
            require(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        for name in ("epochs", "forget_batch_size", "retain_batch_size"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("forget_epochs", "alpha", "gamma", "weight_decay"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")
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
        """A copy of the model, in evaluation mode, after all steps.

        Raises:
            DataAccessError: The request carries no D_f and D_r.
            InputError: ``divergence`` does not fit the task.
        """
        from oneshui.methods._distillation import ScrubOptions, require_divergence, scrub
        from oneshui.methods._sgd import full_access, shuffled_batches

        full = full_access(request, self.name)
        require_divergence(self.divergence, full.task, self.name)
        model = copy.deepcopy(full.model).to(full.device).eval()
        forget_draws = full.generator("scrub forget")
        retain_draws = full.generator("scrub retain")
        scrub(
            model,
            lambda: shuffled_batches(
                full.forget, self.forget_batch_size, device=full.device, generator=forget_draws
            ),
            lambda: shuffled_batches(
                full.retain,
                self.retain_batch_size,
                device=full.device,
                generator=retain_draws,
                augmentation=self.augmentation,
            ),
            ScrubOptions(
                epochs=self.epochs,
                forget_epochs=self.forget_epochs,
                learning_rate=self.learning_rate,
                momentum=self.momentum,
                weight_decay=self.weight_decay,
                temperature=self.temperature,
                alpha=self.alpha,
                gamma=self.gamma,
                divergence=self.divergence,
            ),
            task=full.task,
        )
        return model
