"""What a GPU does differently, as far as a processor can show it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.tiny import TinyProblem, tiny_model

from oneshui.accelerator import EXACT, FAST, Policy, compiled, policy_of, read_ahead
from oneshui.data.images import LabelledImages
from oneshui.spec import TrainingSpec
from oneshui.training.predict import predict_logits
from oneshui.training.train import TrainingState, train

CPU = torch.device("cpu")
SPEC = TrainingSpec(
    epochs=2, warmup_epochs=0, batch_size=16, augmentation="crop", learning_rate=0.01, keep="last"
)


def trained(
    policy: Policy, spec: TrainingSpec = SPEC, resume: TrainingState | None = None
) -> tuple[dict[str, torch.Tensor], list[float], list[TrainingState]]:
    problem, model = TinyProblem("convnext"), tiny_model("convnext")
    taken: list[TrainingState] = []
    history = train(
        model,
        problem.images("train"),
        problem.images("val"),
        spec,
        task="multilabel",
        seed=0,
        device=CPU,
        resume=resume,
        on_epoch=lambda _, take_down: taken.append(take_down()),
        policy=policy,
    )
    return model.state_dict(), [epoch.loss for epoch in history], taken


def test_a_processor_computes_exactly_and_a_gpu_fast() -> None:
    assert policy_of(CPU) == EXACT
    assert policy_of(torch.device("cuda", 0)) == FAST


def test_training_the_fast_way_learns_the_same_within_its_precision() -> None:
    spec = TrainingSpec(
        epochs=2, warmup_epochs=0, augmentation="none", learning_rate=0.01, keep="last"
    )
    exact, losses, _ = trained(EXACT, spec)
    fast, fast_losses, _ = trained(FAST, spec)
    assert fast_losses == pytest.approx(losses, rel=2e-3)
    assert all(value.dtype == exact[name].dtype for name, value in fast.items())
    assert max((fast[name] - exact[name]).abs().max().item() for name in exact) < 5e-3
    assert any(not torch.equal(fast[name], exact[name]) for name in exact)


def test_the_fused_optimiser_takes_the_same_steps() -> None:
    for optimizer in ("sgd", "adamw"):
        spec = TrainingSpec(
            epochs=2, warmup_epochs=0, augmentation="none", optimizer=optimizer, keep="last"
        )
        exact, fused = trained(EXACT, spec)[0], trained(Policy(fused=True), spec)[0]
        for name, value in exact.items():
            torch.testing.assert_close(fused[name], value, rtol=1e-4, atol=1e-6)


def test_training_the_fast_way_goes_on_from_an_epoch_to_the_bit() -> None:
    whole, _, taken = trained(FAST)
    resumed, _, _ = trained(FAST, resume=taken[0])
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def batches_of(
    data: LabelledImages, order: torch.Tensor, batch_size: int, policy: Policy
) -> torch.Tensor:
    batches = data.augmented_batches(order, batch_size, "crop", device=CPU, policy=policy, seed=5)
    return torch.cat([inputs for inputs, _ in batches])


def test_a_picture_gets_the_same_crop_in_any_batch_and_at_any_depth_of_reading() -> None:
    data = TinyProblem().images("train")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(1))
    together = batches_of(data, torch.arange(len(data)), len(data), EXACT)
    apart = batches_of(data, order, 7, Policy(ahead=3))
    assert torch.equal(apart, together[order])
    part = data.select(np.array([5, 2]))
    assert torch.equal(batches_of(part, torch.arange(2), 2, EXACT), together[[5, 2]])


def test_logits_stay_apart_in_bfloat16() -> None:
    data, model = TinyProblem().images("train"), tiny_model("vit")
    exact = predict_logits(model, data, device=CPU)
    fast = predict_logits(model, data, device=CPU, policy=FAST)
    assert fast.dtype == torch.float32
    assert (fast - exact).abs().max() < 0.02 * exact.abs().max()
    assert not torch.equal(fast, exact)
    assert not torch.equal(fast, fast.bfloat16().float())
    assert torch.equal(predict_logits(model, data, device=CPU), exact)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("depth", [0, 1, 3, 50])
def test_reading_ahead_keeps_the_order(depth: int) -> None:
    def job(number: int) -> Callable[[], int]:
        return lambda: number

    assert list(read_ahead((job(n) for n in range(20)), depth)) == list(range(20))


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_while_reading_arrives_where_the_result_is_wanted(depth: int) -> None:
    def broken() -> int:
        raise OSError("the disk is gone")

    results = read_ahead([lambda: 1, broken, lambda: 3], depth)
    assert next(results) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(results)


def test_short_trainings_are_not_compiled() -> None:
    model = tiny_model("vit")
    assert compiled(model, Policy(compile=True), 1999) is model
    assert compiled(model, Policy(), 5000) is model
    assert compiled(model, Policy(compile=True), 2000) is not model
