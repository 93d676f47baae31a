"""Squared gradients of single images, layer by layer, in one forward and one backward pass.

In evaluation mode images do not meet each other, so the gradient of a layer's outputs for an image
is that of the image's own number, and the gradient of the layer's weight for the image follows
from it and the layer's inputs. One layer's gradients are squared and summed before the next one's
are made.

Source: Goodfellow, "Efficient per-example gradient computations" (arXiv 1510.01799), extended to
layers that see an image in several places, as Rochette et al. (arXiv 1912.06015) do.

Shapes: B images, T tokens, D numbers of a token.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
from timm.layers.layer_scale import LayerScale
from timm.layers.norm import LayerNorm
from timm.layers.norm_act import BatchNormAct2d
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn import functional as F

from oneshui.accelerator import is_accelerator
from oneshui.methods._unfolding import can_unfold, unfold

MAX_CACHED_NUMBERS = 2**17
"""Gradients that a processor holds at a time (512 KiB in float32), to square them in its cache."""

MAX_UNFOLDED_NUMBERS = 2**24
"""Unfolded inputs of a convolution that are held at a time (64 MiB in float32)."""


class LayerwiseError(Exception):
    """The model does with a layer what gradients layer by layer do not cover."""


def is_layerwise(model: nn.Module) -> bool:
    """Whether every parameter belongs to a layer that this module has a rule for.

    Linear layers, convolutions that can be unfolded, layer, group and batch norms, also with the
    activation that timm has in them, timm's layer scale, and the tokens and position embeddings of
    timm's vision transformers. What shows only in a forward pass is left to
    ``squared_gradient_sums``.
    """
    if any(module.training for module in model.modules()):
        return False
    every = list(model.named_parameters(remove_duplicate=False))
    if len({id(parameter) for _, parameter in every}) < len(every):
        return False
    return all(
        _has_rule(module) or _is_repeated(module) for module in model.modules() if _measured(module)
    )


def squared_gradient_sums(
    model: nn.Module,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Sum over images of the squared gradient of the image's number, by parameter name.

    The first dimension of every layer's inputs has to be that of the images; of any other one only
    its length is noticed.

    Args:
        model: One that ``is_layerwise``; it is left as it is. Only its parameters that require a
            gradient are measured.
        inputs: [B, 3, S, S].
        labels: Of the images.
        loss: Mean of a number per image, from logits [B, C] and labels.

    Raises:
        LayerwiseError: A layer is called twice, never, or not with one row of inputs per image,
            or its inputs are overwritten.
    """
    count = len(inputs)
    values = {name: value.detach() for name, value in model.named_parameters()}
    layers: dict[nn.Module, dict[str, str]] = {}
    copies: dict[str, torch.Tensor] = {}
    for prefix, module in model.named_modules():
        names = {own: f"{prefix}.{own}" if prefix else own for own in _measured(module)}
        if _has_rule(module):
            layers[module] = names
            continue
        for name in names.values():
            repeated = values[name].expand(count, *values[name].shape[1:])
            values[name] = copies[name] = repeated.clone().requires_grad_()
    sums = {n: torch.zeros_like(p) for n, p in model.named_parameters() if p.requires_grad}
    with _watched(layers, count, sums) as ends, torch.enable_grad():
        # With detached weights autograd goes from layer to layer and past their gradients.
        logits = torch.func.functional_call(model, values, inputs)
        value = loss(logits, labels) * count
        found = torch.autograd.grad(value, [*copies.values(), *ends], allow_unused=True)
    for name, gradient in zip(copies, found, strict=False):
        if gradient is not None:
            sums[name] = gradient.square().sum(0, keepdim=True)
    return sums


def _measured(module: nn.Module) -> dict[str, nn.Parameter]:
    """The module's own parameters that require a gradient."""
    own = module.named_parameters(recurse=False)
    return {name: parameter for name, parameter in own if parameter.requires_grad}


def _has_rule(module: nn.Module) -> bool:
    # A subclass may do anything with its weights.
    kind = type(module)
    if isinstance(module, nn.Conv2d):
        plain = can_unfold(module)
    elif isinstance(module, nn.BatchNorm2d) and kind in (nn.BatchNorm2d, BatchNormAct2d):
        plain = module.running_mean is not None
    elif isinstance(module, LayerScale) and kind is LayerScale:
        return not module.inplace
    else:
        plain = kind in (nn.Linear, nn.LayerNorm, LayerNorm, nn.GroupNorm)
    own = {name for name, _ in module.named_parameters(recurse=False)}
    return plain and own <= {"weight", "bias"}


def _is_repeated(module: nn.Module) -> bool:
    """Whether the module's parameters [1, T, D] join the tokens of every image unchanged."""
    plain = type(module) is VisionTransformer and not module.dynamic_img_size
    return plain and all(p.dim() == 3 and len(p) == 1 for p in _measured(module).values())


@contextlib.contextmanager
def _watched(
    layers: dict[nn.Module, dict[str, str]], count: int, sums: dict[str, torch.Tensor]
) -> Iterator[list[torch.Tensor]]:
    """Have a backward pass put the sums of the layers' parameters into ``sums``.

    Yields:
        Where the backward pass has to end, filled by the forward pass.
    """
    called: set[nn.Module] = set()
    ends: list[torch.Tensor] = []

    def after(
        layer: nn.Module, arguments: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> torch.Tensor:
        if layer in called or not arguments or len(arguments[0]) != count:
            raise LayerwiseError("a layer is called twice, or not with a row of inputs per image")
        called.add(layer)
        given = arguments[0].detach()
        version = given._version
        if not output.requires_grad:
            ends.append(output.detach().requires_grad_())
            # A network may overwrite what a layer gives; autograd forbids it for an end.
            output = ends[-1].clone()

        def back(gradient: torch.Tensor) -> None:
            if given._version != version:
                raise LayerwiseError("a layer's inputs are overwritten")
            if isinstance(layer, BatchNormAct2d):
                gradient = _before_activation(layer, given, gradient)
            for own, name in layers[layer].items():
                sums[name] = (
                    _bias_sum(layer, gradient)
                    if own == "bias"
                    else _weight_sum(layer, given, gradient)
                )

        # It sees the gradient of what the layer gave, also if that is overwritten later.
        output.register_hook(back)  # type: ignore[no-untyped-call]
        return output

    watched = [layer for layer, names in layers.items() if names]
    handles = [layer.register_forward_hook(after) for layer in watched]
    try:
        yield ends
    finally:
        for handle in handles:
            handle.remove()
    if len(called) < len(watched):
        raise LayerwiseError("a layer's weights are used without calling it, or not at all")


def _before_activation(
    layer: BatchNormAct2d, given: torch.Tensor, gradient: torch.Tensor
) -> torch.Tensor:
    """The gradient with respect to what the layer's activation is given, from that of its outputs.

    Args:
        layer: A batch norm with an activation.
        given: The layer's inputs, [B, C, H, W].
        gradient: Of its outputs, of the same shape.
    """
    statistics = layer.running_mean, layer.running_var
    with torch.no_grad():
        normalised = F.batch_norm(given, *statistics, layer.weight, layer.bias, eps=layer.eps)
    with torch.enable_grad():
        normalised.requires_grad_()
        # The activation may overwrite what it is given.
        output = layer.act(layer.drop(normalised.clone()))
        return torch.autograd.grad(output, normalised, gradient)[0]


def _weight_sum(layer: nn.Module, given: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Sum over images of the squared gradient of the layer's weight, in the weight's shape.

    Args:
        layer: One that has a rule.
        given: The layer's inputs, [B, ...].
        gradient: Of each image's number with respect to the layer's outputs, [B, ...].
    """
    if isinstance(layer, nn.Linear):
        if given.dim() == 2:
            return gradient.square().T @ given.square()
        return _product_sum(gradient.flatten(1, -2).mT, given.flatten(1, -2))
    if isinstance(layer, nn.Conv2d):
        return _convolution_sum(layer, given, gradient)
    if isinstance(layer, nn.LayerNorm):
        given = F.layer_norm(given, layer.normalized_shape, eps=layer.eps)
    elif isinstance(layer, nn.GroupNorm):
        given = F.group_norm(given, layer.num_groups, eps=layer.eps)
    elif isinstance(layer, nn.BatchNorm2d):
        given = F.batch_norm(given, layer.running_mean, layer.running_var, eps=layer.eps)
    return _bias_sum(layer, gradient * given)


def _bias_sum(layer: nn.Module, gradient: torch.Tensor) -> torch.Tensor:
    """Sum over images of the squared sum over an image's places, in the bias's shape."""
    if isinstance(layer, nn.Linear | LayerScale):
        places = range(1, gradient.dim() - 1)
    elif isinstance(layer, nn.LayerNorm):
        places = range(1, gradient.dim() - len(layer.normalized_shape))
    else:
        places = range(2, gradient.dim())
    return (gradient.sum(tuple(places)) if places else gradient).square().sum(0)


def _convolution_sum(layer: nn.Conv2d, given: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """``_weight_sum`` of a convolution, from unfolded inputs of some images at a time."""
    total = torch.zeros_like(layer.weight)
    numbers = math.prod(layer.kernel_size) * given.shape[1] * gradient[0, 0].numel()
    size = max(1, MAX_UNFOLDED_NUMBERS // numbers)
    for images, outputs in zip(torch.split(given, size), torch.split(gradient, size), strict=True):
        patches = unfold(layer, images)
        rows = outputs.reshape(len(images), layer.groups, -1, patches.shape[3])
        total += _product_sum(rows, patches.mT).view_as(total)
    return total


def _product_sum(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Sum over images of the squared products of [B, ..., n, T] and [B, ..., T, m]."""
    if is_accelerator(left.device):
        return (left @ right).square_().sum(0)
    numbers = left[0, ..., 0].numel() * right.shape[-1]
    size = min(len(left), max(1, MAX_CACHED_NUMBERS // numbers))
    total = left.new_zeros(*left.shape[1:-1], right.shape[-1])
    # Fresh memory for every piece costs more than squaring what is put there.
    kept = left.new_empty(size, *total.shape)
    for some, others in zip(torch.split(left, size), torch.split(right, size), strict=True):
        products = torch.matmul(some, others, out=kept[: len(some)])
        total += products.square_().sum(0)
    return total
