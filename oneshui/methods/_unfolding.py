"""What the outputs of a convolution are computed from, patch by patch."""

from __future__ import annotations

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import nn
from torch.nn import functional as F


def can_unfold(layer: nn.Conv2d) -> bool:
    """Whether ``unfold`` gives what the layer sees: it pads by a number of zeros, or as TensorFlow.

    A subclass may do anything with its weights, so only timm's for TensorFlow's padding counts.
    """
    if type(layer) is Conv2dSame:
        return True
    plain = type(layer) is nn.Conv2d and layer.padding_mode == "zeros"
    return plain and not isinstance(layer.padding, str)


def unfold(layer: nn.Conv2d, inputs: torch.Tensor, *, unit_stride: bool = False) -> torch.Tensor:
    """The patches of every group, [B, G, d, places].

    Args:
        layer: One that can be unfolded.
        inputs: [B, channels, H, W].
        unit_stride: Whether to take them at every pixel, whatever the layer's stride.
    """
    if type(layer) is Conv2dSame:
        inputs = pad_same(inputs, list(layer.kernel_size), list(layer.stride), list(layer.dilation))
    assert not isinstance(layer.padding, str)
    stride = 1 if unit_stride else layer.stride
    if layer.kernel_size == (1, 1) and stride in (1, (1, 1)) and layer.padding == (0, 0):
        # A patch is a pixel: unfolding would copy everything.
        patches = inputs.flatten(2)
    else:
        patches = F.unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, stride)
    return torch.unflatten(patches, 1, (layer.groups, -1))
