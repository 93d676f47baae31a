from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from reference.training import loss_of, sgd
from support.golden import largest_difference
from support.tiny import TinyProblem

from oneshui.errors import DataAccessError
from oneshui.methods import build
from oneshui.methods._sgd import shuffled_batches

CPU = torch.device("cpu")
Batch = tuple[torch.Tensor, torch.Tensor]


@pytest.mark.parametrize("problem", [TinyProblem("vit"), TinyProblem("convnext", "multiclass")])
def test_a_step_weighs_retain_against_forget_images(problem: TinyProblem) -> None:
    request = problem.full_request()
    forget, retain = request.forget, request.retain
    model = problem.full_request().model

    def loss() -> torch.Tensor:
        kept = loss_of(model(retain.inputs()), retain.labels)
        return 0.7 * kept - 0.3 * loss_of(model(forget.inputs()), forget.labels)

    sgd(model, [loss], epochs=3, learning_rate=0.1, clip_norm=0.05)
    whole = {"epochs": 3, "learning_rate": 0.1, "batch_size": len(retain)}
    method = build("neggrad_plus", whole | {"beta": 0.7, "clip_norm": 0.05})
    unlearned = method.unlearn(request)
    assert largest_difference(unlearned.state_dict(), model.state_dict()) < 1e-5


def test_the_whole_method_is_a_plain_loop_over_batches_that_are_drawn_on() -> None:
    problem, epochs, size = TinyProblem("convnext"), 3, 8
    request, model = problem.full_request(), problem.full_request().model

    def epoch_after_epoch(name: str, kind: Any) -> Iterator[Batch]:
        # The method's own draws, so that the batches are the same.
        draws = request.generator(f"neggrad_plus {name}")
        while True:
            data = getattr(request, name)
            yield from shuffled_batches(data, size, device=CPU, generator=draws, augmentation=kind)

    retain, forget = epoch_after_epoch("retain", "crop"), epoch_after_epoch("forget", "none")

    def loss() -> torch.Tensor:
        (kept, kept_labels), (lost, lost_labels) = next(retain), next(forget)
        return 0.8 * loss_of(model(kept), kept_labels) - 0.2 * loss_of(model(lost), lost_labels)

    steps = -(-len(request.retain) // size)
    assert steps > -(-len(request.forget) // size) > 1
    sgd(model, [loss] * steps, epochs=epochs, learning_rate=0.05, clip_norm=0.2)
    values = {"epochs": epochs, "learning_rate": 0.05, "batch_size": size, "beta": 0.8}
    method = build("neggrad_plus", values | {"clip_norm": 0.2, "augmentation": "crop"})
    unlearned = method.unlearn(request).state_dict()
    assert largest_difference(unlearned, model.state_dict()) < 1e-5


def test_a_beta_of_one_is_fine_tuning() -> None:
    request = TinyProblem().full_request()
    whole = {"epochs": 2, "batch_size": len(request.retain)}
    ours = build("neggrad_plus", whole | {"beta": 1.0, "clip_norm": 0.0}).unlearn(request)
    theirs = build("finetune", whole).unlearn(request)
    assert largest_difference(ours.state_dict(), theirs.state_dict()) < 1e-6


@pytest.mark.parametrize(
    "changes", [{"beta": 0.5}, {"augmentation": "flip"}, {"batch_size": 8}, {"clip_norm": 0.01}]
)
def test_every_hyperparameter_changes_the_result(changes: dict[str, Any]) -> None:
    request = TinyProblem().full_request()
    quick = {"epochs": 1}
    plain, changed = (build("neggrad_plus", quick | c).unlearn(request) for c in ({}, changes))
    assert largest_difference(plain.state_dict(), changed.state_dict()) > 0


def test_the_support_set_alone_is_refused() -> None:
    with pytest.raises(DataAccessError, match="neggrad_plus needs forget and retain set"):
        build("neggrad_plus", {}).unlearn(TinyProblem().unlearn_request())
