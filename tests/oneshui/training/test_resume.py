"""A training that was interrupted ends as one that was not, to the bit."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping

import pytest
import torch
from support.tiny import NUM_OUTPUTS, SPECS, Network, TinyProblem
from torch import nn

from oneshui.spec import TrainingSpec
from oneshui.training.models import make_model
from oneshui.training.predict import predict_logits
from oneshui.training.train import Epoch, TrainingState, train

CPU = torch.device("cpu")
EPOCHS = 3
OPTIMIZERS: Mapping[str, Mapping[str, object]] = {
    "sgd with momentum": {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.9},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.0},
    "adamw": {"optimizer": "adamw", "learning_rate": 5e-3},
    "adam with amsgrad": {"optimizer": "adam", "amsgrad": True, "learning_rate": 5e-3},
}
Result = tuple[dict[str, torch.Tensor], list[Epoch]]


class StoppedError(Exception):
    pass


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def recipe(**changes: object) -> TrainingSpec:
    values = {
        "epochs": EPOCHS,
        "schedule": "cosine_by_step",
        "warmup_epochs": 0.5,
        "weight_decay": 0.01,
        "augmentation": "flip",
        "batch_size": 16,
        "clip_norm": 1.0,
    }
    return TrainingSpec(**{**values, **changes})  # type: ignore[arg-type]


def fresh(network: Network, **options: object) -> nn.Module:
    spec = SPECS[network]
    spec = dataclasses.replace(spec, options={**spec.options, **options})
    return make_model(spec, NUM_OUTPUTS, 0)


def run(
    model: nn.Module,
    spec: TrainingSpec,
    resume: TrainingState | None = None,
    on_epoch: Callable[[Epoch, Callable[[], TrainingState]], None] | None = None,
) -> Result:
    problem = TinyProblem("convnext")
    history = train(
        model,
        problem.images("train"),
        problem.images("val"),
        spec,
        task="multilabel",
        seed=3,
        device=CPU,
        resume=resume,
        on_epoch=on_epoch,
    )
    return {name: value.clone() for name, value in model.state_dict().items()}, history


def interrupted(
    model: nn.Module, spec: TrainingSpec, after: int, resume: TrainingState | None
) -> TrainingState:
    """What a training that ends with an error after an epoch had taken down."""
    taken: list[TrainingState] = []

    def on_epoch(epoch: Epoch, take_down: Callable[[], TrainingState]) -> None:
        if epoch.number == after:
            taken.append(take_down())
            raise StoppedError

    with pytest.raises(StoppedError):
        run(model, spec, resume, on_epoch)
    (progress,) = taken
    assert progress.epoch == after
    return progress


def disturb() -> None:
    """Whatever else a process may have done in between."""
    torch.manual_seed(torch.seed())


def assert_same(one: Result, other: Result) -> None:
    assert one[0].keys() == other[0].keys()
    for name, value in one[0].items():
        assert torch.equal(value, other[0][name]), name
    assert one[1] == other[1]


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_training_equals_one_that_ran_through(optimizer: str, keep: str) -> None:
    spec = recipe(keep=keep, **OPTIMIZERS[optimizer])
    whole = run(fresh("convnext"), spec)
    assert len(whole[1]) == EPOCHS
    for after in range(1, EPOCHS + 1):
        progress = interrupted(fresh("convnext"), spec, after, None)
        disturb()
        assert_same(run(fresh("convnext"), spec, progress), whole)


@pytest.mark.parametrize("optimizer", ["sgd with momentum", "adamw"])
def test_a_training_may_be_interrupted_after_every_epoch(optimizer: str) -> None:
    spec = recipe(keep="best", **OPTIMIZERS[optimizer])
    whole = run(fresh("convnext"), spec)
    progress = None
    for after in range(1, EPOCHS):
        progress = interrupted(fresh("convnext"), spec, after, progress)
        disturb()
    assert_same(run(fresh("convnext"), spec, progress), whole)


@pytest.mark.parametrize("epoch_of_best", [1, 2])
def test_the_best_epoch_may_lie_before_the_interruption(
    monkeypatch: pytest.MonkeyPatch, epoch_of_best: int
) -> None:
    spec = recipe(keep="best", **OPTIMIZERS["adamw"])
    scores = {**dict.fromkeys(range(1, EPOCHS + 1), 0.25), epoch_of_best: 0.75}

    def rated(start: int) -> None:
        numbers = itertools.count(start)
        monkeypatch.setattr("oneshui.training.train._score", lambda *_: scores[next(numbers)])

    rated(1)
    best: list[dict[str, torch.Tensor]] = []

    def on_epoch(epoch: Epoch, take_down: Callable[[], TrainingState]) -> None:
        if epoch.number == epoch_of_best:
            tensors = take_down().tensors
            best.append(
                {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
            )

    whole = run(fresh("convnext"), spec, None, on_epoch)
    assert_same(whole, (best[0], whole[1]))
    rated(1)
    progress = interrupted(fresh("convnext"), spec, 2, None)
    rated(3)
    assert_same(run(fresh("convnext"), spec, progress), whole)


@pytest.mark.parametrize(
    ("network", "options"),
    [("vit", {"drop_rate": 0.3}), ("convnext", {"drop_rate": 0.3, "drop_path_rate": 0.3})],
)
def test_a_network_that_drops_activations_is_no_exception(
    network: Network, options: Mapping[str, object]
) -> None:
    spec = recipe(keep="last", **OPTIMIZERS["adamw"])
    whole = run(fresh(network, **options), spec)
    without = run(fresh(network), spec)
    assert any(not torch.equal(whole[0][name], without[0][name]) for name in whole[0])
    for after in (1, 2):
        progress = interrupted(fresh(network, **options), spec, after, None)
        disturb()
        assert_same(run(fresh(network, **options), spec, progress), whole)


def test_what_is_taken_down_does_not_change_any_more_and_does_not_disturb() -> None:
    spec = recipe(keep="best", **OPTIMIZERS["adamw"])
    whole = run(fresh("convnext"), spec)
    taken: list[tuple[TrainingState, dict[str, torch.Tensor]]] = []

    def on_epoch(_: Epoch, take_down: Callable[[], TrainingState]) -> None:
        progress = take_down()
        taken.append((progress, {n: t.clone() for n, t in progress.tensors.items()}))

    assert_same(run(fresh("convnext"), spec, None, on_epoch), whole)
    assert [progress.epoch for progress, _ in taken] == list(range(1, EPOCHS + 1))
    for progress, before in taken:
        assert len(progress.history) == progress.epoch
        assert all(torch.equal(progress.tensors[name], before[name]) for name in before)
        parts = {name.partition(".")[0] for name in before}
        assert parts == {"model", "optimizer", "best"}


def test_a_training_that_was_finished_is_not_trained_further() -> None:
    spec = recipe(keep="last", **OPTIMIZERS["adamw"])
    taken: list[TrainingState] = []
    whole = run(fresh("convnext"), spec, None, lambda _, take_down: taken.append(take_down()))
    calls: list[Epoch] = []
    again = run(fresh("convnext"), spec, taken[-1], lambda epoch, _: calls.append(epoch))
    assert_same(again, whole)
    assert calls == []


def test_a_resumed_training_still_ends_at_a_best_epoch_before_the_interruption() -> None:
    problem, spec = TinyProblem("convnext"), recipe(keep="best", learning_rate=0.05)
    first = interrupted(fresh("convnext"), spec, 1, None)
    weights = {
        name.removeprefix("model."): value
        for name, value in first.tensors.items()
        if name.startswith("model.")
    }
    model, val = fresh("convnext"), problem.images("val")
    model.load_state_dict(weights)
    logits = predict_logits(model, val, device=CPU)
    # Nobody does better than the model that the labels come from.
    val = dataclasses.replace(val, labels=(logits > logits.median(0).values).float())

    def trained(resume: TrainingState | None, stop_after: int | None) -> Mapping[str, torch.Tensor]:
        own, taken = fresh("convnext"), []

        def on_epoch(epoch: Epoch, take_down: Callable[[], TrainingState]) -> None:
            if epoch.number == stop_after:
                taken.append(take_down())

        history = train(
            own,
            problem.images("train"),
            val,
            spec,
            task="multilabel",
            seed=3,
            device=CPU,
            resume=resume,
            on_epoch=on_epoch,
        )
        assert [epoch.val_score == 1 for epoch in history] == [True, False, False]
        return trained(taken[0], None) if taken else own.state_dict()

    for result in (trained(None, None), trained(None, 2)):
        assert all(torch.equal(result[name], value) for name, value in weights.items())
