"""The network as a job's identity has it."""

from __future__ import annotations

from oneshui.spec import ModelSpec
from oneshui.training.models import make_model


def test_channels_last_is_in_the_identity_only_where_it_is_used() -> None:
    plain = ModelSpec(name="resnet18", image_size=32, weights="random")
    assert plain.to_json() == {
        "name": "resnet18",
        "image_size": 32,
        "weights": "random",
        "options": {},
    }
    last = ModelSpec(name="resnet18", image_size=32, weights="random", channels_last=True)
    assert last.to_json() == {**plain.to_json(), "channels_last": True}


def test_channels_last_is_how_the_weights_lie() -> None:
    for asked in (False, True):
        spec = ModelSpec(
            name="test_efficientnet", image_size=32, weights="random", channels_last=asked
        )
        weights = make_model(spec, num_outputs=4, seed=0).state_dict()
        strides = weights["conv_stem.weight"].stride()
        assert (strides[1] == 1) == asked
