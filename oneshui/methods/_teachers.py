"""What SCRUB and Bad Teacher, on the training data and on S alone, have in common as methods.

Planning imports this; the steps themselves are in ``oneshui.methods._distillation``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from oneshui.errors import InputError
from oneshui.methods.fields import clipping, number
from oneshui.spec import Task

if TYPE_CHECKING:
    from torch import nn

Divergence = Literal["softmax", "bernoulli"]


@dataclass(frozen=True, kw_only=True)
class TeacherSteps:
    """Steps of SGD that follow a teacher or leave it.

    Attributes:
        learning_rate: Of the first epoch; a cosine over epochs follows.
        step: Length of the first step as a share of the norm of the weights that move, in place of
            ``learning_rate``; 0: not used.
        epochs: Passes over the images.
        momentum: Of SGD.
        weight_decay: L2 penalty.
        divergence: "softmax" (the reference's), or "bernoulli" for independent attributes.
        clip_norm: Largest norm of the gradient; 0 leaves it alone, but for SCRUB's forget steps,
            which are clipped to 1 at most.
    """

    name: ClassVar[str]
    nothing: ClassVar[Mapping[str, float | int]] = {"learning_rate": 0.0, "step": 0.0}
    learning_rate: float = number(0.01, at_least=0)
    step: float = number(0.0, at_least=0)
    epochs: int = number(5, at_least=1)
    momentum: float = number(0.9, at_least=0, below=1)
    weight_decay: float = number(5e-4, at_least=0)
    divergence: Literal["softmax", "bernoulli"] = "softmax"
    clip_norm: float = clipping()

    def check(self, model: nn.Module, task: Task) -> None:  # noqa: ARG002
        """Refuse a divergence between independent attributes where there are classes.

        Raises:
            InputError: It is "bernoulli" and the task is "multiclass".
        """
        if self.divergence == "bernoulli" and task == "multiclass":
            raise InputError(
                f"{self.name}.divergence is 'bernoulli', which is for independent attributes, but "
                "this dataset has classes: use 'softmax'"
            )
