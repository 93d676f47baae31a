"""Loss-free SSD: dampening by how far weights move the model's output, without any label.

Source: Foster et al., "Loss-free machine unlearning" (arXiv 2402.19308): selective synaptic
dampening (``oneshui.methods.ssd``) with the squared L2 norm of the output |f_theta(x)|^2 in place
of the loss l(f_theta(x), y). With the importance I_D of a data set D, f = I_S, o = I_{D_tr}:

    theta_i <- theta_i * min(lambda o_i / f_i, 1)   where f_i > alpha o_i.

It needs the pictures of S but not their labels. ``importance="sample"`` is the mean over images
of the squared gradient of |f_theta(x)|^2, "batch" the mean over batches of the squared gradient of
its mean, as the benchmark has it for SSD (docs/benchmark.md, S1); an alpha tuned for one means
nothing for the other, nor for SSD. With ``power=1`` it is the gradient's size and not its square;
"sample" with power 1 is what the field calls LFSSD-Det.

``share`` is that of ``oneshui.methods.ssd``.

Deviation: by default the gradient is squared, as in SSD, so that alpha keeps its meaning of a ratio
of squares; the paper calls the gradient's own size the sensitivity, which is ``power=1``. The
benchmark has no such method.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from oneshui.methods.base import NO_SHARE, SHARE_RANGE, Range, register
from oneshui.methods.fields import number
from oneshui.spec import Access

if TYPE_CHECKING:
    from torch import nn

    from oneshui.methods._importance import ImportanceMeasure, Importances
    from oneshui.requests import PrepareRequest, UnlearnRequest


@register
@dataclass(frozen=True, kw_only=True)
class LFSSD:
    """Dampens the weights that the output on S hangs on and that on D_tr does not.

    Attributes:
        alpha: How many times more important to S than to D_tr a weight must be.
        share: Share of all weights that is dampened, those most important to S relative to D_tr,
            in place of ``alpha``; 0: not used.
        dampening: Lambda, the strength: smaller dampens more.
        batch_size: Images per gradient ("batch"), or at most so many at a time ("sample").
        importance: "batch" or "sample" (per image).
        power: Of the gradient's size: 2 for its square, or 1 (the paper's).
    """

    name: ClassVar[str] = "lfssd"
    access: ClassVar[Access] = Access.PREPARED
    prepare_fields: ClassVar[tuple[str, ...]] = ("batch_size", "importance", "power")
    search_space: ClassVar[Mapping[str, Range]] = {
        "alpha": Range(low=1.0, high=250.0, log=True),
        "dampening": Range(low=0.03, high=2.0, log=True),
    }
    relative_space: ClassVar[Mapping[str, Range]] = {"share": SHARE_RANGE}
    nothing: ClassVar[Mapping[str, float | int]] = {"share": NO_SHARE}

    alpha: float = number(50.0, at_least=0)
    share: float = number(0.0, at_least=0, at_most=1)
    dampening: float = number(0.1, at_least=0)
    batch_size: int = number(128, at_least=1)
    importance: Literal["batch", "sample"] = "batch"
    power: int = number(2, at_least=1, at_most=2)

    def prepare(self, request: PrepareRequest) -> Importances:
        """Importances of D_tr, float32 on the CPU, by parameter name."""
        from oneshui.methods._importance import train_importances

        return train_importances(request, self._measure(), request.generator("lfssd order"))

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A dampened copy of the model, in evaluation mode."""
        from oneshui.methods._importance import dampened_model

        measure = self._measure()
        return dampened_model(
            request, measure, alpha=self.alpha, share=self.share, dampening=self.dampening
        )

    def _measure(self) -> ImportanceMeasure:
        from oneshui.methods._importance import ImportanceMeasure, squared_norm

        return ImportanceMeasure(
            loss=squared_norm, kind=self.importance, batch_size=self.batch_size, power=self.power
        )
