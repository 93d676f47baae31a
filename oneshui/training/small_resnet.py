"""The authors' ResNet-18 for pictures of 32 px, under a name of timm's.

timm's ResNet-18 with a first convolution of 3 x 3 and stride 1 and without the pooling after it,
so that 32 px leave 4 x 4 before the last mean; layers start as PyTorch's do, which is how the
reference starts them, not as timm's (docs/benchmark.md, T9).
"""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from timm.models.resnet import ResNet, resnet18
from torch import nn

__all__ = ["resnet18_32px"]


@register_model
def resnet18_32px(pretrained: bool = False, **options: Any) -> ResNet:
    """The network, with random weights.

    Args:
        pretrained: Must be false: nobody published weights for it.
        options: Keyword arguments of timm's ``resnet18``, ``num_classes`` among them.

    Raises:
        RuntimeError: ``pretrained`` is true.
    """
    if pretrained:
        raise RuntimeError("nobody published any")
    # What timm knows of a name's published weights, which this one has not.
    own = {key: it for key, it in options.items() if not key.startswith("pretrained_cfg")}
    model: ResNet = resnet18(**own)
    # timm declares more general layers than its resnet18 has.
    width = model.get_parameter("conv1.weight").shape[0]
    model.add_module("conv1", nn.Conv2d(3, width, kernel_size=3, padding=1, bias=False))
    model.add_module("maxpool", nn.Identity())
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            module.reset_parameters()
    return model
