"""What a preparation may hold: numbers about the training data, not the data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from oneshui.data.images import LabelledImages
from oneshui.errors import MethodError

_LOOKED_AT = 64
"""Values in the middle of a picture that tell which pictures a row may be."""

_MOST_ROWS = 256


def refuse_pictures(
    prepared: Mapping[str, torch.Tensor],
    method: str,
    train: LabelledImages,
    model: nn.Module,
) -> None:
    """Refuse a preparation that is, or may be, a copy of the training set.

    Args:
        prepared: Tensors by name, on the processor.
        method: Whose preparation it is.
        train: D_tr.
        model: The pretrained model.

    Raises:
        MethodError: A tensor consists of training pictures, as bytes or as floats in [0, 255],
            [0, 1] or [-1, 1]; or all of it is as large as the training set's pixels and larger
            than ``statistics_bytes``.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in prepared.values())
    pixels = len(train) * int(np.prod(train.pixels.shape[1:]))
    allowed = statistics_bytes(model)
    if size >= pixels and size > allowed:
        raise MethodError(
            f"the preparation of method {method} has {size} bytes, no fewer than the {pixels} of "
            f"the training pictures and more than the {allowed} that statistics of this model may "
            "have: it must not keep what is deleted; keep less, or declare Access.FULL"
        )
    for name, tensor in prepared.items():
        if _holds_pictures(tensor, train):
            raise MethodError(
                f"the preparation of method {method} holds training pictures in {name}: it must "
                "not keep what is deleted; keep numbers about them, or declare Access.FULL"
            )


def statistics_bytes(model: nn.Module) -> int:
    """What a preparation may have in any case, however few the pictures: it depends on the model.

    Two float64 numbers for every weight, and for every entry of the second moments of what enters
    and what leaves each layer.
    """
    numbers: int = sum(weight.numel() for weight in model.state_dict().values())
    for layer in model.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
            outputs = int(layer.weight.shape[0]) // groups
            inputs = int(layer.weight[0].numel())
            numbers += groups * (inputs**2 + outputs**2)
    return 2 * 8 * numbers


def _holds_pictures(tensor: torch.Tensor, train: LabelledImages) -> bool:
    width = int(np.prod(train.pixels.shape[1:]))
    if tensor.numel() == 0 or tensor.numel() % width or tensor.is_complex():
        return False
    rows = tensor.detach().reshape(-1, width)
    rows = rows[torch.linspace(0, len(rows) - 1, min(len(rows), _MOST_ROWS)).long()].double()
    middle = slice(width // 2, width // 2 + _LOOKED_AT)
    flat = train.pixels.reshape(len(train.pixels), width)
    marks = defaultdict(list)
    for row in train.rows:
        marks[flat[row, middle].tobytes()].append(row)
    for values in (rows, rows * 255, (rows + 1) * 127.5):
        for picture in values.round().clamp(0, 255).to(torch.uint8).numpy():
            # A picture of one colour says nothing, and a tensor of zeros is none.
            if picture.min() < picture.max() and any(
                np.array_equal(picture, flat[row]) for row in marks[picture[middle].tobytes()]
            ):
                return True
    return False
