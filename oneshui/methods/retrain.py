"""Exact unlearning: train again from the start without the forget set."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from oneshui.errors import DataAccessError
from oneshui.methods.base import Range, register
from oneshui.methods.fields import number
from oneshui.spec import Access, Role

if TYPE_CHECKING:
    from torch import nn

    from oneshui.requests import UnlearnRequest


@register
@dataclass(frozen=True, kw_only=True)
class Retrain:
    """The yardstick: what the model would be, had the forgotten people never been in it."""

    name: ClassVar[str] = "retrain"
    access: ClassVar[Access] = Access.FULL
    search_space: ClassVar[Mapping[str, Range]] = {}

    reseed: int = number(0, at_least=0)
    """Other than 0: retrain with other random numbers, to see how far two retrainings differ."""

    @property
    def role(self) -> Role:
        """The yardstick, or what is held against it to see the noise."""
        return Role.RETRAIN_AGAIN if self.reseed else Role.RETRAIN

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A model trained on D_r from pretraining's starting weights with its recipe.

        Raises:
            DataAccessError: The request carries no D_r.
        """
        from oneshui.requests import FullAccessRequest
        from oneshui.training.train import train

        if not isinstance(request, FullAccessRequest):
            raise DataAccessError("retrain needs the retain set, so a FullAccessRequest")
        model = copy.deepcopy(request.fresh_model)
        train(
            model,
            request.retain,
            request.val,
            request.training,
            task=request.task,
            seed=request.seed + self.reseed,
            device=request.device,
        )
        return model
