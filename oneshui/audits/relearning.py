"""Relearning: how fast a model that has unlearned learns again about the people it forgot.

A model that was retrained without them meets these people for the first time. One that learns
faster than it from a few of their pictures has kept something, whatever its outputs were before.
The measure is the relearn time of Golatkar et al. ("Eternal sunshine of the spotless net", CVPR
2020, Section 6) and its successors, with curves in place of a single number of steps.

Every model of a cell is taught with the same pictures in the same order and judged on the same
others, so what differs between two curves is the models. What follows from curves is in
``oneshui.audits.hiding``. Runs after deletion, by whoever audits: no method gets to see any of it.

Shapes: N images, C attributes or classes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from oneshui.accelerator import place, policy_of, precision
from oneshui.audits.hiding import TIMES, heights
from oneshui.data.images import LabelledImages
from oneshui.metrics.resampling import draws, resampled_scores
from oneshui.metrics.scores import score
from oneshui.seeding import derive_seed, torch_generator
from oneshui.spec import Task, TrainingSpec
from oneshui.training.losses import task_loss
from oneshui.training.predict import predict_logits
from oneshui.training.train import make_optimizer

Answers: TypeAlias = list[torch.Tensor | None]
SUPPORT = "support"
PICTURES = (1, 5)
"""Forget pictures of a person that a lesson has at most; one is of the support picture instead."""
MOST_TAUGHT = str(max(PICTURES))
"""The lesson that flags rest upon."""
RATE = 0.1
"""Of the recipe's peak learning rate: its schedule may end at 0, and its peak is for models that
know nothing yet."""


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """What models are taught, and what they are asked afterwards.

    Attributes:
        taught: Pictures by lesson: "1" and "5" forget pictures of each person at most, "support"
            the support pictures.
        asked: The forget pictures that are in no lesson.
    """

    taught: Mapping[str, LabelledImages]
    asked: LabelledImages


def lessons(forget: LabelledImages, support: LabelledImages, seed: int) -> Lessons:
    """Draw the pictures that are taught; nobody is taught with more than half of theirs.

    Args:
        forget: All forget pictures, without the support set.
        support: The support set.
        seed: Of the draw, which depends on a person and on nobody else.
    """
    identities = forget.identities.numpy()
    order = {int(one): _drawn(identities, int(one), seed) for one in np.unique(identities)}
    taught = {}
    for most in PICTURES:
        chosen = [rows[: min(most, len(rows) // 2)] for rows in order.values()]
        taught[str(most)] = forget.select(np.sort(np.concatenate(chosen)))
    rest = [rows[min(max(PICTURES), len(rows) // 2) :] for rows in order.values()]
    return Lessons(
        taught={**taught, SUPPORT: support}, asked=forget.select(np.sort(np.concatenate(rest)))
    )


def _drawn(identities: npt.NDArray[np.int64], person: int, seed: int) -> npt.NDArray[np.int64]:
    """Positions of a person's pictures, in the order in which they are taught."""
    generator = np.random.default_rng(derive_seed(seed, "relearn", person))
    return generator.permutation(np.flatnonzero(identities == person)).astype(np.int64)


def relearn(
    model: nn.Module,
    taught: LabelledImages,
    asked: LabelledImages,
    recipe: TrainingSpec,
    *,
    task: Task,
    seed: int,
    device: torch.device,
) -> Answers:
    """Train a copy of the model for a few steps, and ask it about other pictures on the way.

    The optimiser, batch size and clipping are the training's, the rate is ``RATE`` of its peak, and
    nothing is augmented. Layers stay as they are in use: statistics of a handful of pictures would
    be no model's.

    Args:
        model: The model; it stays as it is.
        taught: What it is trained on.
        asked: What it is asked about.
        recipe: Of its training.
        task: "multilabel" or "multiclass".
        seed: Of the order of the pictures.
        device: Where to compute.

    Returns:
        Logits after each of ``TIMES`` steps, float32 [N, C] on the CPU. None from where one is not
        finite on, and after step 0 if there is nothing to be taught.
    """
    found: list[torch.Tensor | None] = [None] * len(TIMES)
    own = copy.deepcopy(model)
    learner = _Learner(own, taught, recipe, task=task, seed=seed, device=device)
    done = 0
    for number, steps in enumerate(TIMES):
        if steps and len(taught) == 0:
            break
        for _ in range(done, steps):
            learner.step()
        done = steps
        logits = predict_logits(own, asked, device=device)
        if not torch.isfinite(logits).all():
            break
        found[number] = logits
    return found


def curve_of(answers: Answers, asked: LabelledImages, task: Task) -> list[float | None]:
    """The score in [0, 1] of all answers.

    Args:
        answers: From ``relearn``.
        asked: What was asked.
        task: "multilabel" or "multiclass".

    Returns:
        None where there is no answer, and everywhere if nobody has any attribute.
    """
    if task == "multilabel" and not bool(asked.labels.any()):
        return [None] * len(answers)
    return [None if one is None else score(one, asked.labels, task) for one in answers]


def resampled_heights(
    answers: Answers, asked: LabelledImages, task: Task
) -> list[float | None] | None:
    """The curve's mean over the steps, with the people who are asked about drawn again.

    Draws depend on these people and on nothing else (``oneshui.metrics.resampling``): those of two
    models of a cell are paired.

    Args:
        answers: From ``relearn``.
        asked: What was asked.
        task: "multilabel" or "multiclass".

    Returns:
        One for every resample, in [0, 1], None where nobody who was drawn has any attribute; None
        where an answer is missing, or of a single person.
    """
    counts = draws(asked.identities, "relearn")
    known = [one for one in answers if one is not None]
    if counts is None or len(known) < len(answers):
        return None
    scores = np.stack([resampled_scores(one, asked.labels, counts, task) for one in known])
    return [None if np.isnan(value) else float(value) for value in heights(scores)]


class _Learner:
    """Steps of one lesson, its pictures shuffled anew whenever all have been seen."""

    def __init__(
        self,
        model: nn.Module,
        taught: LabelledImages,
        recipe: TrainingSpec,
        *,
        task: Task,
        seed: int,
        device: torch.device,
    ) -> None:
        self._policy = policy_of(device)
        self._model = place(model.eval(), device, self._policy)
        for weight in model.parameters():
            weight.requires_grad_(True)
        self._optimizer = make_optimizer(model, recipe, fused=self._policy.fused)
        for group in self._optimizer.param_groups:
            group["lr"] = RATE * recipe.learning_rate
        self._taught, self._recipe, self._task, self._device = taught, recipe, task, device
        self._generator = torch_generator(seed, "relearn", "order")
        self._left = torch.empty(0, dtype=torch.int64)

    def step(self) -> None:
        if len(self._left) == 0:
            self._left = torch.randperm(len(self._taught), generator=self._generator)
        size = self._recipe.batch_size
        batch, self._left = self._left[:size], self._left[size:]
        images = self._taught.inputs(batch, self._device)
        labels = self._taught.labels[batch].to(self._device)
        with precision(self._model, self._device, self._policy):
            logits = self._model(images)
        self._optimizer.zero_grad(set_to_none=True)
        task_loss(logits, labels, self._task).backward()  # type: ignore[no-untyped-call]
        if self._recipe.clip_norm:
            nn.utils.clip_grad_norm_(self._model.parameters(), self._recipe.clip_norm)
        self._optimizer.step()
