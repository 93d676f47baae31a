"""Adversarial images: near the given ones, where a model's loss is another.

Sources: FGSM (Goodfellow et al., arXiv 1412.6572) and projected gradient descent (Madry et al.,
arXiv 1706.06083), in the balls of the largest change of a value and of the L2 norm:

    x <- P( x + s eta d ),    d = sign g or g / |g|_2,    g = grad_x l(f(x), y)

with s = 1 to raise the loss and -1 to lower it. P takes an image back into the range of images
and then into the ball of radius epsilon around the given one. Lengths are in units of the way
from black to white, which is 2 in a network's inputs. FGSM is one step of the ball's radius
without a random start.

Shapes: B images [B, 3, S, S] in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from oneshui.spec import Task
from oneshui.training.losses import sample_losses

PASS_SIZE = 256
"""Images per forward pass."""

BLACK, WHITE = -1.0, 1.0


@dataclass(frozen=True, kw_only=True)
class Attack:
    """How images are changed.

    Attributes:
        norm: Of ball and steps: "linf" (the largest change of a value) or "l2".
        epsilon: Radius of the ball; 1 is the way from black to white.
        step: Length of a step, in the same unit.
        steps: How many.
    """

    norm: Literal["linf", "l2"]
    epsilon: float
    step: float
    steps: int = 1

    def __call__(
        self,
        model: nn.Module,
        inputs: torch.Tensor,
        labels: torch.Tensor,
        task: Task,
        *,
        towards: bool,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Images within the ball around each of the given ones, [B, 3, S, S], on their device.

        Args:
            model: In evaluation mode, so that images do not meet; it stays as it is.
            inputs: The images.
            labels: float [B, C] of 0/1 or int64 [B].
            task: Which loss.
            towards: Whether to lower the loss at the labels (a targeted attack) or to raise it.
            generator: Of the random start, on the CPU; None to start at the images.
        """
        start = inputs if generator is None else self._start(inputs, generator)
        begins, centres, goals = (torch.split(t, PASS_SIZE) for t in (start, inputs, labels))
        sign = -1 if towards else 1
        moved = [
            self._moved(model, begin, centre, goal, task, sign)
            for begin, centre, goal in zip(begins, centres, goals, strict=True)
        ]
        return torch.cat(moved)

    def _moved(
        self,
        model: nn.Module,
        start: torch.Tensor,
        inputs: torch.Tensor,
        labels: torch.Tensor,
        task: Task,
        sign: int,
    ) -> torch.Tensor:
        moved = start
        for _ in range(self.steps):
            moved = moved.detach().requires_grad_(True)
            loss = sample_losses(model(moved), labels, task).sum()
            (gradient,) = torch.autograd.grad(loss, moved)
            way = sign * self.step * (WHITE - BLACK)
            moved = self._project(moved.detach() + way * self._direction(gradient), inputs)
        return moved

    def _direction(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.sign() if self.norm == "linf" else gradient / _lengths(gradient)

    def _project(self, images: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
        radius = self.epsilon * (WHITE - BLACK)
        # The centre is an image, so what is moved towards it stays one.
        change = images.clamp(BLACK, WHITE) - centres
        if self.norm == "linf":
            return centres + change.clamp(-radius, radius)
        return centres + change * (radius / _lengths(change)).clamp(max=1)

    def _start(self, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Uniform in the ball ("linf"), or a random image taken back into it ("l2")."""
        draws = torch.rand(inputs.shape, generator=generator).to(inputs) * (WHITE - BLACK) + BLACK
        if self.norm == "linf":
            draws = inputs + self.epsilon * (WHITE - BLACK) * draws
        return self._project(draws, inputs)


def _lengths(images: torch.Tensor) -> torch.Tensor:
    """L2 norm of every image, above 0, [B, 1, 1, 1]."""
    lengths: torch.Tensor = torch.linalg.vector_norm(images.flatten(1), dim=1).clamp_min(1e-12)
    return lengths[:, None, None, None]
