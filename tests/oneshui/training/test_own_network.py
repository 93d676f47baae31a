"""A network of the user's own: one convention for methods, the user's own names in every file."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.own_code import NET, written
from support.tiny import NUM_OUTPUTS, TinyProblem
from torch import nn

from oneshui import methods, plugins
from oneshui.errors import InputError
from oneshui.spec import Access, ModelSpec
from oneshui.training.models import (
    FeaturesAndLogits,
    classifier_of,
    load_whole,
    make_model,
    save_weights,
)
from oneshui.training.predict import predict_logits

CPU = torch.device("cpu")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with written(tmp_path_factory.mktemp("own"), {"own_net.py": NET}) as made:
        yield made


def spec_of(folder: Path, **changes: Any) -> ModelSpec:
    spec = ModelSpec(
        factory=f"{folder}/own_net.py:make_net",
        image_size=32,
        weights="random",
        options={"width": 4},
        mean=MEAN,
        std=STD,
    )
    return dataclasses.replace(spec, **changes)


def test_it_sees_inputs_as_its_maker_normalises_them(folder: Path) -> None:
    model = make_model(spec_of(folder), NUM_OUTPUTS, 0)
    module: Any = plugins.attribute(f"{folder}/own_net.py:Net")
    plain = module(NUM_OUTPUTS, 4).eval()
    plain.load_state_dict(model.state_dict(), strict=True)
    pixels = TinyProblem("convnext").images("support").raw()
    mean, std = (torch.tensor(it)[:, None, None] for it in (MEAN, STD))
    with torch.no_grad():
        expected = plain((pixels / 255 - mean) / std)
        inputs = pixels / 127.5 - 1
        torch.testing.assert_close(model(inputs), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(copy.deepcopy(model)(inputs), expected, rtol=1e-5, atol=1e-5)
        logits, features = FeaturesAndLogits(model)(inputs)
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(classifier_of(model)(features), logits)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in model.named_parameters()] == [
        name for name, _ in plain.named_parameters()
    ]
    own = copy.deepcopy(model)
    assert classifier_of(own) is own.get_classifier() is own.head  # type: ignore[operator]


def test_a_timm_network_may_take_other_inputs_too() -> None:
    ours = ModelSpec(name="test_efficientnet", image_size=32, weights="random")
    same = dataclasses.replace(ours, mean=(0.5,) * 3, std=(0.5,) * 3)
    other = dataclasses.replace(ours, mean=MEAN, std=STD)
    images = TinyProblem().images("support").inputs()
    with torch.no_grad():
        first, second, third = (
            FeaturesAndLogits(make_model(it, NUM_OUTPUTS, 0))(images) for it in (ours, same, other)
        )
    for one, two in zip(first, second, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-6)
    assert not torch.allclose(first[0], third[0], atol=1e-3)


def test_what_says_nothing_of_itself_is_in_no_identity() -> None:
    plain = ModelSpec(name="resnet18", image_size=32, weights="random")
    assert set(plain.to_json()) == {"name", "image_size", "weights", "options"}
    own = ModelSpec(name="resnet18", factory="nets:make", image_size=32, weights="random")
    assert own.to_json() == {
        "factory": "nets:make",
        "image_size": 32,
        "weights": "random",
        "options": {},
    }
    with pytest.raises(InputError, match=r"model\.std is None.*given with model\.mean"):
        ModelSpec(mean=MEAN)
    with pytest.raises(InputError, match=r"model\.weights is 'imagenet'.*nets:make"):
        ModelSpec(factory="nets:make")


@pytest.mark.parametrize("name", methods.names())
def test_every_method_runs_on_it(name: str, folder: Path) -> None:
    method: Any = methods.build(name, {})
    problem = TinyProblem("convnext", "multilabel")
    model = make_model(spec_of(folder), NUM_OUTPUTS, 0)
    prepared = {}
    if method.access is Access.PREPARED:
        prepared = method.prepare(problem.prepare_request(model=model))
    request: Any = problem.unlearn_request(prepared)
    if method.access is Access.FULL:
        request = dataclasses.replace(
            problem.full_request(), fresh_model=make_model(spec_of(folder), NUM_OUTPUTS, 1)
        )
    request = dataclasses.replace(request, model=model)
    after = method.unlearn(request).state_dict()
    assert list(after) == list(model.state_dict())
    assert all(value.isfinite().all() for value in after.values())
    moved = any(not torch.equal(value, after[key]) for key, value in model.state_dict().items())
    assert moved == (name != "pretrain")


FAULTY = {
    "no_linear": "def make(n):\n    return nn.Sequential(nn.Flatten(), nn.Linear(3072, n), RELU)",
    "outputs": "def make(n):\n    return nn.Sequential(nn.Flatten(), nn.Linear(3072, n + 1))",
    "none": "def make(n):\n    return None",
    "fails": "def make(n, depth):\n    raise ValueError('depth?\\nreally')",
    "other": "def make(n):\n    return nn.Linear(5, n)",
}
REASONS = {
    "no_linear": "outputs are not those of an nn.Linear .* without a softmax",
    "outputs": r"returns \[2, 6\] for 2 images, but it must return logits \[2, 5\]",
    "none": r"make\(5\) returned NoneType, but it must be a torch.nn.Module",
    "fails": r"make\(5\) failed: TypeError: make\(\) missing 1 required .*'depth'",
    "other": r"cannot take images \[2, 3, 32, 32\]: RuntimeError: .*model.image_size",
}


@pytest.mark.parametrize("fault", FAULTY)
def test_what_no_method_could_use_is_refused(fault: str, tmp_path: Path) -> None:
    text = f"from torch import nn\nRELU = nn.ReLU()\n{FAULTY[fault]}\n"
    with written(tmp_path, {"faulty_net.py": text}):
        spec = ModelSpec(factory=f"{tmp_path}/faulty_net.py:make", image_size=32, weights="random")
        with pytest.raises(InputError, match=REASONS[fault]) as caught:
            make_model(spec, NUM_OUTPUTS, 0)
        assert "\n" not in str(caught.value)


def test_a_whole_file_of_weights_is_held_to_the_network(folder: Path, tmp_path: Path) -> None:
    trained, path = make_model(spec_of(folder), NUM_OUTPUTS, 3), tmp_path / "w.safetensors"
    save_weights(nn.ModuleDict({"module": trained}), path)
    model = load_whole(make_model(spec_of(folder), NUM_OUTPUTS, 0), path, "sweep.pretrained")
    assert all(torch.equal(v, trained.state_dict()[k]) for k, v in model.state_dict().items())
    for reason, spec, outputs in (
        ("has no head.* of shape 4.*asks for 4 outputs", spec_of(folder), 4),
        ("another width: body", spec_of(folder, options={"width": 5}), NUM_OUTPUTS),
    ):
        with pytest.raises(InputError, match=rf"^sweep\.pretrained .*{reason}"):
            load_whole(make_model(spec, outputs, 0), path, "sweep.pretrained")
    with torch.no_grad():
        classifier_of(trained).bias[0] = float("nan")
    save_weights(trained, path)
    with pytest.raises(InputError, match=r"head\.bias is not finite everywhere"):
        load_whole(make_model(spec_of(folder), NUM_OUTPUTS, 0), path, "sweep.pretrained")


def test_a_network_of_one_layer_has_a_file_too(tmp_path: Path) -> None:
    made = "nn.Sequential(nn.Flatten(), nn.Linear(192, n))"
    text = f"from torch import nn\ndef make(n):\n    return {made}\n"
    with written(tmp_path, {"one_layer.py": text}):
        spec = ModelSpec(factory=f"{tmp_path}/one_layer.py:make", image_size=8, weights="random")
        trained, path = make_model(spec, NUM_OUTPUTS, 3), tmp_path / "w.safetensors"
        save_weights(trained, path)
        model = load_whole(make_model(spec, NUM_OUTPUTS, 0), path, "sweep.pretrained")
        assert torch.equal(classifier_of(model).weight, classifier_of(trained).weight)
        save_weights(nn.Linear(2, 2), path)
        with pytest.raises(InputError, match=r"another kind: \w+ is in it and not in the net"):
            load_whole(make_model(spec, NUM_OUTPUTS, 0), path, "sweep.pretrained")


def test_its_logits_stay_float32_where_it_computes_in_bfloat16(folder: Path) -> None:
    data = TinyProblem("convnext").images("train")
    exact, found = (
        predict_logits(
            make_model(spec_of(folder, precision=precision), NUM_OUTPUTS, 0), data, device=CPU
        )
        for precision in ("float32", "bfloat16")
    )
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    assert not torch.equal(found, found.bfloat16().float())
