"""Projected-gradient unlearning: forget S by steps that D_tr's layer inputs cannot feel.

Source: Hoang et al., "Learn to unlearn for deep neural networks: minimizing unlearning
interference with gradient projection" (arXiv 2312.04095), as the 1-SHUI benchmark
(arXiv 2407.12069) runs it. Before deletion, the covariance of the inputs of every linear and
convolutional layer over D_tr is measured. After it, with P the projection onto the leading
singular directions that make up a share gamma of it,

    loss = mean -log(1 - q + 0.05) + 0.2 sum_c p_c log p_c      q: probability of the true value
    W <- W - lr_e (G - G P)                                     G: gradient of W

for those layers' weights only, ``epochs`` times over S. gamma = 1 leaves the model as it is.

Deviations from the reference, all undone by ``variant="reference"``: q is that of every attribute
(there, of attributes 0 and 1 only; docs/benchmark.md, P1); the covariance is D_tr's own (there, S's
is subtracted, though S was not in it; P3); patches are taken with the convolution's stride (there,
with stride 1; P4). Both variants measure in float64 (P5) and without augmentation, decompose once
(P7), keep one direction more than gamma asks for (P6), and never look at the test set (P9).
``entropy="softmax"`` is the reference's regulariser over all attributes at once (P2), "bernoulli"
the sum over independent attributes. Grouped convolutions, which the reference's networks do not
have, are projected group by group. Embeddings, norms and biases do not move (P8).

The covariances are stored in float64: 8 d^2 bytes for a layer with d inputs, 1.1 GB for a ViT-B.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from oneshui.errors import InputError
from oneshui.methods.base import STEP_RANGE, Range, register
from oneshui.methods.fields import clipping, number
from oneshui.spec import Access, Task

if TYPE_CHECKING:
    import torch
    from torch import nn

    from oneshui.methods._projection import Matrices
    from oneshui.requests import PrepareRequest, UnlearnRequest

PASS_SIZE = 128
"""Images per forward pass over D_tr; does not change the covariances."""


@register
@dataclass(frozen=True, kw_only=True)
class PGU:
    """Ascends on S in the directions that the training images leave free.

    Attributes:
        learning_rate: Of the first epoch; a cosine over epochs follows.
        step: Length of the first step as a share of the norm of the weights that move, in place of
            ``learning_rate``; 0: not used.
        epochs: Passes over S.
        gamma: Share of D_tr's singular values that steps keep clear of; 1 disables the update.
        batch_size: Support images per step.
        variant: "corrected", or "reference" for its errors.
        entropy: "softmax" (the reference's), or "bernoulli" for independent attributes.
        clip_norm: Largest norm of the gradient before the projection; 0 leaves it alone.
    """

    name: ClassVar[str] = "pgu"
    access: ClassVar[Access] = Access.PREPARED
    prepare_fields: ClassVar[tuple[str, ...]] = ("variant",)
    search_space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(low=0.001, high=1.0, log=True),
        "gamma": Range(low=0.3, high=0.99),
    }
    relative_space: ClassVar[Mapping[str, Range]] = {"step": STEP_RANGE}
    reference: ClassVar[Mapping[str, str]] = {"variant": "reference"}
    nothing: ClassVar[Mapping[str, float | int]] = {"gamma": 1.0}

    learning_rate: float = number(0.1, at_least=0)
    step: float = number(0.0, at_least=0)
    epochs: int = number(5, at_least=1)
    gamma: float = number(0.9, at_least=0, at_most=1)
    batch_size: int = number(128, at_least=1)
    variant: Literal["corrected", "reference"] = "corrected"
    entropy: Literal["softmax", "bernoulli"] = "softmax"
    clip_norm: float = clipping()

    def check(self, model: nn.Module, task: Task) -> None:
        """Refuse what cannot be projected.

        Raises:
            InputError: The model has a convolution that cannot be unfolded, or ``entropy`` does
                not fit the task.
        """
        from oneshui.methods._projection import projected_layers

        self._check(task)
        projected_layers(model)

    def prepare(self, request: PrepareRequest) -> Matrices:
        """Covariances of the layers' inputs over D_tr, float64 [G, d, d] on the CPU, by layer.

        Raises:
            InputError: The model has a convolution that cannot be unfolded, or ``entropy`` does
                not fit the task.
        """
        self._check(request.task)
        batches = request.train.batches(PASS_SIZE, request.device)
        model = copy.deepcopy(request.model).to(request.device).eval()
        measured = self._covariances(model, (inputs for inputs, _ in batches))
        return {name: value.cpu() for name, value in measured.items()}

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the model, in evaluation mode, that has forgotten S.

        Raises:
            InputError: As for ``prepare``.
        """
        import torch

        from oneshui.accelerator import float64_place
        from oneshui.methods._projection import descend, projected_layers, projection

        self._check(request.task)
        model = copy.deepcopy(request.model).to(request.device).eval()
        projected_layers(model)
        if self.gamma == 1:
            return model
        inputs = torch.split(request.support.inputs().to(request.device), self.batch_size)
        labels = torch.split(request.support.labels.to(request.device), self.batch_size)
        subtracted = self._covariances(model, inputs) if self.variant == "reference" else {}
        projections = {}
        for name, stored in request.prepared.items():
            covariance = stored.to(float64_place(request.device))
            if name in subtracted:
                covariance = covariance - subtracted[name]
            projections[name] = projection(covariance, self.gamma)[0].to(inputs[0])
        descend(
            model,
            projections,
            list(zip(inputs, labels, strict=True)),
            task=request.task,
            learning_rate=self.learning_rate,
            step=self.step,
            epochs=self.epochs,
            variant=self.variant,
            entropy=self.entropy,
            clip_norm=self.clip_norm,
        )
        return model

    def _check(self, task: Task) -> None:
        if self.entropy == "bernoulli" and task == "multiclass":
            raise InputError(
                "pgu.entropy is 'bernoulli', which is for independent attributes, but this "
                "dataset has classes: use 'softmax'"
            )

    def _covariances(self, model: nn.Module, batches: Iterable[torch.Tensor]) -> Matrices:
        from oneshui.methods._projection import input_covariances

        return input_covariances(model, batches, unit_stride=self.variant == "reference")
