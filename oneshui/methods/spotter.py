"""Spotter: masked distillation at and around S, and features that no longer find the person.

Source: Ha et al., "Unlearning's blind spots: over-unlearning and prototypical relearning attack"
(ICML 2026, arXiv 2506.01318) and its authors' code (Seung-B/Spotter-Unlearning). With f0 the
pretrained model, t(x) DELETE's target (``oneshui.methods.delete``) and h(x) what enters the
classifier,

    loss = m d( t(x), f(x) ) + (1 - m) d( t(x'), f(x') ) + w mean cos( h(a), h(b) )

by SGD with momentum at one rate. d is the KL divergence. x' is near x: from a random start in the
ball of radius epsilon (largest change of a value), a few steps of signs of gradients, made once
with f0; it stands for the neighbours that forgetting would hurt. The published code raises the
loss of the wrong class that f0 gives most to, and takes the pairs (a, b) from those images of a
batch that share a class, which is what is done wherever there are classes. Defaults are its own.

Ours (docs/benchmark.md, F8 to F10):

- Attributes are no classes, and of a person there is one image: there a and b are views of the
  same image, crops that are mirrored half of the time, drawn anew at every step. Whoever looks for
  a person by features compares just such images. ``pairs`` says which, whatever the task.
- Only the image's own class is masked, where the source masks all that are forgotten.
- Of attributes t and d are those of ``oneshui.methods.delete``, and x' raises the loss at y.
- epsilon is in the units of pixels. The source adds it to images with mean 0 and deviation 1 and
  then cuts them at 0 and 1, which ours are not.

For both tasks S stands in place of the forgotten class's training images (F1), and images but the
views are not augmented (F4). With views a step costs six of gradient ascent, x, x' and four views.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from oneshui.errors import InputError
from oneshui.methods._passes import SupportPasses
from oneshui.methods.base import Range, register
from oneshui.methods.fields import number
from oneshui.spec import Task

if TYPE_CHECKING:
    import torch
    from torch import nn

    from oneshui.requests import UnlearnRequest


@register
@dataclass(frozen=True, kw_only=True)
class Spotter(SupportPasses):
    """Masked distillation at S and near it, and views of a person that look less alike.

    Attributes:
        epsilon: Radius of the ball around an image; 1 is the way from black to white.
        attack_step: How far every value of an image moves at once, in the same unit.
        attack_steps: How often.
        own_share: m, weight of the images themselves; the rest is their neighbours'.
        dispersion: w, weight of the mean cosine.
        pairs: Whose features go apart: "class" for images of a batch that share a class, "person"
            for views of the same image, "task" for the published where it can be had: of a class
            where there are classes, of a person where there are attributes.
        views: Of every image, with pairs of a person.
    """

    name: ClassVar[str] = "spotter"
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=1e-5, high=0.1, log=True),
        "dispersion": Range(low=0.1, high=10.0, log=True),
    }

    learning_rate: float = number(1e-4, at_least=0)
    epochs: int = number(10, at_least=1)
    batch_size: int = number(128, at_least=1)
    weight_decay: float = number(5e-4, at_least=0)
    epsilon: float = number(0.03, at_least=0)
    attack_step: float = number(0.01, at_least=0)
    attack_steps: int = number(3, at_least=1)
    own_share: float = number(0.7, at_least=0, at_most=1)
    dispersion: float = number(1.0, at_least=0)
    pairs: Literal["task", "person", "class"] = "task"
    views: int = number(4, at_least=2)

    def check(self, model: nn.Module, task: Task) -> None:  # noqa: ARG002
        """Refuse pairs of a class where there are attributes.

        Raises:
            InputError: ``pairs`` is "class" and the task is "multilabel".
        """
        if self.pairs == "class" and task == "multilabel":
            raise InputError(
                "spotter.pairs is 'class', but this dataset has attributes, not classes: use "
                "'person', or 'task' for either"
            )

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the model, in evaluation mode, after all passes.

        Raises:
            InputError: ``pairs`` does not fit the task.
        """
        import torch

        from oneshui.data.images import augment
        from oneshui.methods._masked import distance, masked
        from oneshui.methods._sgd import label_prior
        from oneshui.training.models import FeaturesAndLogits

        self.check(request.model, request.task)
        model = copy.deepcopy(request.model).to(request.device).eval()
        images = request.support.images.to(request.device)
        inputs = request.support.inputs().to(request.device)
        labels = request.support.labels.to(request.device)
        prior = label_prior(labels)
        near = self._neighbours(model, inputs, labels, request)
        with torch.no_grad():
            own, theirs = (masked(model(x), labels, prior) for x in (inputs, near))
        both, draws = FeaturesAndLogits(model), request.generator("spotter views")
        of_class = self.pairs == "class" or (self.pairs == "task" and request.task == "multiclass")

        def views(at: torch.Tensor) -> torch.Tensor:
            seeds = torch.randint(2**62, (self.views,), generator=draws).tolist()
            rows, size = at.cpu().numpy(), images.shape[-1]
            return torch.cat(
                [augment(images[at], rows, "crop", size=size, seed=seed) for seed in seeds]
            )

        def loss(at: torch.Tensor) -> torch.Tensor:
            logits, features = both(inputs[at])
            if of_class:
                alike = mean_cosine(features, labels[at])
            else:
                alike = mean_cosine(both(views(at))[1], at.repeat(self.views))
            here = distance(logits, own[at], request.task)
            around = distance(model(near[at]), theirs[at], request.task)
            return self.own_share * here + (1 - self.own_share) * around + self.dispersion * alike

        self._descend(model, request, loss)
        return model

    def _neighbours(
        self,
        model: nn.Module,
        inputs: torch.Tensor,
        labels: torch.Tensor,
        request: UnlearnRequest,
    ) -> torch.Tensor:
        import torch

        from oneshui.methods._adversarial import Attack
        from oneshui.methods._masked import masked

        if request.task == "multiclass":
            with torch.no_grad():
                labels = masked(model(inputs), labels, None).argmax(1)
        attack = Attack(
            norm="linf", epsilon=self.epsilon, step=self.attack_step, steps=self.attack_steps
        )
        start = request.generator("spotter neighbours")
        return attack(model, inputs, labels, request.task, towards=False, generator=start)


def mean_cosine(features: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Mean cosine over all pairs of two rows of the same group, a scalar; 0 without a pair.

    Args:
        features: [K, D].
        groups: int64 [K].
    """
    import torch
    from torch.nn import functional as F

    normal = F.normalize(features, dim=1)
    is_pair = groups[:, None] == groups[None]
    is_pair = is_pair & ~torch.eye(len(groups), dtype=torch.bool, device=groups.device)
    total: torch.Tensor = ((normal @ normal.T) * is_pair).sum()
    return total / is_pair.sum().clamp(min=1)
