"""Newton's step on the classifier: what taking S's people out of its own training would do to it.

Source: for a convex loss at its optimum w, leaving out data F means w + H_r^{-1} g_F to second
order, where g_F is the gradient of F's loss, which is minus that of the rest, and H_r the rest's
Hessian: Guo et al., "Certified data removal from machine learning models" (arXiv 1911.03030). Where
the data are gone, "Towards source-free machine unlearning" (CVPR 2025, arXiv 2508.15127) estimates
H_r from F alone, and WIN-U (arXiv 2604.13438) starts from the Hessian of all data. This form is
ours: of the classifier alone, with the Hessian H of D_tr prepared before deletion. Features z of a
picture are what enters the classifier, with a 1 where it has biases, in coordinates of the ``rank``
leading eigenvectors of sum_{D_tr} z z^T. With p the predicted probabilities, summed over pictures,

    attributes   H_c = sum p_c (1 - p_c) z z^T             one for every output
    classes      H   = sum (diag(p) - p p^T) x z z^T       x: Kronecker's product, all outputs
    g   = m sum_S (p - y) z                                 m: training pictures per person
    w  <- w + ``step_scale`` ([H - m H_S]_+ + ridge n I)^{-1} g     n = |D_tr|, [.]_+: below

Nothing but the classifier moves, and that only in the prepared directions.

Deviations, for S is one picture of each person and was not trained on: ``multiplicity`` m makes it
stand for the person's other pictures, by default for as many as a person of D_tr has on average
(docs/benchmark.md, N5); m H_S may exceed H, so negative eigenvalues of the difference are set to 0
(docs/benchmark.md, N6); the classifier is not at the optimum of its own loss, so g is that of S
alone, and a ridge bounds the step (docs/benchmark.md, N7). All of it is in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from oneshui.methods.base import Range, register
from oneshui.methods.fields import number
from oneshui.spec import Access

if TYPE_CHECKING:
    import torch
    from torch import nn

    from oneshui.requests import PrepareRequest, UnlearnRequest
    from oneshui.spec import Task

PASS_SIZE = 128
"""Images per forward pass over D_tr."""

MAX_ROWS = 512
"""Rows of one matrix that is decomposed: of many classes together fewer directions are kept."""


@register
@dataclass(frozen=True, kw_only=True)
class NewtonHead:
    """Takes a closed-form step of the classifier away from S.

    Attributes:
        step_scale: Factor on Newton's step; 1 is Newton's own.
        step: Length of the step as a share of the norm of the classifier, in place of
            ``step_scale``; 0: not used.
        multiplicity: Training pictures that a picture of S stands for; 0 for the mean number of a
            training person's.
        ridge: Added to the curvature per training picture.
        rank: Directions of the features in which the classifier may move, at most; where C classes
            are solved together at most ``MAX_ROWS`` / C.
    """

    name: ClassVar[str] = "newton_head"
    access: ClassVar[Access] = Access.PREPARED
    prepare_fields: ClassVar[tuple[str, ...]] = ("rank",)
    search_space: ClassVar[Mapping[str, Range]] = {
        "step_scale": Range(low=0.1, high=10.0, log=True),
        "ridge": Range(low=1e-3, high=1.0, log=True),
    }
    relative_space: ClassVar[Mapping[str, Range]] = {"step": Range(low=0.03, high=3.0, log=True)}
    nothing: ClassVar[Mapping[str, float | int]] = {"step_scale": 0.0, "step": 0.0}

    step_scale: float = number(1.0, at_least=0)
    step: float = number(0.0, at_least=0)
    multiplicity: float = number(0.0, at_least=0)
    ridge: float = number(0.1, above=0)
    rank: int = number(64, at_least=1)

    def prepare(self, request: PrepareRequest) -> Mapping[str, torch.Tensor]:
        """Second moments of D_tr, on the CPU.

        Returns:
            ``basis`` float64 [D, K]; ``hessian`` float64 [G, R, R]: C matrices of K rows for
            attributes, one of C K rows for classes; ``num_images`` and ``num_people``, int64.
        """
        import torch

        model = copy.deepcopy(request.model).to(request.device).eval()
        batches = request.train.batches(PASS_SIZE, request.device)
        parts = [predicted(model, inputs, request.task) for inputs, _ in batches]
        features, probabilities = (torch.cat(part) for part in zip(*parts, strict=True))
        _, vectors = torch.linalg.eigh(features.T @ features)
        together = 1 if request.task == "multilabel" else probabilities.shape[1]
        basis = vectors.flip(1)[:, : min(self.rank, max(1, MAX_ROWS // together))]
        hessian = curvature(features @ basis, probabilities, request.task)
        return {
            "basis": basis.cpu().contiguous(),
            "hessian": hessian.cpu().contiguous(),
            "num_images": torch.tensor(len(request.train)),
            "num_people": torch.tensor(len(set(request.train.identities.tolist()))),
        }

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the model, in evaluation mode, with another classifier."""
        import torch
        from torch.nn import functional as F

        from oneshui.methods._sgd import StepRate
        from oneshui.training.models import classifier_of

        model = copy.deepcopy(request.model).to(request.device).eval()
        parts = torch.split(request.support.inputs().to(request.device), PASS_SIZE)
        found = [predicted(model, inputs, request.task) for inputs in parts]
        features, probabilities = (torch.cat(part) for part in zip(*found, strict=True))
        basis, hessian = (request.prepared[key].to(features) for key in ("basis", "hessian"))
        num_images, num_people = (
            int(request.prepared[key]) for key in ("num_images", "num_people")
        )
        labels = request.support.labels.to(features.device)
        if request.task == "multiclass":
            labels = F.one_hot(labels, probabilities.shape[1])
        coordinates = features @ basis
        times = self.multiplicity or num_images / num_people
        gradient = times * (probabilities - labels).T @ coordinates
        rest = hessian - times * curvature(coordinates, probabilities, request.task)
        direction = newton_step(rest, gradient, self.ridge * num_images) @ basis.T
        classifier = classifier_of(model)
        moved: list[torch.Tensor] = [classifier.weight]
        steps = [direction[:, : classifier.in_features]]
        if classifier.bias is not None:
            moved.append(classifier.bias)
            steps.append(direction[:, -1])
        rate = StepRate(moved, learning_rate=self.step_scale, step=self.step)(steps)
        with torch.no_grad():
            for parameter, step in zip(moved, steps, strict=True):
                parameter.add_(step.to(parameter), alpha=rate)
        return model


def predicted(
    model: nn.Module, inputs: torch.Tensor, task: Task
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the classifier sees of pictures, and what it makes of them, both in float64.

    On the processor, where the device has no float64.

    Args:
        model: In evaluation mode.
        inputs: [B, 3, S, S].
        task: Whether outputs are attributes or classes.

    Returns:
        Features [B, D], the last a 1 where the classifier has biases, and probabilities [B, C].
    """
    import torch
    from torch.nn import functional as F

    from oneshui.accelerator import float64_place
    from oneshui.training.models import FeaturesAndLogits, classifier_of

    there = float64_place(inputs.device)
    with torch.no_grad():
        logits, features = (part.to(there).double() for part in FeaturesAndLogits(model)(inputs))
    if classifier_of(model).bias is not None:
        features = F.pad(features, (0, 1), value=1.0)
    return features, logits.sigmoid() if task == "multilabel" else logits.softmax(1)


def curvature(features: torch.Tensor, probabilities: torch.Tensor, task: Task) -> torch.Tensor:
    """Second derivative by the classifier's rows of the loss, summed over pictures.

    Args:
        features: float64 [n, K].
        probabilities: float64 [n, C].
        task: Whether outputs are attributes or classes.

    Returns:
        float64 [C, K, K] for attributes; for classes [1, C K, C K], class by class.
    """
    import torch

    def moments(weights: torch.Tensor) -> torch.Tensor:
        return torch.stack([(w[:, None] * features).T @ features for w in weights.unbind(1)])

    if task == "multilabel":
        return moments(probabilities * (1 - probabilities))
    total: torch.Tensor = torch.block_diag(*moments(probabilities))  # type: ignore[no-untyped-call]
    for some, shares in zip(
        torch.split(features, PASS_SIZE), torch.split(probabilities, PASS_SIZE), strict=True
    ):
        joint = (shares[:, :, None] * some[:, None, :]).flatten(1)
        total -= joint.T @ joint
    return total[None]


def newton_step(hessian: torch.Tensor, gradient: torch.Tensor, ridge: float) -> torch.Tensor:
    """([H]_+ + ridge)^{-1} g, where [.]_+ sets negative eigenvalues to 0.

    Args:
        hessian: As ``curvature`` gives it, symmetric.
        gradient: By the classifier's rows, float64 [C, K].
        ridge: Above 0.

    Returns:
        float64 [C, K].
    """
    import torch

    values, vectors = torch.linalg.eigh(hessian)
    rows = gradient.reshape(len(hessian), -1, 1)
    solved: torch.Tensor = vectors @ (
        (vectors.mT @ rows) / (values.clamp_min(0) + ridge)[..., None]
    )
    return solved.reshape(gradient.shape)
