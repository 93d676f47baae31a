from __future__ import annotations

import pytest
import torch
from reference.training import loss_of
from support.golden import largest_difference
from support.tiny import TinyProblem

from oneshui.errors import InputError
from oneshui.methods import build, random_label
from oneshui.methods._sgd import label_prior, random_labels


@pytest.mark.parametrize("problem", [TinyProblem("vit"), TinyProblem("convnext", "multiclass")])
def test_two_steps_are_two_sgd_steps_towards_other_labels(problem: TinyProblem) -> None:
    request, model = problem.unlearn_request(), problem.unlearn_request().model
    labels = request.support.labels
    draws = request.generator("random_label labels")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        targets = random_labels(labels, label_prior(labels), 5, draws)
        loss_of(model(request.support.inputs()), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    unlearned = build("random_label", {"learning_rate": 0.5, "steps": 2}).unlearn(request)
    assert largest_difference(unlearned.state_dict(), model.state_dict()) < 1e-5


def test_chunks_do_not_change_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    request = TinyProblem().unlearn_request()
    method = build("random_label", {})
    whole = method.unlearn(request).state_dict()
    monkeypatch.setattr(random_label, "CHUNK_SIZE", 2)
    assert largest_difference(method.unlearn(request).state_dict(), whole) < 1e-6


def test_the_classifier_can_be_moved_alone() -> None:
    request = TinyProblem().unlearn_request()
    unlearned = build("random_label", {"parameters": "classifier"}).unlearn(request)
    before = request.model.state_dict()
    moved = {n for n, v in unlearned.state_dict().items() if not torch.equal(v, before[n])}
    assert moved == {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("field", "value"), [("learning_rate", 0.0), ("steps", 0), ("parameters", "head")]
)
def test_values_out_of_range_are_refused(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"random_label.{field} is {value!r}"):
        build("random_label", {field: value})
