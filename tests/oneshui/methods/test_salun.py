from __future__ import annotations

from typing import Any

import pytest
import torch
from reference.salun import salient
from reference.training import loss_of, sgd
from support.golden import largest_difference
from support.tiny import TinyProblem

from oneshui.errors import DataAccessError
from oneshui.methods import build
from oneshui.methods._sgd import label_prior, mixed_batches, random_labels
from oneshui.methods.salun import saliency_masks

CPU = torch.device("cpu")


@pytest.mark.parametrize("problem", [TinyProblem("vit"), TinyProblem("convnext", "multiclass")])
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9])
def test_the_mask_is_that_of_a_plain_loop(problem: TinyProblem, sparsity: float) -> None:
    request = problem.full_request()
    forget, model = request.forget, request.model
    masks = saliency_masks(model, forget.batches(100, CPU), problem.task, sparsity)
    ours = {
        (name, i)
        for name, mask in masks.items()
        for i, value in enumerate(mask.flatten().tolist())
        if value
    }
    theirs = salient(model, forget.inputs(), forget.labels, sparsity)
    # Of weights with the same gradient, such as 0, the loop has to choose some.
    assert ours <= theirs
    assert len(theirs - ours) < 0.02 * len(theirs)


def test_masked_weights_stay_and_salient_ones_move() -> None:
    request = TinyProblem().full_request()
    masks = saliency_masks(request.model, request.forget.batches(32, CPU), "multilabel", 0.5)
    after = build("salun", {"epochs": 1}).unlearn(request).state_dict()
    for name, before in request.model.state_dict().items():
        moved = after[name] != before
        assert not (moved & (masks[name] == 0)).any()
        assert moved[masks[name] == 1].float().mean() > 0.9 or not masks[name].any()


@pytest.mark.parametrize("problem", [TinyProblem("vit"), TinyProblem("vit", "multiclass")])
def test_without_a_mask_it_trains_on_with_wrong_labels_for_the_forget_set(
    problem: TinyProblem,
) -> None:
    request = problem.full_request()
    model, num_images = problem.full_request().model, len(request.forget) + len(request.retain)
    # The method's own draws, so that the labels are the same.
    batches = mixed_batches(
        request.forget,
        request.retain,
        num_images,
        device=CPU,
        generator=request.generator("salun batches"),
    )
    inputs, labels, is_forget = next(batches)
    prior = label_prior(request.retain.labels)
    targets = random_labels(labels, prior, 5, request.generator("salun labels"))
    targets[~is_forget] = labels[~is_forget]
    assert not torch.equal(targets, labels)
    sgd(model, [lambda: loss_of(model(inputs), targets)], epochs=1, learning_rate=0.1)

    changes = {"epochs": 1, "learning_rate": 0.1, "sparsity": 0.0, "batch_size": num_images}
    unlearned = build("salun", changes).unlearn(request)
    assert largest_difference(unlearned.state_dict(), model.state_dict()) < 1e-6


@pytest.mark.parametrize(
    "changes", [{"sparsity": 0.1}, {"augmentation": "flip"}, {"batch_size": 8}, {"epochs": 2}]
)
def test_every_hyperparameter_changes_the_result(changes: dict[str, Any]) -> None:
    request = TinyProblem().full_request()
    plain, changed = (build("salun", {"epochs": 1} | c).unlearn(request) for c in ({}, changes))
    assert largest_difference(plain.state_dict(), changed.state_dict()) > 0


def test_the_support_set_alone_is_refused() -> None:
    with pytest.raises(DataAccessError, match="salun needs forget and retain set"):
        build("salun", {}).unlearn(TinyProblem().unlearn_request())
