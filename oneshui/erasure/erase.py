"""After deletion: which of a kit's points to take, by S alone, and what it did to S."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from oneshui.erasure.kit import KitMethod, StoredKit
from oneshui.errors import InputError, NumericalError, unknown_name
from oneshui.methods._importance import Importances
from oneshui.requests import UnlearnRequest
from oneshui.seeding import derive_seed
from oneshui.training.losses import sample_losses
from oneshui.tuning.objectives import SupportOnlyChoice
from oneshui.tuning.score import shown_to_gain, to_stored
from oneshui.tuning.simulated import logits_score, movement

State = Mapping[str, torch.Tensor]
Unlearn = Callable[[KitMethod, int], State | NumericalError]
"""Runs a method of a kit, at a point, on the real request."""


def request_seed(seed: int, number: int) -> int:
    """Seed of everything random in one of a model's requests, as the cells of a sweep have theirs.

    Args:
        seed: Of the kit, or the user's.
        number: Of the request, from 1 on.
    """
    return seed if number == 1 else derive_seed(seed, "request", number - 1)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What was chosen, and what came of it.

    Attributes:
        name: Of the kit's row.
        method: Of the method.
        hyperparameters: All of them.
        state: The unlearned weights, by name.
        score: How good it is likely to be by S and the kit, in [0, 1].
        score_of_nothing: The same of leaving the model as it is.
        is_shown_to_gain: Whether simulated requests show that it is better than that.
        tried: How many points were run on S to choose.
        expected: What it did to simulated requests.
        expected_of_nothing: What leaving the model as it is comes to there.
    """

    name: str
    method: str
    hyperparameters: Mapping[str, Any]
    state: State = field(repr=False)
    score: float
    score_of_nothing: float
    is_shown_to_gain: bool
    tried: int
    expected: Mapping[str, Any]
    expected_of_nothing: Mapping[str, Any]


def choose(stored: StoredKit, request: UnlearnRequest, unlearn: Unlearn, name: str = "") -> Chosen:
    """Run the points that the kit has shown to gain, and take the best by S, as a sweep does.

    Args:
        stored: The kit.
        request: With the model as it is now, and S.
        unlearn: Runs a point.
        name: Of the kit's row to take whatever it is worth; empty to choose among all.

    Raises:
        InputError: The kit has no such row, or none of its points is expected to do better than
            leaving the model as it is.
    """
    kit = stored.kit
    by_name = {method.name: method for method in kit.methods}
    if name and name not in by_name:
        raise unknown_name(f"method of the kit {stored.folder}", name, by_name)
    importance = stored.importances
    best: tuple[float, KitMethod, int, State] | None = None
    tried = 0
    for method in [by_name[name]] if name else kit.methods:
        choice = SupportOnlyChoice(study=kit.study(method), request=request, importance=importance)
        for point in kit.candidates(method, is_asked_for=bool(name)):
            if point == method.nothing:
                continue
            state = unlearn(method, point)
            tried += 1
            if isinstance(state, NumericalError):
                continue
            score = choice.score(point, with_state(request.model, state))
            is_enough = bool(name) or score > _score_of_nothing(stored, method)
            if is_enough and (best is None or score > best[0]):
                best = (score, method, point, state)
    if best is None:
        what = f"{name} left the finite numbers at every point that was tried"
        if not name:
            what = (
                f"no method of the kit {stored.folder} is expected to do better than leaving the "
                f"model as it is; say method={' or method='.join(by_name)} to run one all the same"
            )
        raise InputError(what)
    score, method, point, state = best
    return Chosen(
        name=method.name,
        method=method.method,
        hyperparameters=method.hyperparameters(point),
        state=state,
        score=score,
        score_of_nothing=_score_of_nothing(stored, method),
        is_shown_to_gain=point in shown_to_gain([kit.study(method)], method.nothing),
        tried=tried,
        expected=kit.expected(method, point),
        expected_of_nothing=kit.expected(method, method.nothing),
    )


def _score_of_nothing(stored: StoredKit, method: KitMethod) -> float:
    """What a choice makes of the point that does nothing: S loses nothing, and nothing moves."""
    return stored.kit.study(method).score(method.nothing, support_drop=0.0, moved=0.0)


def with_state(model: nn.Module, state: State) -> nn.Module:
    """A copy of the model with other weights."""
    found = copy.deepcopy(model)
    found.load_state_dict(dict(state))
    return found


def measured(
    request: UnlearnRequest, state: State, importance: Importances | None
) -> dict[str, Any]:
    """What the request did to S and to the weights.

    Args:
        request: With the model before.
        state: The weights after, by name.
        importance: Of every weight, from the kit; None without one.

    Returns:
        "loss" and "score" on S, each with "before" and "after", the loss of every photo too; what
        is not defined is null. "relative_movement" is the distance of the weights over their norm
        before; "movement" what studies measure it in, null without a kit.

    Raises:
        InputError: Nothing moved, or the model has left the finite numbers.
    """
    after = with_state(request.model, state).to(request.device).eval()
    before, support = request.model.to(request.device).eval(), request.support
    inputs = support.inputs().to(request.device)
    with torch.no_grad():
        logits = [network(inputs).float().cpu() for network in (before, after)]
    if not all(torch.isfinite(tensor).all() for tensor in (*state.values(), logits[1])):
        raise InputError("the method left the finite numbers: its step was too large for the model")
    losses = [sample_losses(one, support.labels, request.task) for one in logits]
    scores = [logits_score(one, support.labels, request.task) for one in logits]
    old = {name: tensor.detach().cpu().double() for name, tensor in before.state_dict().items()}
    moved = sum(float((state[n].double() - t).square().sum()) for n, t in old.items())
    if moved == 0:
        raise InputError("the method left the model as it is, to the last bit")
    norm = sum(float(tensor.square().sum()) for tensor in old.values())
    return {
        "loss": {"before": float(losses[0].mean()), "after": float(losses[1].mean())},
        "loss_of_each": {"before": losses[0].tolist(), "after": losses[1].tolist()},
        "score": {"before": to_stored(scores[0]), "after": to_stored(scores[1])},
        "relative_movement": (moved / norm) ** 0.5 if norm else None,
        "movement": None if importance is None else to_stored(movement(after, before, importance)),
    }
