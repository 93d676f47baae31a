from __future__ import annotations

from typing import Any

import pytest
import torch
from reference.training import loss_of, sgd
from support.golden import largest_difference
from support.tiny import TinyProblem, tiny_model

from oneshui.data.images import LabelledImages
from oneshui.errors import DataAccessError
from oneshui.methods import _sgd, build
from oneshui.methods._sgd import (
    CosineSGD,
    full_access,
    label_prior,
    mean_gradient,
    mixed_batches,
    random_labels,
    shuffled_batches,
    support_images,
)
from oneshui.methods.finetune import FineTune

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def as_set(inputs: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in inputs}


@pytest.mark.parametrize("clip_norm", [0.0, 0.1])
def test_it_steps_as_pytorch_does(clip_norm: float) -> None:
    ours, theirs = tiny_model("vit"), tiny_model("vit")
    batches = list(TinyProblem().images("val").batches(8, CPU))
    losses = [lambda x=x, y=y: loss_of(theirs(x), y) for x, y in batches]
    sgd(theirs, losses, epochs=3, learning_rate=0.1, clip_norm=clip_norm)
    optimizer = CosineSGD(ours, FineTune(epochs=3, learning_rate=0.1))
    for epoch in range(3):
        optimizer.start_epoch(epoch)
        for inputs, labels in batches:
            optimizer.step(loss_of(ours(inputs), labels), clip_norm)
    assert largest_difference(ours.state_dict(), theirs.state_dict()) < 1e-6
    assert all(parameter.grad is None for parameter in ours.parameters())


def test_what_is_masked_or_frozen_stays_to_the_bit() -> None:
    model, data = tiny_model("vit"), TinyProblem().images("val")
    model.get_submodule("head").requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    masks = {
        name: (torch.rand(p.shape, generator=generator()) < 0.5).float()
        for name, p in model.named_parameters()
    }
    optimizer = CosineSGD(model, FineTune(learning_rate=0.1, weight_decay=0.1), masks)
    optimizer.step(loss_of(model(data.inputs()), data.labels))
    for name, value in model.state_dict().items():
        moved = value != before[name]
        assert not (moved & (masks[name] == 0)).any()
        assert moved.any() != name.startswith("head") or before[name].norm() == 0


def test_an_epoch_shows_every_image_once_in_a_new_order() -> None:
    data, draws = TinyProblem().images("retain"), generator()
    epochs = [
        torch.cat([inputs for inputs, _ in shuffled_batches(data, 5, device=CPU, generator=draws)])
        for _ in range(2)
    ]
    assert as_set(epochs[0]) == as_set(epochs[1]) == as_set(data.inputs())
    assert len(epochs[0]) == len(data)
    assert not torch.equal(epochs[0], epochs[1])


@pytest.mark.parametrize("with_retain", [True, False])
@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_mixed_batches_know_where_an_image_is_from(with_retain: bool, task: Any) -> None:
    problem = TinyProblem("vit", task)
    forget = problem.images("forget")
    retain = problem.images("retain") if with_retain else None
    batches = list(mixed_batches(forget, retain, 7, device=CPU, generator=generator()))
    inputs, labels, flags = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert len(inputs) == len(forget) + (len(retain) if retain else 0)
    assert {len(flag) for _, _, flag in batches[:-1]} == {7}
    for data, chosen in ((forget, flags), (retain, ~flags)):
        if data is not None:
            assert as_set(inputs[chosen]) == as_set(data.inputs())
            assert pairs(inputs[chosen], labels[chosen]) == pairs(data.inputs(), data.labels)


def pairs(inputs: torch.Tensor, labels: torch.Tensor) -> dict[bytes, Any]:
    keys = (image.numpy().tobytes() for image in inputs)
    return dict(zip(keys, labels.tolist(), strict=True))


@pytest.mark.parametrize("batch_size", [1, 9])
def test_forget_and_retain_images_are_augmented_alike(batch_size: int) -> None:
    forget, retain = TinyProblem().images("forget"), TinyProblem().images("retain")
    for inputs, _, flags in mixed_batches(
        forget, retain, batch_size, device=CPU, generator=generator(), augmentation="crop"
    ):
        assert not as_set(inputs[flags]) & as_set(forget.inputs())
        assert not as_set(inputs[~flags]) & as_set(retain.inputs())


@pytest.mark.parametrize("augmentation", ["flip", "crop"])
def test_every_epoch_crops_an_image_anew(augmentation: Any) -> None:
    problem = TinyProblem()
    one = problem.images("retain").select(torch.tensor([0]))
    draws = generator()
    plain, mixed = [], []
    for _ in range(12):
        ((inputs, _),) = shuffled_batches(
            one, 1, device=CPU, generator=draws, augmentation=augmentation
        )
        plain.append(inputs)
        ((inputs, _, _),) = mixed_batches(
            problem.images("forget"),
            one,
            100,
            device=CPU,
            generator=draws,
            augmentation=augmentation,
        )
        mixed.append(inputs[-1:])
    for epochs in (plain, mixed):
        assert len({tuple(inputs.flatten().tolist()) for inputs in epochs}) == (
            2 if augmentation == "flip" else 12
        )


@pytest.mark.parametrize("name", ["gradient_ascent", "random_label"])
def test_chunks_of_the_support_set_do_not_change_its_steps(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, method = TinyProblem().unlearn_request(), build(name, {})
    whole = method.unlearn(request).state_dict()
    monkeypatch.setattr(_sgd, "CHUNK_SIZE", 2)
    assert largest_difference(method.unlearn(request).state_dict(), whole) < 1e-6


@pytest.mark.parametrize("name", ["gradient_ascent", "random_label"])
def test_the_classifier_can_be_moved_alone(name: str) -> None:
    request = TinyProblem().unlearn_request()
    after = build(name, {"parameters": "classifier"}).unlearn(request).state_dict()
    before = request.model.state_dict()
    moved = {key for key in before if not torch.equal(after[key], before[key])}
    assert moved == {"head.weight", "head.bias"}


def test_the_support_set_becomes_a_selection() -> None:
    support = TinyProblem().unlearn_request().support
    images = support_images(support)
    assert isinstance(images, LabelledImages)
    assert torch.equal(images.inputs(), support.inputs())
    assert torch.equal(images.labels, support.labels)


def test_full_access_is_asked_for_by_name() -> None:
    request = TinyProblem().full_request()
    assert full_access(request, "scrub") is request
    with pytest.raises(DataAccessError, match="scrub needs forget and retain set"):
        full_access(TinyProblem().unlearn_request(), "scrub")


def test_random_attributes_are_as_common_as_the_true_ones() -> None:
    labels = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    prior = label_prior(labels)
    assert prior is not None
    torch.testing.assert_close(prior, torch.tensor([0.75, 0.25, 0.5]))
    drawn = random_labels(labels.repeat(5000, 1), prior, 3, generator())
    torch.testing.assert_close(drawn.mean(0), prior, rtol=0, atol=0.02)
    assert set(drawn.flatten().tolist()) == {0.0, 1.0}


def test_random_classes_are_the_other_classes() -> None:
    labels = torch.arange(4).repeat(2000)
    assert label_prior(labels) is None
    drawn = random_labels(labels, None, 4, generator())
    counts = torch.bincount(4 * labels + drawn, minlength=16).reshape(4, 4)
    assert (counts.diagonal() == 0).all()
    assert counts[~torch.eye(4, dtype=torch.bool)].min() > 550


def test_batches_do_not_change_the_mean_gradient() -> None:
    model, data = tiny_model("convnext"), TinyProblem().images("val")
    parameters = list(model.parameters())
    whole = torch.autograd.grad(loss_of(model(data.inputs()), data.labels), parameters)
    parts = mean_gradient(model, parameters, data.batches(5, CPU), "multilabel")
    for ours, theirs in zip(parts, whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)
