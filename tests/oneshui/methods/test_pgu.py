from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
from reference import pgu as reference
from support.golden import GoldenCase, each_case, largest_difference
from support.tiny import TinyProblem, tiny_model
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from oneshui.data.images import LabelledImages, make_images
from oneshui.errors import InputError
from oneshui.methods import _projection, build
from oneshui.methods.pgu import PGU
from oneshui.requests import SupportSet


def make(**changes: Any) -> PGU:
    method = build("pgu", changes)
    assert isinstance(method, PGU)
    return method


def moved(problem: TinyProblem, **changes: Any) -> dict[str, torch.Tensor]:
    """By how much the method changes every parameter that it changes."""
    method = make(**changes)
    request = problem.unlearn_request(method.prepare(problem.prepare_request()))
    before, after = request.model.state_dict(), method.unlearn(request).state_dict()
    return {n: after[n] - before[n] for n in before if not torch.equal(after[n], before[n])}


def test_networks_with_tensorflow_s_padding_are_projected() -> None:
    layers = _projection.projected_layers(timm.create_model("tf_efficientnet_lite0"))
    assert len(layers) == 50
    assert any(type(layer) is Conv2dSame for layer in layers.values())


@pytest.mark.parametrize("network", ["vit", "convnext"])
@pytest.mark.parametrize("unit_stride", [False, True])
@pytest.mark.parametrize("limit", [1, 2**25], ids=["in pieces", "at once"])
def test_covariances_are_those_of_a_plain_loop(
    network: Any, unit_stride: bool, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_projection, "MAX_PATCH_NUMBERS", limit)
    model = tiny_model(network)
    images = TinyProblem().images("val").inputs(slice(0, 3))
    seen: dict[str, torch.Tensor] = {}
    layers = _projection.projected_layers(model)
    for name, layer in layers.items():
        layer.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
    ours = _projection.input_covariances(model, [images[:2], images[2:]], unit_stride=unit_stride)
    with torch.no_grad():
        model(images)
    assert ours.keys() == layers.keys()
    chosen = [n for n in layers if "stages.2" not in n and "stages.3" not in n]
    for name in chosen:
        vectors = reference.input_vectors(layers[name], seen[name], 1 if unit_stride else None)
        expected = reference.covariances(vectors)
        torch.testing.assert_close(ours[name], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9, 0.999])
def test_projections_are_those_of_a_plain_loop(gamma: float) -> None:
    vectors = torch.randn(2, 7, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scales = torch.linspace(0.1, 3, 7, dtype=torch.float64)[:, None]
    covariance = (scales * vectors) @ (scales * vectors).mT
    ours, rank = _projection.projection(covariance, gamma)
    for group in range(2):
        theirs = reference.projection(covariance[group].numpy(), gamma)
        torch.testing.assert_close(ours[group], torch.from_numpy(theirs))
        assert rank[group].item() == round(theirs.trace())


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_losses_are_those_of_a_plain_loop(task: Any) -> None:
    logits = 3 * torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    labels = TinyProblem("vit", task).images("val").labels[:6]
    for variant in ("corrected", "reference"):
        ours = _projection.reverse_loss(logits, labels, task, variant)
        theirs = reference.reverse_loss(logits, labels, by_index=variant == "reference")
        assert ours.item() == pytest.approx(theirs, rel=1e-5)
    for kind in ("softmax", "bernoulli"):
        ours = _projection.negative_entropy(logits, kind)
        assert ours.item() == pytest.approx(reference.negative_entropy(logits, kind), rel=1e-5)


@pytest.mark.parametrize("network", ["vit", "convnext"])
def test_steps_move_layer_weights_only_and_not_along_the_training_inputs(network: Any) -> None:
    problem = TinyProblem(network)
    layers = _projection.projected_layers(tiny_model(network))
    steps = moved(problem, gamma=0.5)
    # A depthwise convolution of one pixel has but one direction, which D_tr holds.
    held = {"stages.3.blocks.0.conv_dw.weight"} if network == "convnext" else set()
    assert steps.keys() == {f"{name}.weight" for name in layers} - held
    prepared = make().prepare(problem.prepare_request())
    for name, step in steps.items():
        _, vectors = _projection.spectrum(prepared[name.removesuffix(".weight")])
        first = vectors[..., :1].float()
        step = step.reshape(len(first), -1, first.shape[1])
        assert (step @ first).abs().max() < 1e-5 * max(1.0, step.abs().max().item())


@pytest.mark.parametrize("variant", ["corrected", "reference"])
@pytest.mark.parametrize(
    ("task", "entropy"),
    [("multilabel", "softmax"), ("multilabel", "bernoulli"), ("multiclass", "softmax")],
)
def test_the_whole_method_is_a_plain_loop(variant: str, task: Any, entropy: str) -> None:
    problem, gamma, rate, epochs, batch_size = TinyProblem("vit", task), 0.6, 0.3, 3, 2
    train = problem.images("train").select(torch.arange(10))
    model = tiny_model("vit")
    layers = _projection.projected_layers(model)
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
        for name, layer in layers.items()
    ]

    def measured(data: LabelledImages) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            model(data.inputs())
        stride = 1 if variant == "reference" else None
        return {
            name: reference.covariances(reference.input_vectors(layer, seen[name], stride))[0]
            for name, layer in layers.items()
        }

    of_train, of_support = measured(train), measured(problem.images("support"))
    for hook in hooks:
        hook.remove()
    kept = {}
    for name, covariance in of_train.items():
        own = covariance - of_support[name] if variant == "reference" else covariance
        kept[name] = torch.from_numpy(reference.projection(own.numpy(), gamma)).float()

    inputs, labels = problem.images("support").inputs(), problem.images("support").labels
    weights = [layer.weight for layer in layers.values()]
    for epoch in range(epochs):
        step = rate * (1 + math.cos(math.pi * epoch / epochs)) / 2
        for start in range(0, len(inputs), batch_size):
            y = labels[start : start + batch_size]
            logits = model(inputs[start : start + batch_size])
            p = logits.sigmoid() if task == "multilabel" else logits.softmax(1)
            if task == "multiclass":
                true = p[torch.arange(len(y)), y]
            elif variant == "reference":
                true = torch.where(y > 0, p[:, 1:2], p[:, 0:1])
            else:
                true = torch.where(y > 0, p, 1 - p)
            q = logits.softmax(1)
            entropies = -(q * q.log()).sum(1)
            if entropy == "bernoulli":
                entropies = -(p * p.log() + (1 - p) * (1 - p).log()).sum(1)
            loss = -(1 - true + 0.05).log().mean() - 0.2 * entropies.mean()
            gradients = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                for (name, layer), gradient in zip(layers.items(), gradients, strict=True):
                    rows = gradient.flatten(1)
                    layer.weight -= step * (rows - rows @ kept[name]).view_as(layer.weight)

    method = make(
        variant=variant,
        entropy=entropy,
        gamma=gamma,
        learning_rate=rate,
        epochs=epochs,
        batch_size=batch_size,
    )
    request = problem.unlearn_request(method.prepare(problem.prepare_request(train=train)))
    after = method.unlearn(request).state_dict()
    assert largest_difference(after, model.state_dict()) < 1e-4
    assert largest_difference(after, request.model.state_dict()) > 1e-2


def test_a_gamma_of_one_disables_the_update() -> None:
    assert moved(TinyProblem(), gamma=1.0) == {}


def test_frozen_weights_stay() -> None:
    problem = TinyProblem()
    request = problem.unlearn_request(make().prepare(problem.prepare_request()))
    request.model.get_submodule("head").requires_grad_(False)
    after = make().unlearn(request).state_dict()
    assert torch.equal(after["head.weight"], request.model.state_dict()["head.weight"])


@pytest.mark.parametrize(
    "changes", [{"variant": "reference"}, {"entropy": "bernoulli"}, {"batch_size": 2}]
)
def test_every_variant_changes_the_result(changes: dict[str, Any]) -> None:
    plain, changed = moved(TinyProblem()), moved(TinyProblem(), **changes)
    assert largest_difference(plain, changed) > 0


def test_what_does_not_fit_the_model_or_the_task_is_refused_at_once() -> None:
    problem = TinyProblem("convnext", "multiclass")
    with pytest.raises(InputError, match=r"pgu.entropy is 'bernoulli'.*has classes"):
        make(entropy="bernoulli").prepare(problem.prepare_request())

    request = problem.prepare_request()
    stem = next(m for m in request.model.modules() if isinstance(m, nn.Conv2d))
    stem.padding_mode = "circular"
    with pytest.raises(InputError, match=r"pgu cannot unfold the inputs of stem.0.*circular"):
        make().prepare(request)


@each_case
def test_pgu_is_the_reference_s(case: GoldenCase) -> None:
    hyper, gamma = case.expected["pgu.hyper"], case.expected["pgu.hyper"]["gamma"]

    def covariances(name: str, unit_stride: bool) -> _projection.Matrices:
        images: Iterator[torch.Tensor] = (x for x, _ in case.batches(name, hyper["cov_batch_size"]))
        return _projection.input_covariances(case.model(), images, unit_stride=unit_stride)

    train, support = covariances("train", True), covariances("support", True)
    for part, ours in (("train", train), ("support", support)):
        for name, expected in case.tensors("pgu", f"faithful.cov_{part}.").items():
            tolerance = 1e-5 * expected.abs().max().item()
            torch.testing.assert_close(ours[name][0].float(), expected, rtol=0, atol=tolerance)

    retain = {name: train[name] - support[name] for name in train}
    for name, expected in case.tensors("pgu", "faithful.retain_singular_values.").items():
        sizes = _projection.spectrum(retain[name])[0][0].float()
        torch.testing.assert_close(sizes, expected, rtol=0, atol=1e-3 * expected.max().item())

    projections = {}
    for name, covariance in retain.items():
        projected, rank = _projection.projection(covariance, gamma)
        assert rank.tolist() == [case.expected["pgu.rank"][name]]
        projections[name] = projected.float()
    for name, expected in case.tensors("pgu", "faithful.projection.").items():
        torch.testing.assert_close(projections[name][0], expected, rtol=0, atol=5e-4)

    corrected = covariances("train", False)
    for name, expected in case.tensors("pgu", "fixcov.projection.").items():
        projected, rank = _projection.projection(corrected[name], gamma)
        assert rank.tolist() == [case.expected["pgu.fixcov.rank"][name]]
        torch.testing.assert_close(projected[0].float(), expected, rtol=0, atol=5e-4)

    tags: dict[str, _projection.LossVariant] = {"faithful": "reference"}
    if case.task == "multilabel":
        tags["fixloss"] = "corrected"
    for tag, variant in tags.items():
        model = case.model()
        _projection.descend(
            model,
            projections,
            list(case.batches("support", hyper["batch_size"])),
            task=case.task,
            learning_rate=hyper["lr"],
            epochs=hyper["epochs"],
            variant=variant,
            entropy="softmax",
        )
        pair = case.pair(model.state_dict(), "pgu", f"{tag}.after_epoch2.")
        assert largest_difference(*pair) < 5e-5


@each_case
def test_the_whole_reference_variant_is_the_reference_s(case: GoldenCase) -> None:
    hyper = case.expected["pgu.hyper"]
    labels = case.labels.byte() if case.task == "multilabel" else case.labels

    def images(name: str) -> LabelledImages:
        tables = (case.images.numpy(), labels.numpy(), case.identities.numpy())
        return make_images(*tables, case.rows(name).numpy())

    tiny, support = TinyProblem(task=case.task), images("support")
    chosen = SupportSet(images=support.raw(), labels=support.labels, identities=support.identities)
    method = make(
        variant="reference",
        learning_rate=hyper["lr"],
        epochs=hyper["epochs"],
        gamma=hyper["gamma"],
        batch_size=hyper["batch_size"],
    )
    prepared = method.prepare(tiny.prepare_request(model=case.model(), train=images("train")))
    request = tiny.unlearn_request(prepared)
    unlearned = method.unlearn(dataclasses.replace(request, model=case.model(), support=chosen))
    pair = case.pair(unlearned.state_dict(), "pgu", "faithful.after_epoch2.")
    assert largest_difference(*pair) < 5e-5
