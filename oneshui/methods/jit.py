"""Just in time unlearning: make the model smooth around the support images.

Source: Foster et al., "Zero-shot machine unlearning at scale via Lipschitz regularization"
(arXiv 2402.01401), as the 1-SHUI benchmark (arXiv 2407.12069) runs it. One pass over the batches
of S; on a batch of images x_i with noise e_ik ~ N(0, 1):

    x_ik = clamp(x_i + sigma e_ik, min x, max x)                 bounds over the whole batch
    L = (1/n) sum_k sum_i |f(x_i) - f(x_ik)|_2 / |x_i - x_ik|_2  f(x_ik) without gradient
    theta <- theta - lr grad_theta L

Deviations from the reference: gradients are cleared between batches, while
``variant="reference"`` lets them add up (docs/benchmark.md, J1; it matters only beyond
``batch_size`` identities); the model is in evaluation mode (J5). Kept: the sum over images, so that
the step grows with the number of identities (J3); sigma = 30, which after clamping turns the images
into black and white noise (J2).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from oneshui.methods.base import STEP_RANGE, Range, register
from oneshui.methods.fields import clipping, number
from oneshui.spec import Access

if TYPE_CHECKING:
    import torch
    from torch import nn

    from oneshui.requests import UnlearnRequest


@register
@dataclass(frozen=True, kw_only=True)
class JiT:
    """Lowers the model's local Lipschitz constant at the support images.

    Attributes:
        learning_rate: Of the single SGD pass.
        step: Length of the first step as a share of the norm of the weights that move, in place of
            ``learning_rate``; 0: not used.
        sigma: Standard deviation of the noise; images are in [-1, 1].
        num_samples: Noisy copies of every image.
        batch_size: Support images per step.
        variant: "corrected" clears the gradients between batches, "reference" adds them up.
        clip_norm: Largest norm of the gradient; 0 leaves it alone.
    """

    name: ClassVar[str] = "jit"
    access: ClassVar[Access] = Access.SUPPORT
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=0.001, high=0.3, log=True),
        "sigma": Range(low=0.1, high=30.0, log=True),
    }
    relative_space: ClassVar[Mapping[str, Range]] = {"step": STEP_RANGE}
    reference: ClassVar[Mapping[str, str]] = {"variant": "reference"}
    nothing: ClassVar[Mapping[str, float | int]] = {"learning_rate": 0.0, "step": 0.0}

    learning_rate: float = number(0.01, at_least=0)
    step: float = number(0.0, at_least=0)
    sigma: float = number(30.0, above=0)
    num_samples: int = number(25, at_least=1)
    batch_size: int = number(128, at_least=1)
    variant: Literal["corrected", "reference"] = "corrected"
    clip_norm: float = clipping()

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A smoothed copy of the model, in evaluation mode."""
        import torch

        model = copy.deepcopy(request.model).to(request.device).eval()
        generator = request.generator("jit noise")

        def noisy(inputs: torch.Tensor) -> Iterator[torch.Tensor]:
            for _ in range(self.num_samples):
                noise = torch.randn(inputs.shape, generator=generator).to(inputs.device)
                yield perturb(inputs, noise, self.sigma)

        inputs = request.support.inputs().to(request.device)
        smooth(
            model,
            ((part, noisy(part)) for part in torch.split(inputs, self.batch_size)),
            learning_rate=self.learning_rate,
            step=self.step,
            accumulate=self.variant == "reference",
            clip_norm=self.clip_norm,
        )
        return model


def perturb(inputs: torch.Tensor, noise: torch.Tensor, sigma: float) -> torch.Tensor:
    """Noisy images, clamped to the range of the whole batch.

    Args:
        inputs: [B, 3, S, S].
        noise: Standard normal, of the same shape.
        sigma: Standard deviation to give it.
    """
    return (inputs + sigma * noise).clamp(inputs.min(), inputs.max())


def smoothing_loss(
    model: nn.Module, inputs: torch.Tensor, noisy: Iterable[torch.Tensor]
) -> torch.Tensor:
    """Mean over noisy copies of the sum over images of |f(x) - f(x')| / |x - x'|, a scalar.

    Shapes: K noisy copies of the B images in one pass, C outputs.

    Args:
        model: In evaluation mode.
        inputs: [B, 3, S, S].
        noisy: Copies of the batch, each [B, 3, S, S], at least one.
    """
    import torch

    from oneshui.accelerator import policy_of

    logits = model(inputs)
    per_pass = max(1, policy_of(inputs.device).pass_size // len(inputs))
    copies, ratios = iter(noisy), []
    while group := list(itertools.islice(copies, per_pass)):
        stack = torch.stack(group)
        with torch.no_grad():
            noisy_logits = model(stack.flatten(0, 1)).unflatten(0, stack.shape[:2])
        change = (logits - noisy_logits).norm(dim=2)
        distance = (inputs - stack).flatten(2).norm(dim=2)
        # A batch of one constant image is clamped back to itself.
        ratios.append((change / distance.clamp_min(1e-12)).sum(dim=1))
    return torch.cat(ratios).mean()


def smooth(
    model: nn.Module,
    batches: Iterable[tuple[torch.Tensor, Iterable[torch.Tensor]]],
    *,
    learning_rate: float,
    step: float = 0.0,
    accumulate: bool,
    clip_norm: float = 0.0,
) -> None:
    """One SGD pass that lowers the smoothing loss, in place.

    Args:
        model: In evaluation mode.
        batches: (inputs, noisy copies) as ``smoothing_loss`` takes them.
        learning_rate: Of every step, where ``step`` is 0.
        step: Length of the first step, see ``oneshui.methods._sgd.StepRate``.
        accumulate: Whether a step also uses the gradients of all earlier batches.
        clip_norm: Largest norm of the gradient; 0 leaves it alone.
    """
    import torch

    from oneshui.methods._sgd import StepRate, clipped

    moved: list[torch.Tensor] = [p for p in model.parameters() if p.requires_grad]
    rate = StepRate(moved, learning_rate=learning_rate, step=step)
    total = [torch.zeros_like(parameter) for parameter in moved]
    for inputs, noisy in batches:
        gradients = torch.autograd.grad(smoothing_loss(model, inputs, noisy), moved)
        if not accumulate:
            torch._foreach_zero_(total)
        torch._foreach_add_(total, gradients)
        with torch.no_grad():
            direction = clipped(total, clip_norm)
            torch._foreach_add_(moved, direction, alpha=-rate(direction))
