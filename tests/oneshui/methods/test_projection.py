from __future__ import annotations

from typing import Any

import pytest
import torch
from support.tiny import TinyProblem, tiny_model
from threadpoolctl import threadpool_limits

from oneshui.methods import _projection


def symmetric(size: int, subtracted: int) -> torch.Tensor:
    """A covariance less that of a few vectors, so that some eigenvalues may be negative."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(1, size, 2 * size, generator=generator, dtype=torch.float64)
    scales = torch.linspace(0.1, 3, size, dtype=torch.float64)[:, None]
    others = 5 * torch.randn(1, size, subtracted, generator=generator, dtype=torch.float64)
    total = (scales * vectors) @ (scales * vectors).mT - others @ others.mT
    return (total + total.mT) / 2


@pytest.mark.parametrize("network", ["vit", "convnext"])
def test_products_by_halves_are_the_whole_products_and_symmetric(
    network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [TinyProblem().images("val").inputs(slice(0, 3))]
    model = tiny_model(network)
    whole = _projection.input_covariances(model, images, unit_stride=False)
    monkeypatch.setattr(_projection, "SMALLEST_HALVED", 3)
    halves = _projection.input_covariances(model, images, unit_stride=False)
    assert halves.keys() == whole.keys()
    for name, value in halves.items():
        assert torch.equal(value, value.mT)
        torch.testing.assert_close(value, whole[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("subtracted", [0, 9])
@pytest.mark.parametrize("size", [2, 3, 41])
def test_projections_step_by_step_are_those_of_a_whole_decomposition(
    size: int, subtracted: int, gamma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    covariance = symmetric(size, subtracted)
    given = covariance.clone()
    whole, whole_rank = _projection.projection(covariance, gamma)
    monkeypatch.setattr(_projection, "SMALLEST_REDUCED", 2)
    steps, rank = _projection.projection(covariance, gamma)
    assert torch.equal(covariance, given)
    assert torch.equal(rank, whole_rank)
    assert torch.equal(steps, steps.mT)
    torch.testing.assert_close(steps, whole, rtol=0, atol=1e-10)


def test_a_large_projection_keeps_the_directions_of_largest_size() -> None:
    covariance = symmetric(150, 20)
    projected, rank = _projection.projection(covariance, 0.8)
    _, vectors = _projection.spectrum(covariance)
    leading = vectors[..., : int(rank)]
    torch.testing.assert_close(projected, leading @ leading.mT, rtol=0, atol=1e-10)


def test_a_projection_follows_the_threads_of_torch_and_no_others() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(400, 900, generator=generator, dtype=torch.float64)
    covariance = (rows @ rows.T * torch.logspace(0, -2, 400, dtype=torch.float64))[None]
    covariance = covariance + covariance.mT
    found = []
    for number in (1, 2):
        with threadpool_limits(number, user_api="blas"):
            found.append(_projection.projection(covariance, 0.9)[0])
    assert torch.equal(*found)
