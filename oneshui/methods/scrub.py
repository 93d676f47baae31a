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
(R3). Forget and retain images are augmented alike (R6).

``step`` is the length of a step at the clipping norm, the longest that a forget step can be at the
start: the first one's own is none.

``scrub_support`` is what 1-SHUI leaves of it: the forget steps with S in place of D_f, and no
retain steps.

Deviations: batches are drawn by the request's own generator; the model is in evaluation mode;
nothing is evaluated on the way (R5).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from oneshui.methods._teachers import TeacherSteps
from oneshui.methods.base import STEP_RANGE, Range, register
from oneshui.methods.fields import number
from oneshui.spec import Access

if TYPE_CHECKING:
    from torch import nn

    from oneshui.requests import UnlearnRequest


@register
@dataclass(frozen=True, kw_only=True)
class SCRUB(TeacherSteps):
    """Forget steps on D_f, then retain steps on D_r.

    Attributes:
        epochs: Passes over D_r.
        temperature: Divides logits in the divergence.
        forget_epochs: The first so many epochs begin with a pass over D_f.
        alpha: Weight of the divergence on D_r.
        gamma: Weight of the task loss on D_r.
        forget_batch_size: Images per forget step.
        retain_batch_size: Images per retain step.
        augmentation: Of all images: "none", "flip" or "crop" (the paper's).
    """

    name: ClassVar[str] = "scrub"
    access: ClassVar[Access] = Access.FULL
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=1e-4, high=0.1, log=True),
        "forget_epochs": Range(low=1, high=9),
    }
    relative_space: ClassVar[Mapping[str, Range]] = {"step": STEP_RANGE}

    epochs: int = number(10, at_least=1)
    temperature: float = number(4.0, above=0)
    forget_epochs: int = number(5, at_least=0)
    alpha: float = number(0.001, at_least=0)
    gamma: float = number(0.99, at_least=0)
    forget_batch_size: int = number(32, at_least=1)
    retain_batch_size: int = number(32, at_least=1)
    augmentation: Literal["none", "flip", "crop"] = "crop"

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the model, in evaluation mode, after all steps.

        Raises:
            DataAccessError: The request carries no D_f and D_r.
            InputError: ``divergence`` does not fit the task.
        """
        from oneshui.methods._distillation import scrub
        from oneshui.methods._sgd import full_access, shuffled_batches

        full = full_access(request, self.name)
        self.check(full.model, full.task)
        model = copy.deepcopy(full.model).to(full.device).eval()
        forget_draws = full.generator("scrub forget")
        retain_draws = full.generator("scrub retain")
        scrub(
            model,
            self,
            lambda: shuffled_batches(
                full.forget,
                self.forget_batch_size,
                device=full.device,
                generator=forget_draws,
                augmentation=self.augmentation,
            ),
            lambda: shuffled_batches(
                full.retain,
                self.retain_batch_size,
                device=full.device,
                generator=retain_draws,
                augmentation=self.augmentation,
            ),
            temperature=self.temperature,
            forget_epochs=self.forget_epochs,
            task=full.task,
            alpha=self.alpha,
            gamma=self.gamma,
        )
        return model


@register
@dataclass(frozen=True, kw_only=True)
class SCRUBSupport(TeacherSteps):
    """SCRUB from the support set alone: forget steps on S, and nothing to repair with.

    It shows what SCRUB owes to the retain data. Without those, only weight decay takes the first
    step away from the teacher, not S: one epoch over a single batch forgets nothing, and without
    weight decay nothing but rounding ever starts it.

    Attributes:
        epochs: Passes over S.
        temperature: Divides logits in the divergence.
        batch_size: Images per step.
    """

    name: ClassVar[str] = "scrub_support"
    access: ClassVar[Access] = Access.SUPPORT
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=1e-4, high=0.1, log=True),
        "epochs": Range(low=2, high=20),
    }
    relative_space: ClassVar[Mapping[str, Range]] = {"step": STEP_RANGE}

    temperature: float = number(4.0, above=0)
    batch_size: int = number(32, at_least=1)

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the model, in evaluation mode, after the forget steps.

        Raises:
            InputError: ``divergence`` does not fit the task.
        """
        from oneshui.methods._distillation import scrub
        from oneshui.methods._sgd import shuffled_batches, support_images

        self.check(request.model, request.task)
        model = copy.deepcopy(request.model).to(request.device).eval()
        support = support_images(request.support)
        draws = request.generator("scrub_support batches")
        scrub(
            model,
            self,
            lambda: shuffled_batches(
                support, self.batch_size, device=request.device, generator=draws
            ),
            temperature=self.temperature,
            forget_epochs=self.epochs,
            task=request.task,
        )
        return model
