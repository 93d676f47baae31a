"""The state of an optimiser as named tensors, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Its state by "<number of the parameter>.<field>"; the tensors are its own."""
    return {
        f"{number}.{name}": value
        for number, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]
) -> None:
    """Give it a state that ``optimizer_tensors`` named, on the parameters' device."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        number, _, field = name.partition(".")
        state.setdefault(int(number), {})[field] = _laid_out(value, parameters[int(number)])
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _laid_out(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    # Fused optimisers go through parameter and state as they lie in memory.
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, requires_grad=False).copy_(value)
