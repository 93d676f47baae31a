"""What methods that pass over S by SGD at one rate have in common as methods.

Planning imports this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from oneshui.methods.base import STEP_RANGE, Range
from oneshui.methods.fields import clipping, number
from oneshui.spec import Access

if TYPE_CHECKING:
    import torch
    from torch import nn

    from oneshui.requests import UnlearnRequest


@dataclass(frozen=True, kw_only=True)
class SupportPasses:
    """Passes over S by SGD with momentum, in batches in a new order every time.

    The rate is the same in every step, as in the published code of all that use this.

    Attributes:
        learning_rate: Of every step.
        step: Length of the first step as a share of the norm of the weights that move, in place of
            ``learning_rate``; 0: not used.
        epochs: Passes over S.
        batch_size: Support images per step.
        momentum: Of SGD.
        weight_decay: L2 penalty.
        clip_norm: Largest norm of the gradient; 0 leaves it alone.
    """

    name: ClassVar[str]
    access: ClassVar[Access] = Access.SUPPORT
    relative_space: ClassVar[Mapping[str, Range]] = {"step": STEP_RANGE}
    nothing: ClassVar[Mapping[str, float | int]] = {"learning_rate": 0.0, "step": 0.0}

    learning_rate: float = number(5e-5, at_least=0)
    step: float = number(0.0, at_least=0)
    epochs: int = number(20, at_least=1)
    batch_size: int = number(64, at_least=1)
    momentum: float = number(0.9, at_least=0, below=1)
    weight_decay: float = number(0.0, at_least=0)
    clip_norm: float = clipping()

    def _descend(
        self,
        model: nn.Module,
        request: UnlearnRequest,
        loss: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        """Move the model downhill, in place.

        Args:
            model: In evaluation mode, on the request's device.
            request: Gives S and the order of its images.
            loss: Of the model on some images of S, a scalar, from their positions, int64 [B] on
                the device.
        """
        import torch

        from oneshui.methods._sgd import CosineSGD

        draws = request.generator(f"{self.name} batches")
        # The rate stays as it is where no epoch of the cosine is started.
        sgd = CosineSGD(model, self)
        for _ in range(self.epochs):
            order = torch.randperm(len(request.support), generator=draws).to(request.device)
            for positions in torch.split(order, self.batch_size):
                sgd.step(loss(positions))
