"""What a GPU does differently, as far as a processor can show it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from support import played_device
from support.tiny import Network, TinyProblem, tiny_model
from torch import nn

from oneshui import accelerator as devices
from oneshui.accelerator import (
    EXACT,
    FAST,
    Policy,
    ask_precision,
    compiled,
    policy_for,
    policy_of,
    read_ahead,
)
from oneshui.data.images import LabelledImages
from oneshui.errors import InputError
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


def test_a_processor_computes_exactly_and_an_accelerator_fast() -> None:
    assert policy_of(CPU) == EXACT
    for kind in ("cuda", "xpu", "mps"):
        assert policy_of(torch.device(kind, 0)) == FAST


@pytest.mark.parametrize("network", ["vit", "convnext", "batchnorm"])
def test_how_many_go_through_together_changes_no_bit(network: Network) -> None:
    data = TinyProblem(network).images("train")
    many = data.select(torch.arange(300) % len(data))
    model = tiny_model(network)
    assert EXACT.pass_size < FAST.pass_size < len(many)
    usual = predict_logits(model, many, device=CPU)
    together = predict_logits(model, many, device=CPU, batch_size=FAST.pass_size)
    assert torch.equal(usual, together)


def test_the_precision_that_is_asked_for_is_had_on_any_device() -> None:
    gpu = torch.device("cuda", 0)
    for device, usual in ((CPU, "float32"), (gpu, "bfloat16")):
        assert policy_of(device, "auto").precision == usual
        for precision in ("float32", "bfloat16"):
            assert policy_of(device, precision).precision == precision
    # Whatever else is fast stays so.
    assert policy_of(gpu, "float32").ahead == FAST.ahead
    assert policy_of(CPU, "bfloat16").ahead == EXACT.ahead


def test_what_was_asked_for_a_model_holds_for_its_copies_and_what_is_around_it() -> None:
    model = nn.Linear(2, 2)
    assert policy_for(model, CPU) == EXACT
    ask_precision(model, "bfloat16")
    for one in (model, copy.deepcopy(model), nn.Sequential(nn.ReLU(), model)):
        assert policy_for(one, CPU).precision == "bfloat16"
    ask_precision(model, "auto")
    assert policy_for(model, CPU) == EXACT


def test_an_accelerator_is_asked_for_its_name_its_memory_and_its_random_state(
    accelerator: torch.device,
) -> None:
    assert devices.is_accelerator(accelerator)
    assert devices.is_usable(str(accelerator))
    assert devices.usual_device() == accelerator.type
    assert devices.title_of(accelerator) not in ("", accelerator.type)
    assert devices.total_bytes(accelerator) >= devices.free_bytes(accelerator) > 2**20
    devices.forget_peak(accelerator)
    made = torch.zeros(2**20, device=accelerator)
    devices.wait_for(accelerator)
    del made
    peak = devices.peak_bytes(accelerator)
    assert peak is not None
    assert peak >= 2**22
    module = torch.get_device_module(accelerator)
    before, own = module.get_rng_state(accelerator), torch.get_rng_state()
    with devices.forked_random(accelerator):
        torch.manual_seed(5)
        torch.rand(1)
        assert not torch.equal(module.get_rng_state(accelerator), before)
    assert torch.equal(module.get_rng_state(accelerator), before)
    assert torch.equal(torch.get_rng_state(), own)


def test_a_processor_is_no_accelerator() -> None:
    assert not devices.is_accelerator("cpu")
    assert devices.is_usable("cpu")
    assert (devices.total_bytes(CPU), devices.free_bytes(CPU)) == (0, 0)
    assert devices.peak_bytes(CPU) is None
    assert devices.widest(CPU) == torch.float64
    assert devices.float64_place(CPU) == CPU
    devices.wait_for(CPU)


@played_device.needed
def test_float64_is_computed_where_it_can_be() -> None:
    with played_device.played() as device:
        assert devices.widest(device) == torch.float64
        assert devices.float64_place(device) == device
    with played_device.played(has_float64=False) as device:
        assert devices.widest(device) == torch.float32
        assert devices.float64_place(device) == CPU


@played_device.needed
def test_without_an_accelerator_the_processor_is_used() -> None:
    assert devices.usual_device() == "cpu"
    assert not devices.is_started()


def test_an_accelerator_without_float64_is_used_only_when_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda **_: torch.device("mps"))
    assert devices.usual_device() == "cpu"
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda **_: torch.device("xpu"))
    assert devices.usual_device() == "xpu"


@pytest.mark.parametrize("device", ["nowhere", "cuda:99"])
def test_a_device_that_cannot_be_used_is_refused_in_one_sentence(device: str) -> None:
    with pytest.raises(InputError, match=f"device {device} cannot be used: ") as raised:
        devices.require_usable(device)
    assert "\n" not in str(raised.value)
    assert not devices.is_usable(device)


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
