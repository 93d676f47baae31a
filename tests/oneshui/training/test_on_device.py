"""Training, evaluation, crops and rehearsed requests on an accelerator, beside the processor's."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny import NUM_OUTPUTS, SPECS, Network, TinyProblem, tiny_model

from oneshui.attacks.views import predict_views
from oneshui.data.crops import cut, draw_crops
from oneshui.spec import Precision, TrainingSpec
from oneshui.training.models import make_model
from oneshui.training.predict import predict, predict_logits
from oneshui.training.train import Epoch, TrainingState, train
from oneshui.tuning.simulated import draw_requests, importances, movement, scores_of

CPU = torch.device("cpu")
SPEC = TrainingSpec(
    epochs=2, warmup_epochs=0, batch_size=16, augmentation="flip", learning_rate=0.01, keep="last"
)
every_network = pytest.mark.parametrize("network", list(SPECS))
every_optimizer = pytest.mark.parametrize("optimizer", ["sgd", "adamw"])


def trained(
    network: Network,
    device: torch.device,
    spec: TrainingSpec = SPEC,
    precision: Precision = "auto",
    resume: TrainingState | None = None,
) -> tuple[dict[str, torch.Tensor], list[Epoch], list[TrainingState]]:
    problem, taken = TinyProblem(network), list[TrainingState]()
    options = {**SPECS[network].options}
    if network == "vit":
        # What drops draws from a shared generator.
        options["proj_drop_rate"] = 0.1
    own = dataclasses.replace(SPECS[network], precision=precision, options=options)
    model = make_model(own, NUM_OUTPUTS, 0)
    history = train(
        model,
        problem.images("train"),
        problem.images("val"),
        spec,
        task="multilabel",
        seed=0,
        device=device,
        resume=resume,
        on_epoch=lambda _, take_down: taken.append(take_down()),
    )
    assert next(model.parameters()).device.type == device.type
    return {name: value.cpu() for name, value in model.state_dict().items()}, history, taken


def furthest(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    return max(float((ours[name].double() - theirs[name].double()).abs().max()) for name in ours)


@every_network
def test_training_on_a_device_learns_the_same_within_bfloat16(
    network: Network, accelerator: torch.device
) -> None:
    exact, losses, _ = trained(network, CPU)
    fast, fast_losses, _ = trained(network, accelerator)
    assert [e.loss for e in fast_losses] == pytest.approx([e.loss for e in losses], rel=0.02)
    assert 0 < furthest(fast, exact) < 0.05
    assert all(value.dtype == exact[name].dtype for name, value in fast.items())


@every_network
def test_float32_is_asked_for_and_had(network: Network, accelerator: torch.device) -> None:
    exact, losses, _ = trained(network, CPU)
    found, own, _ = trained(network, accelerator, precision="float32")
    assert [e.loss for e in own] == pytest.approx([e.loss for e in losses], rel=1e-4)
    assert furthest(found, exact) < 1e-4
    rounded, _, _ = trained(network, CPU, precision="bfloat16")
    assert furthest(rounded, exact) > 10 * furthest(found, exact)


@every_optimizer
def test_a_training_on_a_device_goes_on_to_the_bit(
    optimizer: Any, accelerator: torch.device
) -> None:
    spec = dataclasses.replace(SPEC, optimizer=optimizer, augmentation="crop", keep="best")
    states = torch.get_rng_state()
    whole, history, taken = trained("vit", accelerator, spec)
    assert all(value.device.type == "cpu" for value in taken[0].tensors.values())
    resumed, again, _ = trained("vit", accelerator, spec, resume=taken[0])
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert again == history
    assert torch.equal(torch.get_rng_state(), states)


@every_network
def test_predictions_on_a_device_are_the_processor_s_within_bfloat16(
    network: Network, accelerator: torch.device
) -> None:
    sets = {"test": TinyProblem(network).images("test")}
    own, there = (
        predict(tiny_model(network), sets, task="multilabel", device=device)
        for device in (CPU, accelerator)
    )
    columns = ["set", "image", "identity"]
    assert own[columns].equals(there[columns])
    logits, found = (np.stack(frame["logits"].to_list()) for frame in (own, there))
    assert found.dtype == np.float32
    assert 0 < np.abs(found - logits).max() < 0.03 * np.abs(logits).max()


def test_logits_of_a_device_stay_apart(accelerator: torch.device) -> None:
    data = TinyProblem().images("train")
    found = predict_logits(tiny_model("vit"), data, device=accelerator)
    assert (found.dtype, found.device.type) == (torch.float32, "cpu")
    assert not torch.equal(found, found.bfloat16().float())


def test_views_on_a_device_show_the_same_crops(accelerator: torch.device) -> None:
    sets = {"test": TinyProblem("convnext").images("test")}

    def seen(device: torch.device) -> Any:
        frame = predict_views(
            tiny_model("convnext"), sets, task="multilabel", views=4, seed=1, device=device
        )
        return np.stack(frame["losses"].to_list())

    np.testing.assert_allclose(seen(accelerator), seen(CPU), rtol=0.02)


@pytest.mark.parametrize("size", [32, 24])
def test_crops_of_a_device_are_the_processor_s_within_two_levels(
    size: int, accelerator: torch.device
) -> None:
    images = TinyProblem().images("train").raw()
    crops = draw_crops(np.arange(len(images)), "crop", seed=3, height=32, width=32)
    there = cut(images.to(accelerator), crops, size)
    assert there.device.type == accelerator.type
    assert (there.cpu() - cut(images, crops, size)).abs().max() < 2


def test_rehearsed_requests_are_judged_on_a_device_as_on_the_processor(
    accelerator: torch.device,
) -> None:
    problem = TinyProblem("convnext")
    train_images, val = problem.images("train"), problem.images("val")

    def judged(device: torch.device) -> tuple[list[float], float, dict[str, torch.Tensor]]:
        model = tiny_model("convnext")
        found = draw_requests(
            model,
            train_images,
            len(val),
            task="multilabel",
            train_identities=problem.split.train,
            exclude=problem.split.forget,
            num_forget=2,
            num_requests=2,
            seed=0,
            device=device,
        )
        scores = scores_of(
            model, found.requests[0], found, train_images, val, task="multilabel", device=device
        )
        other = tiny_model("convnext", seed=4).to(device)
        importance = importances(model, train_images, task="multilabel", seed=0, device=device)
        numbers = [scores.forget, scores.retain, scores.val, scores.support]
        return numbers, movement(other, model, importance), importance

    own, there = judged(CPU), judged(accelerator)
    assert there[0] == pytest.approx(own[0], abs=0.1)
    assert there[1] == pytest.approx(own[1], rel=1e-3)
    assert all(value.device.type == "cpu" for value in there[2].values())
