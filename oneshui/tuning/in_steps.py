"""One request served as several, one after the other: what tuning for sequences tries."""

from __future__ import annotations

import copy
import dataclasses

from torch import nn

from oneshui.methods import Method
from oneshui.requests import SupportSet, UnlearnRequest
from oneshui.seeding import derive_seed


def unlearned_in_steps(method: Method, request: UnlearnRequest, people: int) -> nn.Module:
    """The model after a request's people have asked so many at a time, in the order of S.

    Each step is handed the model that the one before it left, the support pictures of those who ask
    now, the preparation as it was before the first, and a seed of its own.

    Args:
        method: A one-shot method.
        request: Of all the people.
        people: Who ask at a time.
    """
    model, support = request.model, request.support
    for number, start in enumerate(range(0, len(support), people)):
        own = slice(start, start + people)
        asking = SupportSet(
            images=support.images[own],
            labels=support.labels[own],
            identities=support.identities[own],
        )
        seed = derive_seed(request.seed, "step", number) if number else request.seed
        step = dataclasses.replace(request, model=model, support=asking, seed=seed)
        # A model from the store carries nothing but its weights from one request to the next.
        model = copy.deepcopy(request.model)
        model.load_state_dict(method.unlearn(step).state_dict())
    return model
