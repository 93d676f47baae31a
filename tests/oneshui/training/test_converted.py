from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import timm
import torch
from support.people import needs_people

from oneshui.errors import InputError
from oneshui.installed import Package
from oneshui.named_weights import NAMED, NamedWeights
from oneshui.spec import ModelSpec
from oneshui.training.converted import converted


class _HeldBy(NamedWeights):
    """Weights whose file lies anywhere."""

    def path(self) -> Path:
        return Path(self.file)


def weights_in(path: Path) -> NamedWeights:
    package = Package(name="none", version="0", module="none")
    return _HeldBy(
        name="ours", model="resnet10t", package=package, file=str(path), sha256="", licence=""
    )


def test_tensors_get_the_names_at_their_places(tmp_path: Path) -> None:
    own = timm.create_model("resnet10t").state_dict()
    theirs = {
        f"theirs{place}.{name.rpartition('.')[2]}": torch.full_like(tensor, place)
        for place, (name, tensor) in enumerate(own.items())
    }
    # As programs write them that keep colours last: safetensors takes no such tensor.
    theirs = {
        name: one.contiguous(memory_format=torch.channels_last) if one.ndim == 4 else one
        for name, one in theirs.items()
    }
    torch.save(theirs, tmp_path / "w.pth")
    found = converted(weights_in(tmp_path / "w.pth"))
    assert list(found) == list(own)
    for place, (name, tensor) in enumerate(found.items()):
        assert tensor.is_contiguous()
        assert torch.equal(tensor, torch.full_like(own[name], place))


def test_another_order_is_refused_even_where_shapes_agree(tmp_path: Path) -> None:
    names = list(timm.create_model("resnet10t").state_dict().items())
    first = next(place for place, (name, _) in enumerate(names) if name.endswith("bn1.weight"))
    names[first], names[first + 1] = names[first + 1], names[first]
    torch.save(dict(names), tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"model.weights ours do not fit resnet10t as timm"):
        converted(weights_in(tmp_path / "w.pth"))


def test_code_in_the_file_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"a": Evil()}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="cannot be read as tensors alone"):
        converted(weights_in(tmp_path / "w.pth"))
    assert not (tmp_path / "ran").exists()


@needs_people
def test_lite0_tells_a_palace_and_a_daisy() -> None:
    from sklearn.datasets import load_sample_images

    model = timm.create_model("tf_efficientnet_lite0")
    model.load_state_dict(converted(NAMED["lite0"]))
    pictures = torch.stack([torch.tensor(one) for one in load_sample_images().images])
    scaled = pictures.permute(0, 3, 1, 2) / 127.5 - 1
    middle = scaled[..., 106:533]
    small = torch.nn.functional.interpolate(middle, size=224, mode="bilinear", antialias=True)
    palace, daisy = 698, 985
    assert model.eval()(small).argmax(dim=1).tolist() == [palace, daisy]


@needs_people
def test_weights_of_another_content_are_not_converted() -> None:
    with pytest.raises(InputError, match="is not what the weights lite0 are known by"):
        converted(dataclasses.replace(NAMED["lite0"], sha256="0" * 64))


def test_every_named_source_is_of_a_network_that_timm_has() -> None:
    for name, one in NAMED.items():
        assert timm.is_model(one.model)
        assert ModelSpec(name=one.model, weights=name).named_weights is one
