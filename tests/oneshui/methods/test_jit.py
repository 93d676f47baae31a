from __future__ import annotations

import copy

import pytest
import torch
from reference.jit import smoothing_loss as loss_image_by_image
from support.golden import GoldenCase, each_case, largest_difference
from support.tiny import TinyProblem

from oneshui.methods import build, jit


def test_the_loss_is_that_of_a_plain_loop() -> None:
    request = TinyProblem().unlearn_request()
    inputs = request.support.inputs()
    generator = torch.Generator().manual_seed(0)
    noisy = [
        jit.perturb(inputs, torch.randn(inputs.shape, generator=generator), 0.5) for _ in range(3)
    ]
    ours = jit.smoothing_loss(request.model, inputs, noisy)
    assert ours.item() == pytest.approx(
        loss_image_by_image(request.model, inputs, noisy).item(), rel=1e-5
    )


@pytest.mark.parametrize("variant", ["corrected", "reference"])
def test_the_whole_method_is_a_plain_loop(variant: str) -> None:
    request = TinyProblem("convnext").unlearn_request()
    model = copy.deepcopy(request.model)
    draws = request.generator("jit noise")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for inputs in (request.support.inputs()[:2], request.support.inputs()[2:]):
        noisy = []
        for _ in range(3):
            noise = torch.randn(inputs.shape, generator=draws)
            noisy.append((inputs + 0.4 * noise).clamp(inputs.min(), inputs.max()))
        if variant == "corrected":
            optimizer.zero_grad()
        loss_image_by_image(model, inputs, noisy).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    hyper = {"learning_rate": 0.05, "sigma": 0.4, "num_samples": 3, "batch_size": 2}
    unlearned = build("jit", {**hyper, "variant": variant}).unlearn(request)
    assert largest_difference(unlearned.state_dict(), model.state_dict()) < 1e-5
    assert largest_difference(unlearned.state_dict(), request.model.state_dict()) > 1e-3


def test_noise_stays_within_the_range_of_the_batch() -> None:
    inputs = torch.tensor([[-0.5, 0.25], [0.0, 0.5]])
    noisy = jit.perturb(inputs, torch.tensor([[-9.0, 9.0], [0.1, 0.0]]), 1.0)
    torch.testing.assert_close(noisy, torch.tensor([[-0.5, 0.5], [0.1, 0.5]]))


def test_a_constant_image_does_no_harm() -> None:
    request = TinyProblem().unlearn_request()
    request.support.images.fill_(7)
    before = request.model.state_dict()
    after = build("jit", {}).unlearn(request).state_dict()
    assert largest_difference(after, before) == 0.0


def test_variants_differ_only_beyond_one_batch() -> None:
    request = TinyProblem().unlearn_request()

    def unlearn(variant: str, batch_size: int) -> dict[str, torch.Tensor]:
        method = build("jit", {"sigma": 0.5, "variant": variant, "batch_size": batch_size})
        return method.unlearn(request).state_dict()

    assert largest_difference(unlearn("reference", 3), unlearn("corrected", 3)) == 0.0
    assert largest_difference(unlearn("reference", 2), unlearn("corrected", 2)) > 1e-4


@each_case
@pytest.mark.parametrize(("tag", "accumulate"), [("faithful", True), ("zero_grad", False)])
def test_jit_is_the_reference_s(case: GoldenCase, tag: str, accumulate: bool) -> None:
    hyper = case.expected["jit.hyper"]
    noise = case.tensors("jit_noise")["noise"].float()
    model, size = case.model(), hyper["batch_size"]
    batches = []
    for number, (inputs, _) in enumerate(case.batches("support", size)):
        start = number * size
        noisy = [jit.perturb(inputs, n[start : start + size], hyper["sigma"]) for n in noise]
        batches.append((inputs, noisy))
    jit.smooth(model, batches, learning_rate=hyper["lr"], accumulate=accumulate)
    pair = case.pair(model.state_dict(), "jit", f"{tag}.after.")
    assert largest_difference(*pair) < 1e-6
