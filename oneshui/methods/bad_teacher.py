"""Bad Teacher: predict like an untrained network on D_f, like the pretrained one on D_r.

Source: Chundawat et al., "Can bad teaching induce forgetting? Unlearning in deep networks using
an incompetent teacher" (arXiv 2205.08096), as the 1-SHUI benchmark (arXiv 2407.12069) runs it.
Batches are drawn from D_f and D_r together; with s = 1 for an image of D_f and 0 for one of D_r,

    q = s p_dumb + (1 - s) p_original,      loss = mean over images of KL(q || p_student).

Kept from the reference (docs/benchmark.md, R4): the divergence is summed over outputs, SGD with
momentum and a cosine over epochs, all retain data. ``divergence="softmax"`` is the reference, also
for attributes; "bernoulli" sums over independent attributes (R1). Forget and retain images are
augmented alike (R6).

``bad_teacher_support`` is what 1-SHUI leaves of it: S in place of D_f and no D_r (s = 1
throughout), so that the good teacher has nothing to say.

Deviations: the dumb teacher is drawn from the request's own generator, never from pretraining's
starting weights, which may be ImageNet's; the model is in evaluation mode; nothing is evaluated on
the way (R5). A teacher is asked about its own images only, and where these are not augmented once
for all epochs.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from oneshui.methods._teachers import TeacherSteps
from oneshui.methods.base import STEP_RANGE, Range, register
from oneshui.methods.fields import number
from oneshui.spec import Access

if TYPE_CHECKING:
    from torch import nn

    from oneshui.data.crops import Augmentation
    from oneshui.data.images import LabelledImages
    from oneshui.requests import UnlearnRequest


@dataclass(frozen=True, kw_only=True)
class BadTeacherSteps(TeacherSteps):
    """What following teachers on D_f and D_r, and on S alone, have in common.

    Attributes:
        batch_size: Images per step.
    """

    learning_rate: float = number(1e-4, at_least=0)
    batch_size: int = number(32, at_least=1)

    def _taught(
        self,
        request: UnlearnRequest,
        forget: LabelledImages,
        retain: LabelledImages | None,
        augmentation: Augmentation,
    ) -> nn.Module:
        """A copy of the request's model, in evaluation mode, that has followed both teachers."""
        from oneshui.methods import _distillation as distillation
        from oneshui.methods._sgd import mixed_batches

        self.check(request.model, request.task)
        device, size = request.device, self.batch_size
        model = copy.deepcopy(request.model).to(device).eval()
        dumb = distillation.random_teacher(model, request.generator("bad teacher weights"))
        dumb = dumb.to(device)
        batches = partial(
            mixed_batches,
            batch_size=size,
            device=device,
            generator=request.generator("bad teacher batches"),
            augmentation=augmentation,
        )
        if augmentation == "none":
            forget = distillation.taught_by(dumb, forget, size, device)
            if retain is not None:
                retain = distillation.taught_by(model, retain, size, device)
            distillation.follow(model, self, lambda: (it[:2] for it in batches(forget, retain)))
        else:
            distillation.follow_teachers(model, self, dumb, lambda: batches(forget, retain))
        return model


@register
@dataclass(frozen=True, kw_only=True)
class BadTeacher(BadTeacherSteps):
    """Follows a random network on D_f and the pretrained one on D_r.

    Attributes:
        epochs: Passes over D_f and D_r together.
        augmentation: Of all images: "none", "flip" or "crop".
    """

    name: ClassVar[str] = "bad_teacher"
    access: ClassVar[Access] = Access.FULL
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=1e-5, high=0.1, log=True),
        "epochs": Range(low=1, high=10),
    }
    relative_space: ClassVar[Mapping[str, Range]] = {"step": STEP_RANGE}

    augmentation: Literal["none", "flip", "crop"] = "none"

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the model, in evaluation mode, taught by both teachers.

        Raises:
            DataAccessError: The request carries no D_f and D_r.
            InputError: ``divergence`` does not fit the task.
        """
        from oneshui.methods._sgd import full_access

        full = full_access(request, self.name)
        return self._taught(request, full.forget, full.retain, self.augmentation)


@register
@dataclass(frozen=True, kw_only=True)
class BadTeacherSupport(BadTeacherSteps):
    """Follows a random network on S. It shows what Bad Teacher owes to the retain data."""

    name: ClassVar[str] = "bad_teacher_support"
    access: ClassVar[Access] = Access.SUPPORT
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=1e-5, high=0.1, log=True),
        "epochs": Range(low=1, high=20),
    }
    relative_space: ClassVar[Mapping[str, Range]] = {"step": STEP_RANGE}

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the model, in evaluation mode, taught by the random network.

        Raises:
            InputError: ``divergence`` does not fit the task.
        """
        from oneshui.methods._sgd import support_images

        return self._taught(request, support_images(request.support), None, "none")
