from __future__ import annotations

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from oneshui.methods._unfolding import can_unfold, unfold

LAYERS = {
    "plain": nn.Conv2d(4, 6, 3, padding=1),
    "strided": nn.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=(0, 1), dilation=(1, 2)),
    "grouped": nn.Conv2d(4, 6, 3, groups=2),
    "depthwise": nn.Conv2d(4, 8, 5, padding=2, groups=4),
    "pixels": nn.Conv2d(4, 6, 1, groups=2),
    "some pixels": nn.Conv2d(4, 6, 1, stride=2),
    "padded pixels": nn.Conv2d(4, 6, 1, padding=1),
    "TensorFlow's padding": Conv2dSame(4, 6, 3, stride=2),
    "TensorFlow's padding, depthwise": Conv2dSame(4, 4, 5, stride=2, groups=4),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
def test_a_convolution_is_linear_in_what_it_is_unfolded_to(
    name: str, size: tuple[int, int]
) -> None:
    layer = LAYERS[name]
    assert can_unfold(layer)
    inputs = torch.randn(3, 4, *size, generator=torch.Generator().manual_seed(0))
    weight = torch.unflatten(layer.weight.detach(), 0, (layer.groups, -1)).flatten(2)
    outputs = torch.einsum("god,bgdp->bgop", weight, unfold(layer, inputs)).flatten(1, 2)
    assert layer.bias is not None
    with torch.no_grad():
        expected = (layer(inputs) - layer.bias[:, None, None]).flatten(2)
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)


def test_at_unit_stride_there_is_a_patch_for_every_pixel() -> None:
    inputs = torch.arange(18.0).view(1, 2, 3, 3)
    every = unfold(nn.Conv2d(2, 2, 1, stride=2), inputs, unit_stride=True)
    assert torch.equal(every, inputs.view(1, 1, 2, 9))
    assert unfold(nn.Conv2d(2, 2, 2, stride=2), inputs, unit_stride=True).shape == (1, 1, 8, 4)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding="same"),
        nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
        type("Other", (nn.Conv2d,), {})(4, 6, 3),
    ],
)
def test_what_else_a_convolution_may_do_is_not_unfolded(layer: nn.Conv2d) -> None:
    assert not can_unfold(layer)
