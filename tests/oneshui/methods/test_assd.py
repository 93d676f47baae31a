from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from reference.assd import alpha as alpha_by_sorting
from reference.ssd import dampened_weights, sample_importances
from support.tiny import TinyProblem, tiny_model

from oneshui.methods import assd, build
from oneshui.methods._importance import percentile_alpha


@pytest.mark.parametrize(
    ("forgotten", "scale", "expected"),
    [
        (5 / 24, 1.0, 96.9166),
        (20 / 240, 1.0, 97.7664),
        (0.01, 1.0, 99.3069),
        (0.01, 0.5, 99.6534),
        (1.0, 50.0, 0.0),
    ],
)
def test_the_percentile_follows_from_the_share_that_is_forgotten(
    forgotten: float, scale: float, expected: float
) -> None:
    assert assd.percentile(forgotten, scale) == pytest.approx(expected, abs=5e-5)


def test_alpha_is_the_percentile_of_the_ratios_that_there_are() -> None:
    draws = torch.Generator().manual_seed(1)
    forget = {name: torch.rand(size, generator=draws) for name, size in (("a", (7, 9)), ("b", 40))}
    original = {n: torch.rand(f.shape, generator=draws) for n, f in forget.items()}
    original["a"][2], original["b"][5] = 0.0, 0.0
    forget["b"][5] = 0.0
    flat = [torch.cat([t.flatten() for t in d.values()]).tolist() for d in (forget, original)]
    for share in (0.004, 0.05, 0.2, 1.0):
        ours = percentile_alpha(forget, original, assd.percentile(share))
        assert ours == pytest.approx(alpha_by_sorting(flat[0], flat[1], share, 1.0), rel=1e-5)
    zeros = {name: torch.zeros_like(f) for name, f in original.items()}
    assert math.isnan(percentile_alpha(forget, zeros, 97.0))


@pytest.mark.parametrize(
    "problem", [TinyProblem("vit"), TinyProblem("convnext", "multiclass")], ids=str
)
def test_the_whole_method_is_a_plain_loop(problem: TinyProblem) -> None:
    method: Any = build("assd", {"importance": "sample", "dampening": 0.7})
    request = problem.prepare_request()
    prepared = method.prepare(request)
    num_people = len(set(request.train.identities.tolist()))
    assert prepared[assd.NUM_PEOPLE].item() == num_people
    asked = problem.unlearn_request(prepared)
    model = tiny_model(problem.network)
    forget, original = (
        sample_importances(model, data.inputs(), data.labels)
        for data in (problem.images("support"), problem.images("train"))
    )
    flat = [torch.cat([t[n].flatten() for n in forget]).tolist() for t in (forget, original)]
    alpha = alpha_by_sorting(flat[0], flat[1], len(asked.support), num_people)
    weights = {name: p.detach() for name, p in model.named_parameters()}
    theirs = dampened_weights(weights, forget, original, alpha=alpha, lam=0.7)
    ours = dict(method.unlearn(asked).named_parameters())
    # The keys' bias has no true gradient, so rounding decides whether it is dampened.
    names = [name for name in theirs if not name.endswith("qkv.bias")]
    changed = sum(int((ours[n] != weights[n]).sum()) for n in names)
    numbers = sum(weights[n].numel() for n in names)
    share = math.log(1 + 100 * len(asked.support) / num_people) / 100
    assert changed / numbers == pytest.approx(share, rel=0.3)
    differ = sum(int((~torch.isclose(ours[n], theirs[n], rtol=1e-3)).sum()) for n in names)
    assert differ <= 0.02 * changed


def test_half_the_people_or_half_the_scale_dampen_fewer_weights() -> None:
    problem = TinyProblem("convnext")
    method: Any = build("assd", {})
    prepared = method.prepare(problem.prepare_request())
    weights = dict(tiny_model("convnext").named_parameters())

    def changed(scale: float, num_people: int) -> int:
        asked = problem.unlearn_request({**prepared, assd.NUM_PEOPLE: torch.tensor(num_people)})
        after = dataclasses.replace(method, scale=scale).unlearn(asked).named_parameters()
        return sum(int((value != weights[name]).sum()) for name, value in after)

    counts = [changed(0.0, 12), changed(0.5, 12), changed(1.0, 48), changed(1.0, 12)]
    assert counts == sorted(set(counts))
    assert counts[0] == 0
