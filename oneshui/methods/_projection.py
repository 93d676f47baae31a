"""Gradient projection: what a network's layers see of D_tr, and steps that keep clear of it.

Source: Hoang et al., "Learn to unlearn for deep neural networks: minimizing unlearning
interference with gradient projection" (arXiv 2312.04095), as the 1-SHUI benchmark runs it
(docs/benchmark.md, "pgu"). A gradient step on a linear layer's weight cannot change the layer's
outputs on inputs that the rows of the step are orthogonal to; so steps are made orthogonal to the
subspace that holds most of D_tr's inputs to the layer. A convolution is linear in its unfolded
patches, a grouped one is so group by group; a linear layer has a single group.

Shapes: B images, C outputs, G groups, d numbers that one output of a layer is computed from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias

import torch
from scipy.linalg import eigh_tridiagonal, lapack
from torch import nn
from torch.nn import functional as F

from oneshui.accelerator import float64_place, is_accelerator
from oneshui.blas import as_many_threads_as_torch
from oneshui.errors import InputError
from oneshui.methods._sgd import StepRate, clipped, cosine
from oneshui.methods._unfolding import can_unfold, unfold
from oneshui.spec import Task

Layers: TypeAlias = dict[str, nn.Linear | nn.Conv2d]
"""Layers whose weights are projected, by name."""

Matrices: TypeAlias = dict[str, torch.Tensor]
"""A matrix of each group of each layer, [G, d, d], by the layer's name."""

LossVariant = Literal["corrected", "reference"]
Entropy = Literal["softmax", "bernoulli"]

OFFSET = 0.05
"""Added to the probability of not being the true value, so that the forget loss is finite."""

ENTROPY_WEIGHT = 0.2

MAX_PATCH_NUMBERS = 2**22
"""Unfolded numbers that are held at a time (32 MiB in float64)."""

SMALLEST_HALVED = 64
"""Rows below which a product that is symmetric gains nothing from leaving half of it out."""

SMALLEST_REDUCED = 64
"""Size of a matrix from which on decomposing it step by step saves time on a processor."""


def projected_layers(model: nn.Module) -> Layers:
    """All linear and convolutional layers.

    Raises:
        InputError: A convolution pads in a way that unfolding does not reproduce.
    """
    layers: Layers = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            if not can_unfold(module):
                raise InputError(
                    f"pgu cannot unfold the inputs of {name}, a {type(module).__name__} with "
                    f"padding {module.padding!r} ({module.padding_mode}): use a model whose "
                    "convolutions are nn.Conv2d padded by a number of zeros, or timm's Conv2dSame"
                )
            layers[name] = module
        elif isinstance(module, nn.Linear):
            layers[name] = module
    return layers


@torch.no_grad()
def input_covariances(
    model: nn.Module, batches: Iterable[torch.Tensor], *, unit_stride: bool
) -> Matrices:
    """Sum of a a^T over the inputs a of every layer, float64 [G, d, d], in one pass.

    Symmetric to the bit, and where float64 can be computed for the device. For a linear layer a is
    a token, for a convolution the patch that one output is computed from.

    Args:
        model: In evaluation mode.
        batches: Images [B, 3, S, S] on the model's device, at least one batch.
        unit_stride: Whether patches are taken at every pixel, the reference's error
            (docs/benchmark.md, P4).
    """
    totals: Matrices = {}

    def watch(name: str, layer: nn.Linear | nn.Conv2d) -> Callable[..., None]:
        def add(_: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            for patches in _patches(layer, arguments[0], unit_stride):
                groups, size = patches.shape[:2]
                if name not in totals:
                    there = float64_place(patches.device)
                    totals[name] = torch.zeros(
                        groups, size, size, dtype=torch.float64, device=there
                    )
                _add_upper_products(totals[name], patches)

        return add

    hooks = [
        layer.register_forward_pre_hook(watch(name, layer))
        for name, layer in projected_layers(model).items()
    ]
    try:
        for images in batches:
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    for total in totals.values():
        _mirror(total)
    return totals


def _add_upper_products(total: torch.Tensor, rows: torch.Tensor) -> None:
    """Add the products of all pairs of rows [G, d, n] to the upper triangle of [G, d, d].

    What it leaves in the lower triangle has no meaning. Of the two blocks beside the diagonal's
    halves one mirrors the other, so almost half of the arithmetic is saved.
    """
    size = rows.shape[1]
    if is_accelerator(rows.device):
        # It has one large product done before several small ones.
        total += (rows @ rows.mT).to(total)
    elif size <= SMALLEST_HALVED:
        total.baddbmm_(rows, rows.mT)
    else:
        half = size // 2
        first, second = rows[:, :half], rows[:, half:]
        total[:, :half, half:].baddbmm_(first, second.mT)
        _add_upper_products(total[:, :half, :half], first)
        _add_upper_products(total[:, half:, half:], second)


def _mirror(total: torch.Tensor) -> None:
    """Overwrite the lower triangle of [G, d, d] by the upper one."""
    total.triu_()
    total += total.triu(1).mT


def _column_products(columns: torch.Tensor) -> torch.Tensor:
    """V V^T of columns V [G, d, n], [G, d, d], symmetric to the bit."""
    groups, size, _ = columns.shape
    products = columns.new_zeros(groups, size, size)
    _add_upper_products(products, columns)
    _mirror(products)
    return products


def _patches(
    layer: nn.Linear | nn.Conv2d, inputs: torch.Tensor, unit_stride: bool
) -> Iterable[torch.Tensor]:
    """What the layer's outputs are computed from, [G, d, any], in bounded pieces.

    Float64; float32 on an accelerator: most compute float64 at a fraction of the speed. Sums over
    pieces are float64 everywhere.
    """
    dtype = torch.float32 if is_accelerator(inputs.device) else torch.float64
    if isinstance(layer, nn.Linear):
        rows = inputs.flatten(0, -2)
        for part in torch.split(rows, max(1, MAX_PATCH_NUMBERS // rows.shape[1])):
            yield part.to(dtype).T.unsqueeze(0)
        return
    numbers = math.prod(layer.kernel_size) * inputs[0].numel()
    for part in torch.split(inputs, max(1, MAX_PATCH_NUMBERS // numbers)):
        patches = unfold(layer, part.to(dtype), unit_stride=unit_stride)
        yield patches.permute(1, 2, 0, 3).flatten(2)


def spectrum(covariance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Square roots of the eigenvalues' sizes, descending [G, d], and eigenvectors [G, d, d].

    Args:
        covariance: Symmetric, float64 [G, d, d]; with a support covariance subtracted it may have
            negative eigenvalues, of which the size counts (docs/benchmark.md, P3).
    """
    values, vectors = torch.linalg.eigh(covariance)
    sizes, order = values.abs().sort(dim=-1, descending=True)
    return sizes.sqrt(), vectors.gather(-1, order.unsqueeze(-2).expand_as(vectors))


def projection(covariance: torch.Tensor, gamma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Projection onto the subspace that holds D_tr, float64 [G, d, d], and its rank, int64 [G].

    The rank is one more than the number of leading singular values whose share of the sum is at
    most ``gamma`` (docs/benchmark.md, P6).

    Args:
        covariance: float64 [G, d, d].
        gamma: In [0, 1].
    """
    groups, size, _ = covariance.shape
    if groups == 1:
        chosen, is_rest, rank = _smaller_basis(covariance, gamma)
        product = _column_products(chosen)
        if is_rest:
            product = torch.eye(size, dtype=product.dtype, device=product.device) - product
        return product, rank
    sizes, vectors = spectrum(covariance)
    rank = _rank(sizes, gamma)
    kept = torch.arange(size, device=sizes.device) < rank.unsqueeze(-1)
    return _column_products(vectors * kept.unsqueeze(-2)), rank


def _rank(sizes: torch.Tensor, gamma: float) -> torch.Tensor:
    share = sizes.cumsum(-1) / sizes.sum(-1, keepdim=True)
    return ((share <= gamma).sum(-1) + 1).clamp(max=sizes.shape[-1])


def _smaller_basis(
    covariance: torch.Tensor, gamma: float
) -> tuple[torch.Tensor, bool, torch.Tensor]:
    """The leading eigenvectors or the others, whichever are fewer, of one group [1, d, d].

    Returns:
        Eigenvectors [1, d, n], whether they are the others, and the rank, int64 [1].
    """
    size = covariance.shape[-1]
    if is_accelerator(covariance.device) or size < SMALLEST_REDUCED:
        sizes, vectors = spectrum(covariance)
        rank = _rank(sizes, gamma)
        part, is_rest = _smaller_part(int(rank), size)
        return vectors[..., part], is_rest, rank
    # The steps of LAPACK's decomposition one by one: C = Q T Q^T with T tridiagonal, then T's
    # eigenvectors. The last step, a product with Q, is needed for the vectors of use only.
    matrix = covariance[0].numpy().T
    with as_many_threads_as_torch():
        workspace = int(lapack.dsytrd_lwork(size, lower=1)[0])
        reflectors, diagonal, beside, scales, _ = lapack.dsytrd(matrix, lower=1, lwork=workspace)
        values, vectors = (torch.from_numpy(part) for part in eigh_tridiagonal(diagonal, beside))
    sizes, order = values.abs().sort(descending=True)
    rank = _rank(sizes.sqrt().unsqueeze(0), gamma)
    part, is_rest = _smaller_part(int(rank), size)
    chosen = vectors[:, order[part]]
    # Q leaves the first row alone; below it is stored as in a QR decomposition.
    stored = torch.from_numpy(reflectors)[1:, :-1]
    chosen[1:] = torch.ormqr(stored, torch.from_numpy(scales), chosen[1:])
    return chosen.unsqueeze(0), is_rest, rank


def _smaller_part(rank: int, size: int) -> tuple[slice, bool]:
    """The leading ones of ordered vectors or the others, whichever are fewer; whether others."""
    is_rest = 2 * rank > size
    return (slice(rank, None) if is_rest else slice(rank)), is_rest


def reverse_loss(
    logits: torch.Tensor, labels: torch.Tensor, task: Task, variant: LossVariant
) -> torch.Tensor:
    """Mean of -log(1 - q + offset), with q the probability of the true value; a scalar.

    Args:
        logits: [B, C].
        labels: float [B, C] of 0/1 or int64 [B].
        task: Which of the two.
        variant: "reference" looks up attribute 1's probability where a label is 1 and attribute
            0's where it is 0, and so never sees the other attributes (docs/benchmark.md, P1).
    """
    if task == "multiclass":
        true = logits.softmax(1).gather(1, labels.unsqueeze(1))
    elif variant == "reference":
        true = logits.sigmoid().gather(1, labels.long())
    else:
        true = torch.where(labels > 0, logits, -logits).sigmoid()
    return -(1 - true + OFFSET).log().mean()


def negative_entropy(logits: torch.Tensor, kind: Entropy) -> torch.Tensor:
    """Mean over images of the sum of p log p, a scalar.

    Args:
        logits: [B, C].
        kind: "softmax" for one distribution over all outputs, "bernoulli" for one of each.
    """
    if kind == "softmax":
        probability = logits.softmax(1)
        return (probability * (probability + 1e-15).log()).sum(1).mean()
    terms = logits.sigmoid() * F.logsigmoid(logits) + (-logits).sigmoid() * F.logsigmoid(-logits)
    return terms.sum(1).mean()


def descend(
    model: nn.Module,
    projections: Matrices,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    *,
    task: Task,
    learning_rate: float,
    step: float = 0.0,
    epochs: int,
    variant: LossVariant,
    entropy: Entropy,
    clip_norm: float = 0.0,
) -> None:
    """Forget the batches in place: W <- W - lr (G - G P) of every projected layer's weight W.

    Args:
        model: In evaluation mode.
        projections: P of every layer that moves, [G, d, d], in the weights' dtype.
        batches: (inputs [B, 3, S, S], labels), gone through once per epoch.
        task: Which loss.
        learning_rate: Annealed by a cosine over epochs; where ``step`` is 0.
        step: Length of the first step, see ``oneshui.methods._sgd.StepRate``.
        epochs: Passes.
        variant: Of ``reverse_loss``.
        entropy: Of ``negative_entropy``.
        clip_norm: Largest norm of G of all weights together; 0 leaves it alone.
    """
    layers = projected_layers(model)
    moved = {name: layers[name].weight for name in projections if layers[name].weight.requires_grad}
    rate = StepRate(moved.values(), learning_rate=learning_rate, step=step)
    for epoch in range(epochs):
        for inputs, labels in batches:
            logits = model(inputs)
            loss = reverse_loss(logits, labels, task, variant)
            loss = loss + ENTROPY_WEIGHT * negative_entropy(logits, entropy)
            gradients = torch.autograd.grad(loss, list(moved.values()))
            with torch.no_grad():
                directions = [
                    _outside(gradient, projections[name])
                    for name, gradient in zip(moved, clipped(gradients, clip_norm), strict=True)
                ]
                alpha = rate(directions) * cosine(epoch, epochs)
                torch._foreach_add_(list(moved.values()), directions, alpha=-alpha)


def _outside(gradient: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """What the projection [G, d, d] leaves of a weight's gradient, in the weight's shape."""
    rows = gradient.reshape(len(inside), -1, inside.shape[-1])
    return (rows - rows @ inside).view_as(gradient)
