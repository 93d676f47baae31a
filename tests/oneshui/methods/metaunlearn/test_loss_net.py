"""The learned loss, its step and its training, against second derivatives and golden numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from reference.meta import meta_gradient
from support.golden import MULTICLASS, MULTILABEL, GoldenCase, each_case, largest_difference
from support.tiny import NUM_OUTPUTS, TinyProblem, tiny_model
from torch import nn

from oneshui.methods.metaunlearn import MetaUnlearn
from oneshui.methods.metaunlearn.loss_net import (
    ClassifierView,
    MetaLossNet,
    NetworkView,
    Parameters,
    Support,
    inner_gradient,
    make_net,
    meta_step,
    moved_parameters,
    take_step,
)
from oneshui.methods.metaunlearn.objective import (
    Batch,
    BatchGroup,
    MetaTrainer,
    OuterLoss,
    batch_score,
    forget_terms,
    retain_terms,
)
from oneshui.training.models import FeaturesAndLogits

SMALL = MetaUnlearn(hidden_size=12, embed_size=4)


def small_net(
    method: MetaUnlearn, *, num_features: int = 16, num_identities: int = 20
) -> MetaLossNet:
    return make_net(
        num_outputs=NUM_OUTPUTS,
        num_features=num_features,
        num_identities=num_identities,
        method=method,
        generator=torch.Generator().manual_seed(0),
    )


@pytest.mark.parametrize("network", ["vit", "convnext"])
@pytest.mark.parametrize("which", ["layers", "classifier"])
@pytest.mark.parametrize(
    "method",
    [
        SMALL,
        dataclasses.replace(SMALL, use_features=False, num_blocks=1),
        dataclasses.replace(SMALL, use_targets=False, use_identity=False),
    ],
    ids=["all inputs", "no features", "no targets and identity"],
)
def test_the_meta_gradient_is_the_second_derivative(
    network: Any, which: Any, method: MetaUnlearn
) -> None:
    problem = TinyProblem(network)
    model = tiny_model(network).double()
    support, forget = problem.images("support"), problem.images("forget")
    net = small_net(dataclasses.replace(method, dropout=0.0)).double()
    images = Support(
        inputs=support.inputs().double(), labels=support.labels.double(), index=support.identities
    )
    pictures, labels = forget.inputs().double(), forget.labels.double()
    moved = moved_parameters(model, which)

    def outer(logits: torch.Tensor) -> torch.Tensor:
        return nn.functional.binary_cross_entropy_with_logits(logits, labels)

    value, expected = meta_gradient(
        net, model, set(moved), images, lambda unlearned: outer(unlearned(pictures)), 0.3
    )
    frozen = tiny_model(network).double().requires_grad_(False)
    if which == "classifier":
        features = FeaturesAndLogits(frozen)
        images = dataclasses.replace(images, inputs=features(images.inputs)[1])
        pictures = features(pictures)[1]
    view = ClassifierView() if which == "classifier" else NetworkView(frozen)
    step = meta_step(
        net,
        view,
        moved_parameters(frozen, which),
        images,
        [lambda parameters: outer(view(parameters, pictures)[0])],
        step_size=0.3,
        chunk_size=2,
    )
    assert step.value == pytest.approx(value, abs=1e-12)
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    assert largest_difference(step.gradients, expected) < 1e-9 * largest


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
@pytest.mark.parametrize("use", [True, False])
def test_the_learned_loss_is_this_network(task: Any, use: bool) -> None:
    flags: dict[str, Any] = dict.fromkeys(("use_features", "use_targets", "use_identity"), use)
    net = small_net(dataclasses.replace(SMALL, num_blocks=2, **flags)).double().eval()
    weights: dict[str, torch.Tensor] = dict(net.state_dict())
    generator = torch.Generator().manual_seed(1)
    logits, features = (
        torch.randn(6, size, generator=generator, dtype=torch.float64) for size in (NUM_OUTPUTS, 16)
    )
    index = torch.tensor([3, 0, 19, 3, 7, 1])
    labels = (logits > 0.3).double() if task == "multilabel" else torch.tensor([0, 4, 2, 2, 1, 3])

    def linear(values: torch.Tensor, name: str) -> torch.Tensor:
        return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(values: torch.Tensor, name: str) -> torch.Tensor:
        mean = values.mean(1, keepdim=True)
        spread = ((values - mean) ** 2).mean(1, keepdim=True)
        scaled = (values - mean) / (spread + 1e-5).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def gelu(values: torch.Tensor) -> torch.Tensor:
        return values * (1 + torch.erf(values / 2**0.5)) / 2

    seen = [1 / (1 + (-logits).exp())]
    if use:
        targets = labels if task == "multilabel" else torch.eye(NUM_OUTPUTS).double()[labels]
        seen += [features, targets, weights["embed.weight"][index]]
    hidden = linear(torch.cat(seen, dim=1), "input_block.0")
    hidden = gelu(linear(norm(hidden, "input_block.1"), "input_block.2"))
    for block in ("hidden_blocks.0", "hidden_blocks.1"):
        inner = gelu(linear(norm(hidden, f"{block}.0"), f"{block}.1"))
        hidden = hidden + gelu(linear(inner, f"{block}.4"))
    value = linear(norm(hidden, "output_block.0"), "output_block.1")[:, 0]
    expected = (1 + value.exp()).log()
    torch.testing.assert_close(net(logits, features, labels, index), expected)


def test_dropout_draws_from_its_own_generator_and_keeps_the_mean() -> None:
    net = small_net(dataclasses.replace(SMALL, dropout=0.25))
    dropout = net.input_block[4]
    state = torch.get_rng_state()
    values = dropout(torch.ones(20_000))
    assert torch.equal(torch.get_rng_state(), state)
    assert values.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert values.mean().item() == pytest.approx(1.0, abs=0.02)
    assert not torch.equal(dropout(torch.ones(100)), dropout(torch.ones(100)))
    assert torch.equal(net.eval().input_block[4](torch.ones(9)), torch.ones(9))


def test_starting_weights_are_pytorch_s_and_follow_the_generator() -> None:
    first, again = (small_net(MetaUnlearn(hidden_size=64)) for _ in range(2))
    assert largest_difference(first.state_dict(), again.state_dict()) == 0
    theirs = nn.Linear(64, 64)
    ours = first.input_block[2]
    assert isinstance(ours, nn.Linear)
    assert ours.weight.std().item() == pytest.approx(theirs.weight.std().item(), rel=0.1)
    assert ours.bias.std().item() == pytest.approx(theirs.bias.std().item(), rel=0.4)
    assert first.embed.weight.std().item() == pytest.approx(1.0, rel=0.1)


def test_a_batch_without_any_attribute_scores_zero() -> None:
    assert batch_score(torch.zeros(3, 2), torch.zeros(3, 2), "multilabel") == 0.0


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_extra_terms_vanish_at_the_original_model_and_grow_away_from_it(task: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, NUM_OUTPUTS, generator=generator)
    labels = torch.zeros(6, dtype=torch.int64) if task == "multiclass" else (logits > 0).float()
    batch = Batch(inputs=logits, labels=labels, original=logits)
    group = BatchGroup(forget=batch, val=batch, retain=batch)

    def outer(**changes: Any) -> OuterLoss:
        return OuterLoss(method=MetaUnlearn(**changes), task=task)

    plain, with_val = (outer(val_weight=weight) for weight in (0.0, 1.0))

    def extra(shift: float) -> float:
        def predict(inputs: torch.Tensor) -> torch.Tensor:
            return inputs * (1 + shift)

        return (with_val(predict, group) - plain(predict, group)).item()

    assert extra(0.0) == pytest.approx(0.0, abs=1e-7)
    assert 0 < extra(0.2) < extra(0.5)
    held = outer(retain_weight=2.0)(lambda inputs: inputs, group)
    loss = outer(loss_type="original", use_accs=False, distance="l1")
    still = dataclasses.replace(
        batch, original=torch.full_like(logits, 1e4) * (2 * logits.gt(0) - 1)
    )
    if task == "multilabel":
        perfect = BatchGroup(forget=batch, val=still)
        # A perfectly predicted val batch has loss 0, so the distance is the forget loss itself.
        assert held.item() == pytest.approx(2 * loss(lambda inputs: inputs, perfect).item())


@pytest.mark.parametrize("parameters", ["layers", "classifier"])
def test_training_lowers_the_outer_loss(parameters: Any) -> None:
    problem = TinyProblem()
    model = tiny_model("vit").requires_grad_(False)
    view = ClassifierView() if parameters == "classifier" else NetworkView(model)
    features = FeaturesAndLogits(model)

    def batch(name: Any) -> Batch:
        data = problem.images(name)
        logits, seen = features(data.inputs())
        inputs = seen if parameters == "classifier" else data.inputs()
        return Batch(inputs=inputs, labels=data.labels, original=logits)

    pictures = batch("support")
    support = Support(
        inputs=pictures.inputs, labels=pictures.labels, index=problem.images("support").identities
    )
    trainer = MetaTrainer(
        view=view,
        start=moved_parameters(model, parameters),
        forget_net=small_net(dataclasses.replace(SMALL, dropout=0.0)),
        retain_net=None,
        outer=OuterLoss(method=MetaUnlearn(loss_type="scrub"), task="multilabel"),
        learning_rate=1e-2,
        step_size=0.1,
    )
    group = BatchGroup(forget=batch("forget"), val=batch("val"), retain=batch("retain"))
    values = [trainer.update(support, [group]) for _ in range(15)]
    assert values[-1] < values[0]


class Rehearsal:
    """A trainer's arguments, and a request: its support set, forget and val batch."""

    def __init__(self) -> None:
        problem, model = TinyProblem(), tiny_model("vit").requires_grad_(False)
        self.view, self.start = NetworkView(model), moved_parameters(model, "layers")
        self.method = dataclasses.replace(SMALL, dropout=0.0, loss_type="original")
        self.outer = OuterLoss(method=self.method, task="multilabel")
        sets = {name: problem.images(name) for name in ("support", "forget", "val")}
        batches = {
            name: Batch(inputs=data.inputs(), labels=data.labels, original=model(data.inputs()))
            for name, data in sets.items()
        }
        self.forget, self.val = batches["forget"], batches["val"]
        self.support = Support(
            inputs=batches["support"].inputs,
            labels=batches["support"].labels,
            index=sets["support"].identities,
        )

    def trainer(self, net: MetaLossNet, clip_norm: float = 0.0) -> MetaTrainer:
        return MetaTrainer(
            view=self.view,
            start=self.start,
            forget_net=net,
            retain_net=None,
            outer=self.outer,
            learning_rate=1e-2,
            step_size=0.1,
            clip_norm=clip_norm,
        )


def test_an_update_is_adam_s_with_amsgrad_and_without_decay() -> None:
    one = Rehearsal()
    # What amsgrad keeps is the large gradient of the first request; those of the others are small.
    near = BatchGroup(forget=one.val, val=one.val)
    requests = [[BatchGroup(forget=one.forget, val=one.val)], *[[near]] * 7]
    ours = small_net(one.method)
    trainer = one.trainer(ours)
    found = [trainer.update(one.support, groups) for groups in requests]
    apart = {}
    for amsgrad in (True, False):
        plain, values = small_net(one.method), []
        optimizer = torch.optim.Adam(plain.parameters(), lr=1e-2, amsgrad=amsgrad)
        for groups in requests:
            terms = forget_terms(one.view, one.outer, groups)
            step = meta_step(plain, one.view, one.start, one.support, terms, step_size=0.1)
            for name, parameter in plain.named_parameters():
                parameter.grad = step.gradients[name]
            optimizer.step()
            values.append(step.value)
        apart[amsgrad] = largest_difference(ours.state_dict(), plain.state_dict())
        if amsgrad:
            assert found == pytest.approx(values)
    assert apart[True] < 1e-6
    assert apart[False] > 1e-5


@pytest.mark.parametrize(("share", "left"), [(0.0, 1.0), (0.1, 0.1), (2.0, 1.0)])
def test_an_update_follows_the_clipped_gradient(share: float, left: float) -> None:
    one = Rehearsal()
    groups = [BatchGroup(forget=one.forget, val=one.val)]

    def followed(clip_norm: float) -> dict[str, torch.Tensor]:
        net = small_net(one.method)
        one.trainer(net, clip_norm).update(one.support, groups)
        return {name: it.grad for name, it in net.named_parameters() if it.grad is not None}

    whole = followed(0.0)
    norm = float(torch.stack([it.norm() for it in whole.values()]).norm())
    expected = {name: left * it for name, it in whole.items()}
    assert largest_difference(followed(share * norm), expected) < 1e-4 * norm


class Golden:
    """A golden case's networks, batches and the step's setting."""

    def __init__(self, case: GoldenCase) -> None:
        self.case = case
        self.expected = case.expected["meta_unlearn"]
        self.step_size: float = self.expected["hyper"]["meta_lr"]
        self.sizes = self.expected["hyper"]["batch_sizes"]
        self.split = case.json("split")
        model = case.model().requires_grad_(False)
        self.view = NetworkView(model)
        with torch.no_grad():
            self.logits = torch.cat([model(part) for part in torch.split(case.inputs, 64)])
        self.all = moved_parameters(model, "all")
        self.layers = moved_parameters(model, "layers")
        self.support = self.support_of(self.split["support"], self.split["forget"])

    def net(self, name: str = "metaloss", prefix: str = "") -> MetaLossNet:
        weights = self.case.tensors(name, prefix)
        num_blocks = 1 if "hidden_blocks.0.0.weight" in weights else 0
        net = make_net(
            num_outputs=self.logits.shape[1],
            num_features=24,
            num_identities=len(weights["embed.weight"]),
            method=MetaUnlearn(
                hidden_size=self.expected["hyper"]["hidden_size"],
                num_blocks=num_blocks,
                dropout=0.0,
            ),
            generator=torch.Generator(),
        )
        net.load_state_dict(weights)
        return net.eval()

    def support_of(self, rows: list[int], identities: list[int]) -> Support:
        index = [self.split["train"].index(identity) for identity in identities]
        return Support(
            inputs=self.case.inputs[rows],
            labels=self.case.labels[rows],
            index=torch.tensor(index),
        )

    def batch(self, rows: torch.Tensor) -> Batch:
        return Batch(
            inputs=self.case.inputs[rows],
            labels=self.case.labels[rows],
            original=self.logits[rows],
        )

    def groups(self, forget: torch.Tensor) -> list[BatchGroup]:
        others = [torch.split(self.case.rows(name), self.sizes[name]) for name in ("val", "retain")]
        parts = zip(torch.split(forget, self.sizes["forget"]), *others, strict=False)
        return [
            BatchGroup(forget=self.batch(f), val=self.batch(v), retain=self.batch(r))
            for f, v, r in parts
        ]

    def step(self, net: MetaLossNet, start: Parameters) -> Parameters:
        size = self.sizes["support"]
        inner = inner_gradient(net, self.view, start, self.support, chunk_size=size)
        return take_step(start, inner.parameters, self.step_size)

    def assert_unlearned(self, parameters: Parameters, tag: str) -> None:
        ours = self.case.model().state_dict() | parameters
        pair = self.case.pair(ours, "meta_unlearn", f"{tag}.")
        assert largest_difference(*pair) < 1e-6


@each_case
@pytest.mark.parametrize(
    ("name", "file", "prefix"),
    [
        ("forget", "metaloss", "forget."),
        ("retain", "metaloss", "retain."),
        ("one_block", "metaloss_1block", ""),
    ],
)
def test_the_learned_loss_is_the_reference_s(
    case: GoldenCase, name: str, file: str, prefix: str
) -> None:
    golden = Golden(case)
    net = golden.net(file, prefix)
    data = case.tensors("metaloss_forward")
    logits, features = golden.view({}, golden.support.inputs)
    torch.testing.assert_close(logits, data["support_logits"], rtol=0, atol=2e-6)
    torch.testing.assert_close(features, data["support_cls_feature"], rtol=0, atol=2e-6)
    assert torch.equal(golden.support.index, data["identity_index"])
    value = net(
        data["support_logits"],
        data["support_cls_feature"],
        golden.support.labels,
        data["identity_index"],
    )
    torch.testing.assert_close(value, data[f"value.{name}"][:, 0], rtol=0, atol=1e-6)


@each_case
def test_the_unlearning_steps_are_the_reference_s(case: GoldenCase) -> None:
    golden = Golden(case)
    net = golden.net(prefix="forget.")
    inner = inner_gradient(net, golden.view, golden.all, golden.support, chunk_size=4)
    pair = case.pair(inner.parameters, "meta_unlearn", "inner_grad.")
    assert largest_difference(*pair) < 2e-6

    unlearned = golden.step(net, golden.layers)
    golden.assert_unlearned(unlearned, "unlearned")
    golden.assert_unlearned(golden.step(net, golden.all), "unlearned_allparams")
    golden.assert_unlearned(golden.step(net, unlearned), "unlearned_2steps")
    if case.task == "multilabel":
        repaired = golden.step(golden.net(prefix="retain."), unlearned)
        golden.assert_unlearned(repaired, "unlearned_use_retain")


BOTH = [
    *("full.smooth_l1", "full.l1", "full.l2", "full.smooth_l1.noaccs", "full.smooth_l1.allparams"),
    *("original.smooth_l1", "unlearned.smooth_l1", "rev.smooth_l1"),
    "full.smooth_l1.metaloss_1block",
]
VARIANTS = {"multilabel": [*BOTH, "scrub", "retain_step"], "multiclass": BOTH}


@pytest.mark.parametrize(
    ("case", "variant"),
    [
        pytest.param(case, variant, id=f"{variant}-{case.task}")
        for case in (MULTILABEL, MULTICLASS)
        for variant in VARIANTS[case.task]
    ],
)
def test_outer_losses_and_their_gradients_are_the_reference_s(
    case: GoldenCase, variant: str
) -> None:
    golden = Golden(case)
    groups = golden.groups(case.rows("forget"))
    values = golden.expected["outer_loss"]
    assert sorted(values) == sorted(VARIANTS[case.task])
    net, start = golden.net(prefix="forget."), golden.layers
    loss_type, *options = variant.split(".")
    if variant == "retain_step":
        start = golden.step(net, start)
        net = golden.net(prefix="retain.")
        terms = retain_terms(golden.view, case.task, groups)
    else:
        net = golden.net("metaloss_1block") if "metaloss_1block" in options else net
        start = golden.all if "allparams" in options else start
        distance = next((name for name in ("l1", "l2") if name in options), "smooth_l1")
        method = MetaUnlearn(
            loss_type=loss_type,  # type: ignore[arg-type]
            distance=distance,  # type: ignore[arg-type]
            use_accs="noaccs" not in options,
        )
        outer = OuterLoss(method=method, task=case.task)
        terms = forget_terms(golden.view, outer, groups)
    step = meta_step(
        net, golden.view, start, golden.support, terms, step_size=golden.step_size, chunk_size=4
    )
    assert step.value == pytest.approx(values[variant], abs=1e-6)
    if "metaloss_1block" not in options:  # of it, the value alone is known
        stored = case.tensors("meta_unlearn", f"outer_grad.{variant}.")
        # Those of other variants may begin alike.
        theirs = {name: stored[name] for name, _ in net.named_parameters() if name in stored}
        assert theirs.keys() == step.gradients.keys() or case.is_cut("meta_unlearn")
        ours = {name: step.gradients[name] for name in theirs}
        largest = max(gradient.abs().max().item() for gradient in theirs.values())
        assert largest_difference(ours, theirs) < 2e-5 * largest


@each_case
def test_an_epoch_of_training_is_the_reference_s(case: GoldenCase) -> None:
    golden = Golden(case)
    hyper = golden.expected["metatrain_hyper"]
    net = golden.net(prefix="forget.").train()
    trainer = MetaTrainer(
        view=golden.view,
        start=golden.layers,
        forget_net=net,
        retain_net=None,
        outer=OuterLoss(method=MetaUnlearn(), task=case.task),
        learning_rate=hyper["lr"],
        step_size=golden.step_size,
    )
    for request in case.json("simulated_requests")["requests"]:
        support = golden.support_of(request["support"], request["identities"])
        trainer.update(support, golden.groups(torch.tensor(request["forget"])))
    pair = case.pair(net.state_dict(), "meta_unlearn", "metatrain_epoch1.metaloss.")
    assert largest_difference(*pair) < 5e-5
