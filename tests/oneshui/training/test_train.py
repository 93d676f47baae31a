from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from support.golden import GoldenCase, each_case, largest_difference, load_json
from support.tiny import NUM_OUTPUTS, TinyProblem, tiny_model
from torch import nn

from oneshui.data.images import LabelledImages, make_images
from oneshui.errors import InputError, NumericalError
from oneshui.spec import TrainingSpec
from oneshui.training.losses import sample_losses, task_loss
from oneshui.training.predict import predict, predict_logits
from oneshui.training.schedule import learning_rate
from oneshui.training.train import Epoch, make_optimizer, train

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["recipe_30ep", "short"])
def test_paper_schedule_equals_the_golden_one(name: str) -> None:
    golden = load_json("lr_schedule")[name]
    spec = TrainingSpec(
        epochs=golden["epochs"],
        warmup_epochs=golden["warmup_epochs"],
        learning_rate=golden["base_lr"],
    )
    ours = [
        learning_rate(spec, step, golden["iterations_per_epoch"])
        for step in range(len(golden["lr_used_at_iteration"]))
    ]
    assert ours == pytest.approx(golden["lr_used_at_iteration"], rel=1e-9)


def test_cosine_by_step_rises_and_ends_near_zero() -> None:
    spec = TrainingSpec(epochs=10, warmup_epochs=1.5, schedule="cosine_by_step", learning_rate=0.5)
    rates = [learning_rate(spec, step, 20) for step in range(200)]
    assert max(rates) == pytest.approx(0.5, rel=1e-3)
    assert rates.index(max(rates)) in (29, 30)
    assert rates[-1] < 1e-3 * 0.5
    assert all(rate > 0 for rate in rates)


@pytest.mark.parametrize(
    ("changes", "rates"),
    [
        (
            {"schedule": "cosine_by_epoch", "epochs": 4, "warmup_epochs": 1},
            [0, 1 / 3, 2 / 3, *[1] * 3, *[(1 + 0.5**0.5) / 2] * 3, *[0.5] * 3],
        ),
        (
            {"schedule": "cosine_by_epoch", "epochs": 3, "warmup_epochs": 0},
            [*[1] * 3, *[0.75] * 3, *[0.25] * 3],
        ),
        (
            {"schedule": "cosine_by_step", "epochs": 2, "warmup_epochs": 2 / 3},
            [1 / 3, 2 / 3, 1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2],
        ),
    ],
)
def test_rates_of_three_steps_an_epoch(changes: dict[str, Any], rates: list[float]) -> None:
    spec = TrainingSpec(**changes, learning_rate=0.2)
    ours = [learning_rate(spec, step, 3) for step in range(len(rates))]
    assert ours == pytest.approx([0.2 * rate for rate in rates], rel=1e-6, abs=1e-12)


Schedulers = torch.optim.lr_scheduler
PYTORCH_S: dict[str, tuple[dict[str, Any], Any]] = {
    "constant": ({"schedule": "constant"}, lambda it: Schedulers.ConstantLR(it, 1.0)),
    "step": (
        {"schedule": "step", "decay_epochs": 3, "decay": 0.5},
        lambda it: Schedulers.StepLR(it, 3, 0.5),
    ),
    "multistep": (
        {"schedule": "multistep", "milestones": (2, 5), "decay": 0.3},
        lambda it: Schedulers.MultiStepLR(it, [2, 5], 0.3),
    ),
    "exponential": (
        {"schedule": "exponential", "decay": 0.9},
        lambda it: Schedulers.ExponentialLR(it, 0.9),
    ),
    "linear": (
        {"schedule": "linear"},
        lambda it: Schedulers.LinearLR(it, 1.0, 0.1, total_iters=9),
    ),
    "cosine of fewer epochs": (
        {"schedule": "cosine_by_epoch", "cosine_epochs": 7},
        lambda it: Schedulers.CosineAnnealingLR(it, 7),
    ),
}


@pytest.mark.parametrize("warmup", [0, 2])
@pytest.mark.parametrize("name", PYTORCH_S)
def test_schedules_by_epoch_are_pytorch_s_from_the_end_of_the_warm_up(
    name: str, warmup: int
) -> None:
    changes, scheduler = PYTORCH_S[name]
    made = TrainingSpec(epochs=9, learning_rate=0.2, warmup_epochs=warmup, **changes)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    schedule = scheduler(optimizer)
    for epoch in range(warmup, 9):
        rates = [learning_rate(made, 4 * epoch + step, 4) for step in range(4)]
        assert rates == pytest.approx([optimizer.param_groups[0]["lr"]] * 4, rel=1e-6, abs=1e-12)
        optimizer.step()
        schedule.step()
    if warmup:
        rising = [learning_rate(made, step, 4) for step in range(8)]
        assert rising == pytest.approx([0.2 * step / 8 for step in range(8)], abs=1e-9)


def test_dropping_the_last_batch_leaves_out_what_does_not_fill_it() -> None:
    problem, size = TinyProblem("convnext"), len(TinyProblem("convnext").images("train"))
    batch = size // 2 + 1
    for drop_last, batches in ((False, [batch, size - batch]), (True, [batch])):
        model = Watched()
        history = train(
            model,
            problem.images("train"),
            problem.images("val"),
            recipe(epochs=1, batch_size=batch, drop_last=drop_last, augmentation="none"),
            task="multilabel",
            seed=0,
            device=CPU,
        )
        assert [len(images) for images in model.seen] == batches
        if drop_last:
            # Before its first step the network says 0.5 of everything.
            assert history[0].loss == pytest.approx(math.log(2), rel=0.05)
    with pytest.raises(InputError, match="drop_last leaves out all of"):
        train(
            Watched(),
            problem.images("train"),
            problem.images("val"),
            recipe(batch_size=size + 1, drop_last=True),
            task="multilabel",
            seed=0,
            device=CPU,
        )


@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_adds_the_weight_decay_to_the_gradient(amsgrad: bool) -> None:
    # One weight: what Adam makes of gradients that are rounding alone is no matter of ours.
    spec = TrainingSpec(optimizer="adam", amsgrad=amsgrad, learning_rate=0.1, weight_decay=0.3)
    ours, theirs = (nn.Linear(1, 1, bias=False) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    optimizers = (
        make_optimizer(ours, spec),
        torch.optim.Adam(theirs.parameters(), lr=0.1, weight_decay=0.3, amsgrad=amsgrad),
    )
    for scale in (5.0, 0.1, 0.2, -0.1):
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            (scale * model(torch.ones(1, 1))).sum().backward()
            optimizer.step()
    assert torch.equal(ours.weight, theirs.weight)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "amsgrad"])
@pytest.mark.parametrize("schedule", ["cosine_by_epoch", "cosine_by_step", "linear"])
@pytest.mark.parametrize("clip_norm", [0.0, 0.1])
def test_a_training_is_a_plain_loop(optimizer: Any, schedule: Any, clip_norm: float) -> None:
    problem, model = TinyProblem("vit"), tiny_model("vit")
    data = problem.images("train")
    spec = TrainingSpec(
        epochs=3,
        warmup_epochs=1,
        batch_size=20,
        optimizer="adamw" if optimizer == "amsgrad" else optimizer,
        amsgrad=optimizer == "amsgrad",
        schedule=schedule,
        learning_rate=0.05 if optimizer == "sgd" else 2e-3,
        momentum=0.8,
        weight_decay=0.1,
        clip_norm=clip_norm,
        augmentation="none",
        keep="last",
    )
    if optimizer == "sgd":
        plain: torch.optim.Optimizer = torch.optim.SGD(
            model.parameters(), lr=1.0, momentum=0.8, weight_decay=0.1
        )
    else:
        plain = torch.optim.AdamW(
            model.parameters(), lr=1.0, weight_decay=0.1, amsgrad=optimizer == "amsgrad"
        )
    steps_per_epoch = math.ceil(len(data) / 20)
    assert len(data) % 20
    losses, step = [], 0
    for _ in range(3):
        total = 0.0
        for start in range(0, len(data), 20):
            part = slice(start, start + 20)
            plain.param_groups[0]["lr"] = learning_rate(spec, step, steps_per_epoch)
            loss = nn.functional.binary_cross_entropy_with_logits(
                model(data.inputs(part)), data.labels[part]
            )
            plain.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if clip_norm:
                nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
            plain.step()
            total += loss.item() * len(data.labels[part])
            step += 1
        losses.append(total / len(data))

    ours = tiny_model("vit")
    history = train(
        ours,
        data,
        problem.images("val"),
        spec,
        task="multilabel",
        seed=0,
        device=CPU,
        shuffle=False,
    )
    assert largest_difference(ours.state_dict(), model.state_dict()) < 1e-5
    assert [epoch.loss for epoch in history] == pytest.approx(losses, rel=1e-5)
    assert not ours.training


def golden_images(case: GoldenCase, name: str) -> LabelledImages:
    return make_images(
        case.images.numpy(),
        case.data["targets"].numpy(),
        case.identities.numpy(),
        case.rows(name).numpy(),
    )


@each_case
def test_loop_equals_the_golden_training(case: GoldenCase) -> None:
    hyper = case.expected["pretrain_loop.hyper"]
    model = case.model("dumb_teacher")
    spec = TrainingSpec(
        epochs=hyper["epochs"],
        warmup_epochs=hyper["warmup_epochs"],
        learning_rate=hyper["lr"],
        momentum=hyper["momentum"],
        weight_decay=hyper["weight_decay"],
        batch_size=hyper["batch_size"],
        augmentation="none",
        keep="last",
    )
    train(
        model,
        golden_images(case, "train"),
        golden_images(case, "val"),
        spec,
        task=case.task,
        seed=0,
        device=CPU,
        shuffle=False,
    )
    pair = case.pair(model.state_dict(), "pretrain_loop", "after_epoch3.")
    assert largest_difference(*pair) < 1e-6


def recipe(**changes: object) -> TrainingSpec:
    values = {
        "epochs": 3,
        "optimizer": "adamw",
        "learning_rate": 5e-3,
        "schedule": "cosine_by_step",
        "warmup_epochs": 0.3,
        "augmentation": "flip",
        "batch_size": 16,
        "clip_norm": 1.0,
    }
    return TrainingSpec(**{**values, **changes})  # type: ignore[arg-type]


def trained(seed: int, spec: TrainingSpec) -> tuple[dict[str, torch.Tensor], list[Epoch]]:
    problem = TinyProblem("convnext")
    model = tiny_model("convnext")
    history = train(
        model,
        problem.images("train"),
        problem.images("val"),
        spec,
        task="multilabel",
        seed=seed,
        device=CPU,
    )
    return model.state_dict(), history


def test_same_seed_same_weights_to_the_bit_and_no_global_random_state() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (trained(seed, recipe())[0] for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(state, torch.random.get_rng_state())


class Watched(nn.Module):
    """A linear network after dropout that keeps what it is trained on and what dropout left."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(3 * 32 * 32, NUM_OUTPUTS)
        nn.init.zeros_(self.head.weight)
        self.seen: list[torch.Tensor] = []
        self.left: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        dropped = self.dropout(torch.ones_like(images))
        if self.training:
            self.seen.append(images.clone())
            self.left.append(dropped.clone())
        logits: torch.Tensor = self.head((images * dropped).flatten(1))
        return logits


def test_every_epoch_draws_order_crops_and_dropout_anew_and_the_seed_repeats_them() -> None:
    problem = TinyProblem("convnext")

    def watch(seed: int, shuffle: bool, augmentation: str) -> Watched:
        model, size = Watched(), len(problem.images("train"))
        train(
            model,
            problem.images("train"),
            problem.images("val"),
            recipe(batch_size=size, augmentation=augmentation, warmup_epochs=0),
            task="multilabel",
            seed=seed,
            device=CPU,
            shuffle=shuffle,
        )
        assert len(model.seen) == len(model.left) == 3
        return model

    crops, again, other = (watch(seed, False, "crop") for seed in (1, 1, 2))
    orders = watch(1, True, "none")
    for first, second in itertools.combinations(range(3), 2):
        for tensors in (crops.seen, crops.left):
            same = (tensors[first] == tensors[second]).flatten(1).all(1)
            assert same.float().mean() < 0.1
        assert not torch.equal(orders.seen[first], orders.seen[second])
        torch.testing.assert_close(orders.seen[first].sum(0), orders.seen[second].sum(0))
    for epoch in range(3):
        assert torch.equal(crops.seen[epoch], again.seen[epoch])
        assert torch.equal(crops.left[epoch], again.left[epoch])
        assert not torch.equal(crops.seen[epoch], other.seen[epoch])
        assert not torch.equal(crops.left[epoch], other.left[epoch])


def test_training_lowers_the_loss() -> None:
    _, history = trained(0, recipe(epochs=8))
    assert history[-1].loss < 0.9 * history[0].loss
    assert [epoch.number for epoch in history] == list(range(1, 9))


def test_best_keeps_the_epoch_with_the_best_validation_score() -> None:
    weights, history = trained(0, recipe(epochs=6, keep="best"))
    model = tiny_model("convnext")
    model.load_state_dict(weights)
    problem = TinyProblem("convnext")
    val = problem.images("val")
    from oneshui.metrics.scores import score

    kept = score(predict_logits(model, val, device=CPU), val.labels, "multilabel")
    assert kept == pytest.approx(max(epoch.val_score for epoch in history), abs=1e-9)


def test_a_diverging_run_says_so() -> None:
    with pytest.raises(NumericalError, match=r"lower training\.learning_rate"):
        trained(0, recipe(optimizer="sgd", learning_rate=1e9, clip_norm=0.0))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epochs": 0}, "training.epochs is 0"),
        ({"learning_rate": 0.0}, "training.learning_rate is 0.0"),
        ({"warmup_epochs": 3.0}, "training.warmup_epochs is 3.0"),
        ({"schedule": "cosine_by_epoch", "warmup_epochs": 0.5}, "whole number"),
        ({"momentum": 1.0}, "training.momentum"),
    ],
)
def test_refuses_values_out_of_range(changes: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        recipe(**changes)


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_task_loss_is_the_mean_of_the_sample_losses(task: str) -> None:
    problem = TinyProblem("vit", task)  # type: ignore[arg-type]
    data = problem.images("val")
    logits = torch.randn(len(data), NUM_OUTPUTS, generator=torch.Generator().manual_seed(0))
    losses = sample_losses(logits, data.labels, problem.task)
    assert losses.shape == (len(data),)
    assert task_loss(logits, data.labels, problem.task) == pytest.approx(losses.mean().item())
    by_hand = []
    for row, label in zip(logits.tolist(), data.labels.tolist(), strict=True):
        if task == "multilabel":
            terms = [
                -math.log(1 / (1 + math.exp(-z))) if y else -math.log(1 - 1 / (1 + math.exp(-z)))
                for z, y in zip(row, label, strict=True)
            ]
            by_hand.append(sum(terms) / len(terms))
        else:
            by_hand.append(math.log(sum(math.exp(z) for z in row)) - row[label])
    assert losses.tolist() == pytest.approx(by_hand, abs=1e-5)


def test_predictions_cover_every_image_once_and_do_not_depend_on_the_batch_size() -> None:
    problem = TinyProblem("vit")
    model = tiny_model("vit")
    sets = {name: problem.images(name) for name in ("retain", "forget", "support")}
    frame = predict(model, sets, task="multilabel", device=CPU)
    assert len(frame) == sum(len(data) for data in sets.values())
    for name, data in sets.items():
        part = frame[frame["set"] == name]
        assert part["image"].tolist() == data.rows.tolist()
        assert part["identity"].tolist() == data.identities.tolist()
        one = predict_logits(model, data, device=CPU, batch_size=1)
        assert np.allclose(np.stack(part["logits"].to_list()), one.numpy(), atol=1e-5)


class Halved(nn.Module):
    """A network whose logits are bfloat16, as a GPU may give them."""

    def __init__(self) -> None:
        super().__init__()
        self.network = tiny_model("vit")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images).bfloat16()
        return logits


def test_logits_in_bfloat16_are_widened() -> None:
    data = TinyProblem("vit").images("val")
    logits = predict_logits(Halved(), data, device=CPU)
    assert logits.dtype == torch.float32
    rounded = predict_logits(tiny_model("vit"), data, device=CPU).bfloat16().float()
    assert torch.equal(logits, rounded)
    frame = predict(Halved(), {"val": data}, task="multilabel", device=CPU)
    assert frame["loss"].dtype == np.float32
    expected = sample_losses(rounded, data.labels, "multilabel")
    np.testing.assert_allclose(frame["loss"], expected, rtol=1e-6)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_one_image_without_finite_predictions_is_an_error(number: float) -> None:
    model, data = tiny_model("vit"), TinyProblem("vit").images("retain")
    model.register_forward_hook(lambda _, __, logits: logits.index_fill(0, torch.tensor(3), number))
    message = f"1 of {len(data)} images of the retain set have logits that are not finite"
    with pytest.raises(NumericalError, match=message):
        predict(model, {"retain": data}, task="multilabel", device=CPU)


class WithoutNumbers(nn.Module):
    """A network whose logits are not finite in one of its modes."""

    def __init__(self, *, in_training: bool) -> None:
        super().__init__()
        self.network = tiny_model("vit")
        self.in_training = in_training

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images)
        # The first image of a batch alone.
        first = (torch.arange(len(images)) == 0)[:, None]
        broken = self.training == self.in_training
        return torch.where(first, torch.inf, logits) if broken else logits


@pytest.mark.parametrize(
    ("in_training", "message"),
    [
        (
            True,
            r"training loss is (inf|nan) in epoch 1: lower training.learning_rate \(now 0.005\)",
        ),
        (False, "training left the finite numbers: lower training.learning_rate"),
    ],
)
def test_what_is_not_finite_ends_the_training(in_training: bool, message: str) -> None:
    problem = TinyProblem("vit")
    with pytest.raises(NumericalError, match=message):
        train(
            WithoutNumbers(in_training=in_training),
            problem.images("train"),
            problem.images("val"),
            recipe(clip_norm=0.0),
            task="multilabel",
            seed=0,
            device=CPU,
        )
