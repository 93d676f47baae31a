from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from support.golden import largest_difference
from support.tiny import TinyProblem
from torch.optim.optimizer import register_optimizer_step_post_hook

from oneshui.errors import InputError, NumericalError
from oneshui.methods import build
from oneshui.methods.metaunlearn import MetaUnlearn
from oneshui.methods.metaunlearn.sampler import RequestSampler

QUICK: dict[str, Any] = {
    "epochs": 1,
    "hidden_size": 16,
    "learning_rate": 1e-2,
    "num_requests": 2,
    "batch_size": 8,
}


def run(problem: TinyProblem, **changes: Any) -> dict[str, torch.Tensor]:
    method = build("metaunlearn", QUICK | changes)
    assert isinstance(method, MetaUnlearn)
    prepared = method.prepare(problem.prepare_request())
    return method.unlearn(problem.unlearn_request(prepared)).state_dict()


def moved(problem: TinyProblem, **changes: Any) -> set[str]:
    before = problem.unlearn_request().model.state_dict()
    return {n for n, v in run(problem, **changes).items() if not torch.equal(v, before[n])}


def test_the_chosen_parameters_move() -> None:
    problem = TinyProblem("vit")
    names = {name for name, _ in problem.unlearn_request().model.named_parameters()}
    assert moved(problem, parameters="all") == names
    assert moved(problem, parameters="layers") == names - {"cls_token", "pos_embed"}
    assert moved(problem, parameters="classifier") == {"head.weight", "head.bias"}
    convnext = TinyProblem("convnext")
    assert moved(convnext, parameters="classifier") == {"head.fc.weight", "head.fc.bias"}


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
@pytest.mark.parametrize("loss_type", ["full", "original", "unlearned", "scrub", "rev"])
@pytest.mark.parametrize("parameters", ["layers", "classifier"])
def test_every_objective_works_for_both_tasks(task: Any, loss_type: str, parameters: str) -> None:
    changes = {"loss_type": loss_type, "parameters": parameters, "use_retain": True}
    weights = run(TinyProblem("vit", task), retain_weight=0.5, val_weight=0.5, **changes)
    assert all(torch.isfinite(value).all() for value in weights.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"use_features": False},
        {"use_targets": False},
        {"use_identity": False},
        {"use_features": False, "use_targets": False, "use_identity": False},
        {"num_blocks": 2, "dropout": 0.0},
        {"use_accs": False, "distance": "l1"},
        {"num_simulated": 2},
        {"num_requests": 0},
        {"num_requests": 9},
    ],
)
def test_every_variant_changes_the_result(changes: dict[str, Any]) -> None:
    problem = TinyProblem()
    plain, changed = (run(problem, parameters="classifier", **c) for c in ({}, changes))
    assert largest_difference(plain, changed) > 0


def test_steps_after_deletion_do_not_need_another_preparation() -> None:
    problem = TinyProblem()
    once = build("metaunlearn", QUICK)
    assert isinstance(once, MetaUnlearn)
    request = problem.unlearn_request(once.prepare(problem.prepare_request()))
    twice = dataclasses.replace(once, forget_epochs=2).unlearn(request)
    again = once.unlearn(dataclasses.replace(request, model=once.unlearn(request)))
    assert largest_difference(twice.state_dict(), again.state_dict()) == 0

    before = request.model.state_dict()["head.weight"]
    full = once.unlearn(request).state_dict()["head.weight"] - before
    half = dataclasses.replace(once, step_scale=0.5).unlearn(request).state_dict()["head.weight"]
    torch.testing.assert_close(half - before, full / 2, rtol=1e-3, atol=1e-7)


def test_preparing_reads_what_it_needs_of_the_dataset_only() -> None:
    problem = TinyProblem()
    request = problem.prepare_request()
    unread = sorted(
        set(range(80)) - set(request.train.rows.tolist()) - set(request.val.rows.tolist())
    )
    blank = request.train.pixels.copy()
    blank[unread] = 0
    other = problem.prepare_request(
        train=dataclasses.replace(request.train, pixels=blank),
        val=dataclasses.replace(request.val, pixels=blank),
    )
    method = build("metaunlearn", QUICK)
    assert isinstance(method, MetaUnlearn)
    assert largest_difference(method.prepare(request), method.prepare(other)) == 0


class Kept:
    """A checkpoint in memory; the process is gone once it has kept so many."""

    def __init__(self, last: int | None = None) -> None:
        self.kept: dict[str, torch.Tensor] | None = None
        self.offers, self.last = 0, last

    def load(self) -> Mapping[str, torch.Tensor] | None:
        return self.kept

    def offer(self, take_down: Callable[[], Mapping[str, torch.Tensor]]) -> None:
        self.kept = {name: value.clone() for name, value in take_down().items()}
        self.offers += 1
        if self.offers == self.last:
            raise KeyboardInterrupt


@pytest.mark.parametrize("changes", [{}, {"use_retain": True, "num_blocks": 1}])
@pytest.mark.parametrize("last", [1, 2, 3, 5, 6])
def test_a_preparation_that_was_interrupted_goes_on_to_the_same_bits(
    changes: dict[str, Any], last: int
) -> None:
    problem = TinyProblem("convnext")
    method = build("metaunlearn", QUICK | {"epochs": 3, "dropout": 0.5} | changes)
    assert isinstance(method, MetaUnlearn)
    whole = method.prepare(problem.prepare_request())
    kept = Kept(last)
    request = problem.prepare_request(checkpoint=kept)
    with pytest.raises(KeyboardInterrupt):
        method.prepare(request)
    resumed = method.prepare(request)
    # Three epochs of two requests: what was done is not done again.
    assert kept.offers == 6
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_the_rate_of_every_epoch_is_a_cosine_s() -> None:
    rates: list[float] = []

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        rates.append(optimizer.param_groups[0]["lr"])

    handle = register_optimizer_step_post_hook(note)
    try:
        run(TinyProblem(), parameters="classifier", epochs=3, num_requests=2, learning_rate=0.02)
    finally:
        handle.remove()
    assert rates == pytest.approx([0.02, 0.02, 0.015, 0.015, 0.005, 0.005])


def test_somebody_unknown_is_refused() -> None:
    problem = TinyProblem()
    method = build("metaunlearn", QUICK)
    assert isinstance(method, MetaUnlearn)
    request = problem.unlearn_request(method.prepare(problem.prepare_request()))
    request.support.identities[0] = 99
    with pytest.raises(InputError, match="identity 99 of the support set"):
        method.unlearn(request)


def test_a_diverging_step_is_reported() -> None:
    with pytest.raises(NumericalError, match="lower step_size"):
        run(TinyProblem(), step_size=1e38)


def test_every_epoch_simulates_other_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[tuple[int, ...]] = []
    sample = RequestSampler.sample

    def watched(sampler: RequestSampler, request: Any) -> Any:
        played.append(request.identities)
        return sample(sampler, request)

    monkeypatch.setattr(RequestSampler, "sample", watched)
    request = TinyProblem().prepare_request()
    build("metaunlearn", {"epochs": 3, "hidden_size": 8}).prepare(request)  # type: ignore[attr-defined]
    per_epoch = -(-len(request.train_identities) // request.num_forget)
    assert len(played) == 3 * per_epoch
    epochs = [played[start : start + per_epoch] for start in range(0, len(played), per_epoch)]
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    for epoch in epochs:
        assert {who for identities in epoch for who in identities} == set(request.train_identities)


def test_the_preparation_looks_at_the_validation_images() -> None:
    request = TinyProblem().prepare_request()
    other = dataclasses.replace(request.val, labels=1 - request.val.labels)
    method: Any = build("metaunlearn", {"epochs": 1, "hidden_size": 8})
    plain = method.prepare(request)
    changed = method.prepare(dataclasses.replace(request, val=other))
    assert largest_difference(plain, changed) > 0
