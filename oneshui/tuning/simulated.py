"""Trying a method before deletion: simulated requests, and what a point does to them.

What tuning may know of the training data. The requests are played on training identities other
than the real ones, whose role every person could have had; nothing here sees the real request.
Which picture stands for S, and why, is in docs/decisions/0009-tuning-objective.md.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from oneshui.attacks.views import sample
from oneshui.data.images import LabelledImages
from oneshui.data.simulated_requests import SimulatedRequest, simulate_requests
from oneshui.data.splits import images_by_identity, most_requests
from oneshui.errors import InputError
from oneshui.methods._importance import Importances, loss_of, sample_importances
from oneshui.metrics.scores import score
from oneshui.requests import SupportSet
from oneshui.spec import Task
from oneshui.training.losses import sample_losses
from oneshui.training.predict import predict_logits
from oneshui.tuning.score import Scores

NUM_RETAIN = 400
NUM_VAL = 400
NUM_IMPORTANCE = 800


@dataclass(frozen=True, kw_only=True)
class SimulatedRequests:
    """Simulated requests of one pretrained model.

    Attributes:
        requests: Image numbers in them are positions in D_tr.
        retain: Positions in D_tr of pictures of nobody in any of the requests.
        val: Positions in D_v.
    """

    requests: tuple[SimulatedRequest, ...]
    retain: tuple[int, ...]
    val: tuple[int, ...]


def draw_requests(
    model: nn.Module,
    train: LabelledImages,
    num_val: int,
    *,
    task: Task,
    train_identities: Sequence[int],
    exclude: Collection[int],
    reserved: Collection[int] = (),
    num_forget: int,
    num_requests: int,
    seed: int,
    device: torch.device,
) -> SimulatedRequests:
    """Draw simulated requests; each person's support picture is the one the model fits worst.

    A random training picture was learned by heart, S never was; the worst-fitted one looks to the
    model about as S does.

    Args:
        model: The pretrained model.
        train: D_tr.
        num_val: Pictures in D_v.
        task: "multilabel" or "multiclass".
        train_identities: In the split's order.
        exclude: Identities of the real request.
        reserved: Further identities that must not be in any request, as those whom reported cells
            forget.
        num_forget: Identities per request.
        num_requests: At most so many, fewer if the people do not suffice.
        seed: Of people and pictures.
        device: Where to compute.

    Raises:
        InputError: The people do not suffice for one request that leaves anyone.
    """
    losses = sample_losses(predict_logits(model, train, device=device), train.labels, task)
    positions = images_by_identity(train.identities.numpy(), train_identities)
    outside = {*exclude, *reserved}
    identities = [p for p in train_identities if p not in outside and positions[p]]
    most = most_requests(len(identities), num_forget, is_reserving=bool(reserved))
    drawn = simulate_requests(identities, positions, num_forget=num_forget, seed=seed)
    requests = tuple(
        _with_hardest(request, positions, losses) for request in drawn[: min(num_requests, most)]
    )
    taken = [identity for request in requests for identity in request.identities]
    rest = np.flatnonzero(~np.isin(train.identities.numpy(), taken))
    return SimulatedRequests(
        requests=requests,
        retain=tuple(_draw(rest, NUM_RETAIN, seed)),
        val=tuple(_draw(np.arange(num_val), NUM_VAL, seed)),
    )


def _draw(numbers: np.ndarray, count: int, seed: int) -> list[int]:
    order = np.random.default_rng(seed).permutation(len(numbers))[:count]
    return sorted(int(numbers[place]) for place in order)


def _with_hardest(
    request: SimulatedRequest, positions: Mapping[int, Sequence[int]], losses: torch.Tensor
) -> SimulatedRequest:
    support = tuple(
        max(positions[identity], key=lambda image: losses[image].item())
        for identity in request.identities
    )
    forget = [
        image
        for identity, chosen in zip(request.identities, support, strict=True)
        for image in ([i for i in positions[identity] if i != chosen] or [chosen])
    ]
    return SimulatedRequest(identities=request.identities, support=support, forget=tuple(forget))


def support_of(train: LabelledImages, request: SimulatedRequest) -> SupportSet:
    """The simulated support set as the real one would be handed over."""
    chosen = train.select(torch.tensor(request.support))
    return SupportSet(images=chosen.raw(), labels=chosen.labels, identities=chosen.identities)


def scores_of(
    model: nn.Module,
    request: SimulatedRequest,
    simulated: SimulatedRequests,
    train: LabelledImages,
    val: LabelledImages,
    *,
    task: Task,
    device: torch.device,
) -> Scores:
    """What a model scores on one simulated request."""
    sets = {
        "forget": train.select(torch.tensor(request.forget)),
        "retain": train.select(torch.tensor(simulated.retain)),
        "val": val.select(torch.tensor(simulated.val)),
        "support": train.select(torch.tensor(request.support)),
    }
    return Scores(**{name: set_score(model, data, task, device) for name, data in sets.items()})


def set_score(model: nn.Module, data: LabelledImages, task: Task, device: torch.device) -> float:
    """The mAP or accuracy in [0, 1]; NaN where it is not defined or the model is not finite."""
    logits = predict_logits(model, data, device=device)
    return logits_score(logits, data.labels, task)


def logits_score(logits: torch.Tensor, labels: torch.Tensor, task: Task) -> float:
    """As ``set_score``, from logits [N, C]."""
    if not torch.isfinite(logits).all():
        return math.nan
    try:
        return score(logits, labels, task)
    except InputError:
        # One picture may show no attribute at all: then there is nothing to rank.
        return math.nan


def importances(
    model: nn.Module, train: LabelledImages, *, task: Task, seed: int, device: torch.device
) -> Importances:
    """Fisher diagonal of the training pictures, by parameter name, float32 on the CPU.

    Mean over NUM_IMPORTANCE pictures of the squared gradient of the picture's own loss.
    """
    chosen = sample(train, NUM_IMPORTANCE, seed)
    found = sample_importances(model.to(device).eval(), chosen.batches(100, device), loss_of(task))
    return {name: value.cpu().contiguous() for name, value in found.items()}


def movement(model: nn.Module, pretrained: nn.Module, importance: Importances) -> float:
    """How far the weights moved: the sum of F (u - theta)^2 over all weights; NaN if not finite."""
    before = dict(pretrained.named_parameters())
    total = 0.0
    for name, value in model.named_parameters():
        change = (value.detach() - before[name].detach()).square().cpu()
        total += float((importance[name] * change).double().sum())
    return total if math.isfinite(total) else math.nan
