"""The played device refuses what a real one refuses; else tests on it would show nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from support import played_device
from torch import nn
from torch.nn import functional as F

pytestmark = played_device.needed


@pytest.fixture
def device() -> Iterator[torch.device]:
    with played_device.played() as found:
        yield found


def test_tensors_of_two_devices_do_not_mix(device: torch.device) -> None:
    here, there = torch.ones(3), torch.ones(3, device=device)
    for mixed in (
        lambda: here + there,
        lambda: there.add_(here),
        lambda: torch.cat([here, there]),
        lambda: torch.where(here > 0, there, there),
        lambda: nn.Linear(3, 2)(there),
        lambda: F.linear(here, torch.ones(2, 3, device=device)),
    ):
        with pytest.raises(RuntimeError, match="same device"):
            mixed()
    # Numbers, and indices of the processor, may come from there.
    assert (there * torch.tensor(2.0)).tolist() == [2.0, 2.0, 2.0]
    assert there[torch.tensor([0, 2])].device == device


def test_what_is_on_it_is_no_array_and_draws_from_no_generator_of_the_processor(
    device: torch.device,
) -> None:
    there = torch.ones(3, device=device)
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()
    with pytest.raises(RuntimeError, match="generator"):
        torch.rand(3, device=device, generator=torch.Generator())
    assert there.cpu().numpy().tolist() == [1.0, 1.0, 1.0]


def test_a_network_moves_to_it_and_learns_there(device: torch.device) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))
    inputs = torch.randn(5, 4)
    expected = torch.autograd.grad(model(inputs).square().sum(), list(model.parameters()))
    model.to(device)
    assert {p.device for p in model.parameters()} == {device}
    found = torch.autograd.grad(model(inputs.to(device)).square().sum(), list(model.parameters()))
    for own, there in zip(expected, found, strict=True):
        assert there.device == device
        torch.testing.assert_close(there.cpu(), own)
    model.to("cpu")
    assert {type(p.data) for p in model.parameters()} == {torch.Tensor}


def test_autocast_runs_products_in_bfloat16_and_nothing_else(device: torch.device) -> None:
    left, right = torch.randn(4, 4, device=device), torch.randn(4, 4, device=device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        assert (left @ right).dtype == torch.bfloat16
        assert F.linear(left, right).dtype == torch.bfloat16
        assert (left + right).dtype == torch.float32
        with torch.autocast(device.type, enabled=False):
            assert (left @ right).dtype == torch.float32
    assert (left @ right).dtype == torch.float32


def test_it_can_be_without_float64() -> None:
    with played_device.played(has_float64=False) as device:
        there = torch.ones(3, device=device)
        for wide in (
            there.double,
            lambda: torch.zeros(2, dtype=torch.float64, device=device),
            lambda: torch.ones(2, dtype=torch.float64).to(device),
        ):
            with pytest.raises(TypeError, match="no float64"):
                wide()
    with played_device.played() as device:
        assert torch.ones(3, device=device).double().dtype == torch.float64


def test_it_is_there_inside_the_block_alone() -> None:
    with played_device.played() as device:
        found = torch.accelerator.current_accelerator(check_available=True)
        assert found is not None
        assert found.type == device.type
    assert not torch.accelerator.is_available()
