"""PGU one token, one patch, one singular direction and one attribute at a time."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

Matrix = npt.NDArray[np.float64]


def input_vectors(
    layer: nn.Linear | nn.Conv2d, inputs: torch.Tensor, stride: int | None = None
) -> list[list[torch.Tensor]]:
    """For each group, the vector that every output of the layer is computed from."""
    if isinstance(layer, nn.Linear):
        return [list(inputs.double().reshape(-1, layer.in_features))]
    assert isinstance(layer.padding, tuple)
    (rows, columns), step = layer.kernel_size, stride or layer.stride[0]
    width = layer.in_channels // layer.groups
    vectors: list[list[torch.Tensor]] = [[] for _ in range(layer.groups)]
    for image in F.pad(inputs.double(), (layer.padding[1],) * 2 + (layer.padding[0],) * 2):
        for top in range(0, image.shape[1] - rows + 1, step):
            for left in range(0, image.shape[2] - columns + 1, step):
                patch = image[:, top : top + rows, left : left + columns]
                for group in range(layer.groups):
                    vectors[group].append(patch[group * width : (group + 1) * width].flatten())
    return vectors


def covariances(vectors: list[list[torch.Tensor]]) -> torch.Tensor:
    return torch.stack([sum(torch.outer(v, v) for v in group) for group in vectors])  # type: ignore[misc]


def projection(covariance: Matrix, gamma: float) -> Matrix:
    left, values, _ = np.linalg.svd(covariance)
    sizes = [math.sqrt(value) for value in values]
    rank, reached = 0, 0.0
    while rank < len(sizes):
        reached += sizes[rank]
        rank += 1
        if reached / sum(sizes) > gamma:
            break
    result = np.zeros_like(covariance)
    for j in range(rank):
        result += np.outer(left[:, j], left[:, j])
    return result


def reverse_loss(logits: torch.Tensor, labels: torch.Tensor, by_index: bool) -> float:
    terms = []
    for z, y in zip(logits.double(), labels, strict=True):
        if y.ndim == 0:
            terms.append(-math.log(1 - z.softmax(0)[int(y)].item() + 0.05))
            continue
        p = z.sigmoid().tolist()
        for k, value in enumerate(y.int().tolist()):
            true = p[value] if by_index else (p[k] if value else 1 - p[k])
            terms.append(-math.log(1 - true + 0.05))
    return sum(terms) / len(terms)


def negative_entropy(logits: torch.Tensor, kind: str) -> float:
    total = 0.0
    for z in logits.double():
        if kind == "softmax":
            total += sum(p * math.log(p) for p in z.softmax(0).tolist())
        else:
            total += sum(p * math.log(p) + (1 - p) * math.log(1 - p) for p in z.sigmoid().tolist())
    return total / len(logits)
