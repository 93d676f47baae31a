"""Choosing hyperparameters after deletion: what each objective may see, and what it makes of it.

A choice is between a few candidates that a study before deletion found good. Each kind of choice
is handed one object, whose attributes are all that it can reach; the support-only one holds S, the
pretrained model, the method's own preparation and numbers that were stored before deletion.

Scores are mAP or accuracy as fractions in [0, 1]; ``oneshui.tuning.score`` makes something of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from oneshui.data.images import LabelledImages
from oneshui.methods._importance import Importances
from oneshui.metrics.tow import TOW_SETS, tow
from oneshui.requests import UnlearnRequest
from oneshui.tuning.score import TrialScores, simulated_tow
from oneshui.tuning.simulated import logits_score, movement, set_score


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What a candidate did to the real S: all that a support-only choice learns after deletion.

    Attributes:
        support_drop: What the score on S lost; NaN where it is not defined.
        movement: Of the weights; NaN if the model is not finite.
    """

    support_drop: float
    movement: float


def observe(model: nn.Module, request: UnlearnRequest, importance: Importances) -> Observed:
    """Look at an unlearned model with nothing but the request and stored importances."""
    labels = request.support.labels
    inputs = request.support.inputs().to(request.device)
    with torch.no_grad():
        before, after = (
            network.to(request.device).eval()(inputs).cpu() for network in (request.model, model)
        )
    scores = [logits_score(logits, labels, request.task) for logits in (before, after)]
    moved = movement(model, request.model, importance)
    finite = bool(torch.isfinite(after).all())
    return Observed(support_drop=scores[0] - scores[1], movement=moved if finite else float("nan"))


@dataclass(frozen=True, kw_only=True)
class SimulatedChoice:
    """Stops after the first phase: knows the study, and nothing of the real request."""

    study: TrialScores

    def score(self, point: int) -> float:
        """``simulated_tow`` of the point."""
        return simulated_tow(self.study.runs[point], self.study.val_score)


@dataclass(frozen=True, kw_only=True)
class SupportOnlyChoice:
    """May see S, the pretrained model, the method's preparation and stored numbers.

    Attributes:
        study: Stored before deletion.
        request: The real one; holds S.
        importance: Stored before deletion: one number per weight.
    """

    study: TrialScores
    request: UnlearnRequest
    importance: Importances

    def score(self, point: int, model: nn.Module) -> float:
        """How good the point is likely to be, see ``TrialScores.score``."""
        seen = observe(model, self.request, self.importance)
        return self.study.score(point, support_drop=seen.support_drop, moved=seen.movement)


@dataclass(frozen=True, kw_only=True)
class SupportAndValChoice(SupportOnlyChoice):
    """May also look at D_v after deletion.

    Attributes:
        val: D_v.
    """

    val: LabelledImages

    def score(self, point: int, model: nn.Module) -> float:
        """As the support-only choice, with the drop on D_v in place of half of the guess."""
        seen = observe(model, self.request, self.importance)
        after = set_score(model, self.val, self.request.task, self.request.device)
        return self.study.score(
            point,
            support_drop=seen.support_drop,
            moved=seen.movement,
            val_drop=self.study.val_score - after,
        )


@dataclass(frozen=True, kw_only=True)
class OracleChoice:
    """Sees everything, the retrained model's scores included: what perfect knowledge is worth.

    Attributes:
        request: The real one.
        sets: Retain, forget and test images.
        retrained: The retrained model's scores on them.
    """

    request: UnlearnRequest
    sets: Mapping[str, LabelledImages]
    retrained: Mapping[str, float]

    def score(self, point: int, model: nn.Module) -> float:  # noqa: ARG002
        """The true ToW in [0, 1]; 0 if the model is not finite."""
        scores = {
            name: set_score(model, self.sets[name], self.request.task, self.request.device)
            for name in TOW_SETS
        }
        if not np.isfinite(list(scores.values())).all():
            return 0.0
        return tow(scores, self.retrained)
