"""What MetaUnlearn's learned loss is trained for: the outer losses, and the loop over requests.

Source: arXiv 2407.12069, Section 5 (docs/benchmark.md, "metaunlearn"). Deviations: scrub and
the retain step use the task's own loss, so that they work for classes too (docs/benchmark.md, M6);
gradients are taken with respect to phi only (M2). Two optional terms that the paper does not have
are in ``OuterLoss``; they are off by default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch.nn import functional as F

from oneshui.errors import NumericalError
from oneshui.methods._sgd import clipped
from oneshui.methods.metaunlearn.loss_net import (
    MetaLossNet,
    ModelView,
    Parameters,
    Support,
    meta_step,
)
from oneshui.metrics.scores import accuracy, average_precisions
from oneshui.spec import Task
from oneshui.training.losses import task_loss
from oneshui.training.optimizer_state import optimizer_tensors, restore_optimizer

if TYPE_CHECKING:
    from oneshui.methods.metaunlearn import MetaUnlearn

DISTANCES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "smooth_l1": F.smooth_l1_loss,
    "l1": F.l1_loss,
    "l2": F.mse_loss,
}
SCRUB_TEMPERATURE = 4.0


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images that the outer loss looks at.

    Attributes:
        inputs: What the view of the model takes, [B, ...].
        labels: float [B, C] of 0/1 or int64 [B].
        original: Logits of the original model, [B, C]; val batches and, for scrub, all batches
            need them.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    original: torch.Tensor | None = None

    def original_logits(self) -> torch.Tensor:
        """The original model's logits, which must have been given."""
        assert self.original is not None, "this outer loss needs the original model's logits"
        return self.original


@dataclass(frozen=True, kw_only=True)
class BatchGroup:
    """A forget batch and the batches that it is paired with.

    Attributes:
        forget: Of D_f of the simulated request.
        val: Of D_v.
        retain: Of D_r of the simulated request; None if nothing looks at it.
    """

    forget: Batch
    val: Batch
    retain: Batch | None = None


Predict: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""Logits [B, C] of the unlearned model."""


@dataclass(frozen=True, kw_only=True)
class OuterLoss:
    """The outer loss of one forget batch F with its val batch V and retain batch R.

    With f the original and u the unlearned model, l the task loss, d the distance, whose second
    argument is a constant, and S(z, y) = l(z, y) (1 - score(z, y)), or l alone without
    ``use_accs``; the score is mAP or accuracy of the batch and a constant:

        original:   d(S(u, F), S(f, V))
        unlearned:  d(S(u, F), S(u, V))
        full:       original + unlearned
        rev:        unlearned + d(S(u, V), S(f, V))
        scrub:      .99 l(u, R) + .001 T^2 KL(f || u; R) - T^2 KL(f || u; F)

    where KL is the softmax divergence at temperature T = 4, averaged over images and outputs.

    Two terms that the paper does not have: retain_weight l(u, R), and val_weight K(f || u; V) with
    the mean over images and outputs of the divergence between the two models' predictions:
    Bernoulli for attributes, categorical for classes.

    Attributes:
        method: Says which of the above (``loss_type``), d (``distance``), whether S is weighted by
            the score (``use_accs``), and the two weights.
        task: Which task loss and which score.
    """

    method: MetaUnlearn
    task: Task

    @property
    def needs_retain(self) -> bool:
        """Whether the outer loss looks at retain batches."""
        return self.method.loss_type == "scrub" or self.method.retain_weight > 0

    def __call__(self, predict: Predict, group: BatchGroup) -> torch.Tensor:
        """The outer loss of one group of batches, a scalar.

        Raises:
            NumericalError: The unlearned model's logits are not finite.
        """
        forget = _finite(predict(group.forget.inputs))
        if self.method.loss_type == "scrub":
            loss = -_softmax_divergence(group.forget.original_logits(), forget)
        else:
            loss = self._compare(predict, forget, group)
        if self.needs_retain:
            loss = loss + self._retain_terms(predict, group.retain)
        if self.method.val_weight:
            original, val = group.val.original_logits(), predict(group.val.inputs)
            loss = loss + self.method.val_weight * _prediction_divergence(original, val, self.task)
        return loss

    def _compare(
        self, predict: Predict, forget_logits: torch.Tensor, group: BatchGroup
    ) -> torch.Tensor:
        distance = DISTANCES[self.method.distance]
        forget = self._badness(forget_logits, group.forget.labels)
        terms = []
        if self.method.loss_type in ("original", "full", "rev"):
            val_before = self._badness(group.val.original_logits(), group.val.labels)
        if self.method.loss_type in ("original", "full"):
            terms.append(distance(forget, val_before))
        if self.method.loss_type != "original":
            with torch.set_grad_enabled(self.method.loss_type == "rev"):
                val = self._badness(predict(group.val.inputs), group.val.labels)
            terms.append(distance(forget, val.detach()))
        if self.method.loss_type == "rev":
            terms.append(distance(val, val_before))
        return torch.stack(terms).sum()

    def _retain_terms(self, predict: Predict, retain: Batch | None) -> torch.Tensor:
        assert retain is not None, "this outer loss needs retain batches"
        logits = predict(retain.inputs)
        weight = self.method.retain_weight + (0.99 if self.method.loss_type == "scrub" else 0.0)
        loss = weight * task_loss(logits, retain.labels, self.task)
        if self.method.loss_type == "scrub":
            loss = loss + 0.001 * _softmax_divergence(retain.original_logits(), logits)
        return loss

    def _badness(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss = task_loss(logits, labels, self.task)
        return loss * (1 - batch_score(logits, labels, self.task)) if self.method.use_accs else loss


def batch_score(logits: torch.Tensor, labels: torch.Tensor, task: Task) -> float:
    """Accuracy, or mAP over the attributes that the batch has; 0 if it has none."""
    logits = _finite(logits)
    if task == "multiclass":
        return accuracy(logits, labels)
    precisions = average_precisions(logits, labels)
    present = precisions[~np.isnan(precisions)]
    return float(present.mean()) if len(present) else 0.0


def _finite(logits: torch.Tensor) -> torch.Tensor:
    if not torch.isfinite(logits).all():
        raise NumericalError("an unlearning step of MetaUnlearn was too large: lower step_size")
    return logits


def _softmax_divergence(original: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    temperature = SCRUB_TEMPERATURE
    divergence = _divergence(
        (original / temperature).log_softmax(dim=1), (logits / temperature).log_softmax(dim=1)
    )
    return divergence.mean() * temperature**2


def _prediction_divergence(
    original: torch.Tensor, logits: torch.Tensor, task: Task
) -> torch.Tensor:
    if task == "multiclass":
        return _divergence(original.log_softmax(dim=1), logits.log_softmax(dim=1)).mean()
    has = _divergence(F.logsigmoid(original), F.logsigmoid(logits))
    has_not = _divergence(F.logsigmoid(-original), F.logsigmoid(-logits))
    return (has + has_not).mean()


def _divergence(log_original: torch.Tensor, log_unlearned: torch.Tensor) -> torch.Tensor:
    return log_original.exp() * (log_original - log_unlearned)


Term: TypeAlias = Callable[[Parameters], torch.Tensor]
"""A part of the outer loss, as a function of the unlearned parameters."""


def forget_terms(view: ModelView, outer: OuterLoss, groups: Sequence[BatchGroup]) -> list[Term]:
    """The outer loss of a forget step: the mean over groups, weighted by their forget images."""

    def term(group: BatchGroup, weight: float, parameters: Parameters) -> torch.Tensor:
        return weight * outer(lambda inputs: view(parameters, inputs)[0], group)

    return [partial(term, *pair) for pair in zip(groups, _weights(groups), strict=True)]


def retain_terms(view: ModelView, task: Task, groups: Sequence[BatchGroup]) -> list[Term]:
    """The outer loss of a retain step: the task loss of the retain batches, weighted alike."""

    def term(group: BatchGroup, weight: float, parameters: Parameters) -> torch.Tensor:
        assert group.retain is not None, "a retain step needs retain batches"
        logits, _ = view(parameters, group.retain.inputs)
        return weight * task_loss(logits, group.retain.labels, task)

    return [partial(term, *pair) for pair in zip(groups, _weights(groups), strict=True)]


def _weights(groups: Sequence[BatchGroup]) -> list[float]:
    sizes = [len(group.forget.inputs) for group in groups]
    return [size / sum(sizes) for size in sizes]


class MetaTrainer:
    """Trains the meta-loss networks, one update of each per simulated request.

    Args:
        view: The model; its own weights are those of the original.
        start: The parameters that unlearning moves, at their original values.
        forget_net: The network whose step forgets.
        retain_net: The network whose step follows and repairs; None for none.
        outer: What the forget step is trained for.
        learning_rate: Of AdamW (amsgrad, no weight decay) on the networks.
        step_size: Eta.
        chunk_size: Support images per pass through the model.
        clip_norm: Largest norm of the outer loss's gradient, of each network; 0 leaves it alone.
    """

    def __init__(
        self,
        *,
        view: ModelView,
        start: Parameters,
        forget_net: MetaLossNet,
        retain_net: MetaLossNet | None,
        outer: OuterLoss,
        learning_rate: float,
        step_size: float,
        chunk_size: int = 64,
        clip_norm: float = 0.0,
    ) -> None:
        self._view = view
        self._start = start
        self._outer = outer
        self._clip_norm = clip_norm
        self._step = partial(meta_step, step_size=step_size, chunk_size=chunk_size)
        self._nets = [forget_net] if retain_net is None else [forget_net, retain_net]
        self._optimizers = [
            torch.optim.AdamW(net.parameters(), lr=learning_rate, weight_decay=0.0, amsgrad=True)
            for net in self._nets
        ]

    @property
    def needs_retain(self) -> bool:
        """Whether ``update`` needs groups with retain batches."""
        return self._outer.needs_retain or len(self._nets) > 1

    def set_learning_rate(self, value: float) -> None:
        """Use this learning rate from now on."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = value

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that the next update depends on, copied to the CPU, by name."""
        named: dict[str, torch.Tensor] = {}
        for place, (net, optimizer) in enumerate(zip(self._nets, self._optimizers, strict=True)):
            parts = {"net": net.state_dict(), "optimizer": optimizer_tensors(optimizer)}
            parts["dropout"] = {"state": net.generator.get_state()}
            for part, values in parts.items():
                named |= {f"{part}.{place}.{name}": value for name, value in values.items()}
        return {name: value.detach().cpu().clone() for name, value in named.items()}

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Go back to what ``tensors`` gave; other names are left alone."""

        def those(part: str, place: int) -> dict[str, torch.Tensor]:
            prefix = f"{part}.{place}."
            return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}

        for place, (net, optimizer) in enumerate(zip(self._nets, self._optimizers, strict=True)):
            net.load_state_dict(those("net", place))
            restore_optimizer(optimizer, those("optimizer", place))
            net.generator.set_state(those("dropout", place)["state"])

    def update(self, support: Support, groups: Sequence[BatchGroup]) -> float:
        """Learn from one simulated request.

        The retain network's step starts where the forget network's ended, which is a constant to
        it.

        Args:
            support: Of the request.
            groups: Forget batches with their partners, at least one.

        Returns:
            The forget network's outer loss.

        Raises:
            NumericalError: The unlearned model's outputs are not finite.
        """
        terms = [forget_terms(self._view, self._outer, groups)]
        if len(self._nets) > 1:
            terms.append(retain_terms(self._view, self._outer.task, groups))
        parameters, values = self._start, []
        for net, optimizer, part in zip(self._nets, self._optimizers, terms, strict=True):
            step = self._step(net, self._view, parameters, support, part)
            named = dict(net.named_parameters())
            gradients = clipped([step.gradients[name] for name in named], self._clip_norm)
            for parameter, gradient in zip(named.values(), gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
            parameters = step.unlearned
            values.append(step.value)
        return values[0]
