"""L2UL: ascend on S, and hold the model with adversarial images and unimportant weights.

Source: Cha et al., "Learning to unlearn: instance-wise unlearning for pre-trained classifiers"
(AAAI 2024, arXiv 2301.11578) and its authors' code (csm9493/L2UL). With f0 and theta_0 the
pretrained model and n = |S|,

    x'     k images per x of S: L2-PGD from a random start towards a random wrong y', on f0
    loss   = - (b / (a + b)) l(f(x), y) + (a / (a + b)) l(f(x'), y')
             + (lambda / 2) sum_i (1 - I_i) (theta_i - theta_0i)^2
    I      = | grad of the mean over S of |f0(x)|_2 |, from 0 to 1 within each tensor

by SGD with momentum at one rate; a and b are the sizes of a batch of the k n images x' and of one
of S, which is gone through again when it ends. Being wrong in f0's own way near x keeps the
boundary where it was; weights that S does not hang on are held by their squares. It stops as soon
as no image of S is classified right, at the latest after ``epochs`` passes over the x'. Defaults
are those of the authors' run on CIFAR-10.

Ours, for attributes (docs/benchmark.md, F11):

- y' is y with a share ``flips`` of its attributes turned round, drawn anew for every image.
- "No image right" would mean no attribute of any image, which nobody who was not trained on S
  comes near. It stops when the loss on S is as large as that of someone who knows nothing but how
  common the attributes of S are, (k + 1) / (n + 2). A stranger's loss, measured on D_v, would
  stop earlier; but then a preparation would be needed, where the published method has none.

Deviations for both: S in place of forgotten training images (F1); the model is in evaluation mode
(F3); y' is never y, where the published code may draw it (F12); epsilon is in the units of pixels.
A rate of 0 returns at once: the stop would never come.

It is slower than ten times gradient ascent at equal steps. A step sees a batch of x' beside S, and
before the first one there are k n images to make in ``attack_steps`` passes forth and back each:
at the defaults 2,000 passes for every image of S. All x' are held at once.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from oneshui.methods._passes import SupportPasses
from oneshui.methods.base import Range, register
from oneshui.methods.fields import number

if TYPE_CHECKING:
    import torch
    from torch import nn

    from oneshui.requests import UnlearnRequest
    from oneshui.spec import Task


@register
@dataclass(frozen=True, kw_only=True)
class L2UL(SupportPasses):
    """Ascends on S, held by adversarial images and by the weights that S does not hang on.

    Attributes:
        epochs: Passes over the adversarial images, at most.
        batch_size: Adversarial images per step, and at most so many of S.
        num_adversarial: k, adversarial images per image of S.
        epsilon: L2 radius of the ball around an image; 1 is one value's way from black to white.
        attack_step: L2 length of a step on an image, in the same unit.
        attack_steps: How many.
        flips: Share of an image's attributes that are wrong in y', at least one; not of classes.
        hold: Lambda, strength with which unimportant weights are held.
    """

    name: ClassVar[str] = "l2ul"
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=1e-4, high=0.1, log=True),
        "epsilon": Range(low=0.4, high=5.0, log=True),
    }

    learning_rate: float = number(1e-3, at_least=0)
    epochs: int = number(1000, at_least=1)
    batch_size: int = number(128, at_least=1)
    weight_decay: float = number(1e-4, at_least=0)
    num_adversarial: int = number(20, at_least=1)
    epsilon: float = number(4.0, at_least=0)
    attack_step: float = number(0.1, at_least=0)
    attack_steps: int = number(100, at_least=1)
    flips: float = number(0.2, at_least=0, at_most=1)
    hold: float = number(1.0, at_least=0)

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the model, in evaluation mode, that has lost S or taken all its steps."""
        import torch

        from oneshui.methods._sgd import CosineSGD
        from oneshui.training.losses import task_loss

        model = copy.deepcopy(request.model).to(request.device).eval()
        if not (self.learning_rate or self.step):
            return model
        inputs = request.support.inputs().to(request.device)
        labels = request.support.labels.to(request.device)
        near, wrong = self._adversarial(model, inputs, labels, request)
        held = self._held(model, inputs)
        has_lost = stop(model, inputs, labels, request.task)
        images = itertools.cycle(zip(self._batches(inputs), self._batches(labels), strict=True))
        # The rate stays as it is where no epoch of the cosine is started.
        sgd = CosineSGD(model, self)
        for _ in range(self.epochs):
            for others, false in zip(self._batches(near), self._batches(wrong), strict=True):
                own, true = next(images)
                share = len(own) / (len(own) + len(others))
                ascent = task_loss(model(own), true, request.task)
                kept = task_loss(model(others), false, request.task)
                ways = [(weight * (p - start).square()).sum() for p, start, weight in held]
                way = torch.stack(ways).sum()
                sgd.step((1 - share) * kept - share * ascent + self.hold / 2 * way)
                if has_lost():
                    return model
        return model

    def _batches(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        import torch

        return torch.split(images, self.batch_size)

    def _adversarial(
        self,
        model: nn.Module,
        inputs: torch.Tensor,
        labels: torch.Tensor,
        request: UnlearnRequest,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The images x', [k N, 3, S, S], and their labels y' in the form of S's."""
        from oneshui.methods._adversarial import Attack
        from oneshui.training.models import classifier_of

        centres = inputs.repeat(self.num_adversarial, 1, 1, 1)
        true = labels.cpu().repeat(self.num_adversarial, *[1] * (labels.ndim - 1))
        outputs = classifier_of(model).out_features
        draws = request.generator("l2ul labels")
        wrong = wrong_labels(true, outputs, self.flips, draws).to(request.device)
        attack = Attack(
            norm="l2", epsilon=self.epsilon, step=self.attack_step, steps=self.attack_steps
        )
        start = request.generator("l2ul images")
        near = attack(model, centres, wrong, request.task, towards=True, generator=start)
        return near, wrong

    def _held(
        self, model: nn.Module, inputs: torch.Tensor
    ) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Every weight tensor that moves, a copy of it, and 1 - I."""
        import torch

        moved: list[torch.Tensor] = [p for p in model.parameters() if p.requires_grad]
        total = [torch.zeros_like(p) for p in moved]
        for part in self._batches(inputs):
            length = torch.linalg.vector_norm(model(part), dim=1).mean()
            gradients = torch.autograd.grad(length, moved, materialize_grads=True)
            torch._foreach_add_(total, torch._foreach_abs(gradients), alpha=len(part))
        held = []
        for parameter, size in zip(moved, total, strict=True):
            above = size - size.min()
            # Where all are the same, none is important: 0 / 0 would be no number.
            importance = above / above.max().clamp_min(torch.finfo(size.dtype).tiny)
            held.append((parameter, parameter.detach().clone(), 1 - importance))
        return held


def wrong_labels(
    labels: torch.Tensor, num_outputs: int, flips: float, generator: torch.Generator
) -> torch.Tensor:
    """Labels that are not the images', in the form of those given.

    Args:
        labels: The true ones, float [B, C] of 0/1 or int64 [B], on the CPU.
        num_outputs: C.
        flips: Share of the attributes of every image that is turned round, at least one.
        generator: A CPU generator.
    """
    import torch

    from oneshui.methods._sgd import random_labels

    if labels.ndim == 1:
        return random_labels(labels, None, num_outputs, generator)
    count = max(1, round(flips * num_outputs))
    ranks = torch.rand(labels.shape, generator=generator).argsort(1).argsort(1)
    return torch.where(ranks < count, 1 - labels, labels)


def stop(
    model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, task: Task
) -> Callable[[], bool]:
    """Tells whether the model, as it is when asked, has lost the images.

    Args:
        model: In evaluation mode.
        inputs: S, [N, 3, S, S].
        labels: float [N, C] of 0/1 or int64 [N].
        task: Which of the two.
    """
    import torch
    from torch.nn import functional as F

    from oneshui.methods._sgd import label_prior
    from oneshui.training.losses import task_loss

    prior = label_prior(labels)
    guess = None if prior is None else F.binary_cross_entropy(prior.expand_as(labels), labels)

    @torch.no_grad()
    def has_lost() -> bool:
        logits = model(inputs)
        if guess is None:
            return not bool((logits.argmax(1) == labels).any())
        return bool(task_loss(logits, labels, task) >= guess)

    return has_lost
