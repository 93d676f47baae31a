"""Selective synaptic dampening: shrink the weights that matter much more to S than to D_tr.

Source: Foster et al., "Fast machine unlearning without retraining through selective synaptic
dampening" (arXiv 2308.07707), as the 1-SHUI benchmark (arXiv 2407.12069) runs it. With the
importance I_D of a data set D, f = I_S, o = I_{D_tr}:

    theta_i <- theta_i * min(lambda o_i / f_i, 1)   where f_i > alpha o_i.

``importance="batch"`` is the reference: I_D is the mean over batches of the squared gradient of
the batch's mean loss, so it depends on the batch size, and S (one small batch) and D_tr (batches
of 128) are on different scales; the published alphas absorb that (docs/benchmark.md, S1). "sample"
is the diagonal Fisher information that the method means: the mean over images of the squared
gradient of the image's own loss, which the field calls SSD-Det. An alpha tuned for one means
nothing for the other.

Ours: with ``share`` those k = round(share n) of all n weights are selected that have the largest
f_i / o_i, whatever alpha is, so that the number means the same in every network and for both
importances. f_i above o_i = 0 is the largest ratio, f_i = 0 is never selected; of equal ratios
those that come first in the network are.

Deviations from the reference: D_tr is shuffled by the request's own generator (for "batch").
As there, D_tr does not contain S (S2); the bound by 1 acts only if lambda > alpha (S3); the key
part of a ViT's ``attn.qkv.bias`` has no true gradient and may be dampened at random, which does
not change the model's output (S4).
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
    from oneshui.spec import Task


@register
@dataclass(frozen=True, kw_only=True)
class SSD:
    """Dampens the weights that S needs and D_tr does not.

    Attributes:
        alpha: How many times more important to S than to D_tr a weight must be.
        share: Share of all weights that is dampened, those most important to S relative to D_tr,
            in place of ``alpha``; 0: not used.
        dampening: Lambda, the strength: smaller dampens more.
        batch_size: Images per gradient ("batch"), or at most so many at a time ("sample").
        importance: "batch" (the reference's) or "sample" (per-image squares).
    """

    name: ClassVar[str] = "ssd"
    access: ClassVar[Access] = Access.PREPARED
    prepare_fields: ClassVar[tuple[str, ...]] = ("batch_size", "importance")
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

    def prepare(self, request: PrepareRequest) -> Importances:
        """Importances of D_tr, float32 on the CPU, by parameter name."""
        from oneshui.methods._importance import train_importances

        return train_importances(
            request, self._measure(request.task), request.generator("ssd order")
        )

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A dampened copy of the model, in evaluation mode."""
        from oneshui.methods._importance import dampened_model

        measure = self._measure(request.task)
        return dampened_model(
            request, measure, alpha=self.alpha, share=self.share, dampening=self.dampening
        )

    def _measure(self, task: Task) -> ImportanceMeasure:
        from oneshui.methods._importance import ImportanceMeasure, loss_of

        return ImportanceMeasure(
            loss=loss_of(task), kind=self.importance, batch_size=self.batch_size
        )
