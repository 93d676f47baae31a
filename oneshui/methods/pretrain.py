"""Doing nothing: the pretrained model itself, the row that every method must beat."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from oneshui.methods.base import Range, register
from oneshui.spec import Access, Role

if TYPE_CHECKING:
    from torch import nn

    from oneshui.requests import UnlearnRequest


@register
@dataclass(frozen=True, kw_only=True)
class Pretrain:
    """Leaves the pretrained model as it is."""

    name: ClassVar[str] = "pretrain"
    role: ClassVar[Role] = Role.PRETRAIN
    access: ClassVar[Access] = Access.SUPPORT
    search_space: ClassVar[Mapping[str, Range]] = {}
    nothing: ClassVar[Mapping[str, float | int]] = {}

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the pretrained model."""
        return copy.deepcopy(request.model)
