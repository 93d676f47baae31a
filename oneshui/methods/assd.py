"""Adaptive SSD: selective synaptic dampening whose threshold follows from how much is forgotten.

Source: Schoepf et al., "Parameter-tuning-free data entry error unlearning with adaptive selective
synaptic dampening" (arXiv 2402.10098). As ``oneshui.methods.ssd``, with importances f of S and o
of D_tr, but nobody chooses alpha: of the ratios f_i / o_i of all weights it is the percentile

    p = 100 - ln(1 + 100 n_f / n)            n_f of n training pictures are to be forgotten
    theta_i <- theta_i * min(lambda o_i / f_i, 1)   where f_i > alpha o_i.

Ratios that are not finite do not count, but weights with f_i > o_i = 0 are selected, as in SSD.

Deviations: after deletion nobody knows n_f; it is taken for |S| times the mean number of pictures
of a training person, so n_f / n = |S| / (people in D_tr), whose number is prepared
(docs/benchmark.md, N3). Ours: ``scale`` multiplies the share 100 - p of weights that is selected,
1 being the method's own (docs/benchmark.md, N4). Lambda is the authors' constant, 1.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from oneshui.methods.base import Range, register
from oneshui.methods.fields import number
from oneshui.spec import Access

if TYPE_CHECKING:
    from torch import nn

    from oneshui.methods._importance import ImportanceMeasure, Importances
    from oneshui.requests import PrepareRequest, UnlearnRequest
    from oneshui.spec import Task

NUM_PEOPLE = "num_people"
"""Key of the number of people in D_tr beside the importances, whose names are parameters'."""


@register
@dataclass(frozen=True, kw_only=True)
class ASSD:
    """Dampens a share of the weights that grows with the share of people who are forgotten.

    Attributes:
        scale: Factor on the share of weights above the percentile; 1 is the method's own, 0 does
            nothing.
        dampening: Lambda, the strength: smaller dampens more.
        batch_size: Images per gradient ("batch"), or at most so many at a time ("sample").
        importance: "batch" (the reference's) or "sample" (per-image squares).
    """

    name: ClassVar[str] = "assd"
    access: ClassVar[Access] = Access.PREPARED
    prepare_fields: ClassVar[tuple[str, ...]] = ("batch_size", "importance")
    search_space: ClassVar[Mapping[str, Range]] = {"scale": Range(low=1e-3, high=3.0, log=True)}
    relative_space: ClassVar[Mapping[str, Range]] = search_space
    nothing: ClassVar[Mapping[str, float | int]] = {"scale": 0.0}

    scale: float = number(1.0, at_least=0)
    dampening: float = number(1.0, at_least=0)
    batch_size: int = number(128, at_least=1)
    importance: Literal["batch", "sample"] = "batch"

    def prepare(self, request: PrepareRequest) -> Importances:
        """Importances of D_tr, float32 on the CPU, by parameter name, and ``NUM_PEOPLE``, int64."""
        import torch

        from oneshui.methods._importance import train_importances

        generator = request.generator("assd order")
        return {
            **train_importances(request, self._measure(request.task), generator),
            NUM_PEOPLE: torch.tensor(len(set(request.train.identities.tolist()))),
        }

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A dampened copy of the model, in evaluation mode."""
        from oneshui.methods._importance import dampen, measured, percentile_alpha

        if self.scale == 0:
            return copy.deepcopy(request.model).to(request.device).eval()
        model, forget, original = measured(request, self._measure(request.task))
        forgotten = len(request.support) / int(request.prepared[NUM_PEOPLE])
        alpha = percentile_alpha(forget, original, percentile(forgotten, self.scale))
        dampen(model, forget, original, alpha=alpha, dampening=self.dampening)
        return model

    def _measure(self, task: Task) -> ImportanceMeasure:
        from oneshui.methods._importance import ImportanceMeasure, loss_of

        return ImportanceMeasure(
            loss=loss_of(task), kind=self.importance, batch_size=self.batch_size
        )


def percentile(forgotten: float, scale: float = 1.0) -> float:
    """100 - scale ln(1 + 100 n_f / n), not below 0.

    Args:
        forgotten: n_f / n, the share of the training pictures that is forgotten.
        scale: Factor on what lies above.
    """
    return max(0.0, 100 - scale * math.log1p(100 * forgotten))
