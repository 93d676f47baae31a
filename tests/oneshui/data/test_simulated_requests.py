from __future__ import annotations

import numpy as np
import pytest
import torch
from support.golden import GoldenCase, each_case
from support.tiny import TinyProblem, tiny_model

from oneshui.data.simulated_requests import SimulatedRequest, retained, simulate_requests
from oneshui.data.splits import images_by_identity, make_split
from oneshui.errors import InputError
from oneshui.methods.metaunlearn.sampler import RequestSampler, make_pool
from oneshui.training.models import FeaturesAndLogits

IMAGES = {identity: list(range(10 * identity, 10 * identity + 4)) for identity in range(7)}


def test_every_identity_asks_once_and_the_last_group_is_filled_up() -> None:
    requests = simulate_requests(range(7), IMAGES, num_forget=3, seed=0)
    asked = [identity for request in requests for identity in request.identities]
    assert [len(request.identities) for request in requests] == [3, 3, 3]
    assert sorted(asked[:7]) == list(range(7))
    assert asked[7:] == asked[:2]


def test_support_and_forget_share_the_images_of_an_identity() -> None:
    for request in simulate_requests(range(7), IMAGES, num_forget=2, seed=1):
        for identity, chosen in zip(request.identities, request.support, strict=True):
            others = [image for image in request.forget if image // 10 == identity]
            assert sorted([chosen, *others]) == IMAGES[identity]


def test_excluded_images_are_never_used() -> None:
    requests = simulate_requests(range(7), IMAGES, num_forget=3, seed=0, exclude=[0, 21])
    used = {image for request in requests for image in request.support + request.forget}
    assert not used & {0, 21}
    assert len(used) == 26


def test_a_single_image_is_support_and_forget_image_and_no_image_is_nobody() -> None:
    images = {**IMAGES, 0: [5], 1: []}
    requests = simulate_requests(range(7), images, num_forget=3, seed=0)
    assert len(requests) == 2
    for request in requests:
        assert 1 not in request.identities
        if 0 in request.identities:
            assert request.support[request.identities.index(0)] == 5
            assert 5 in request.forget


def test_requests_follow_the_seed() -> None:
    first, again, other = (
        simulate_requests(range(7), IMAGES, num_forget=3, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("num_forget", [0, -1, 7, 8])
def test_impossible_sizes_are_refused(num_forget: int) -> None:
    with pytest.raises(InputError, match=f"simulated requests of {num_forget} identities"):
        simulate_requests(range(7), IMAGES, num_forget=num_forget, seed=0)


def sampler(batch_size: int, *, with_retain: bool, keep_features: bool) -> RequestSampler:
    problem, model = TinyProblem(), tiny_model("vit")
    train, val = (
        make_pool(
            model,
            problem.images(name),
            torch.device("cpu"),
            keep_logits=name == "val",
            keep_features=keep_features,
        )
        for name in ("train", "val")
    )
    return RequestSampler(
        train=train,
        val=val,
        train_identities=problem.split.train,
        batch_size=batch_size,
        with_retain=with_retain,
        generator=torch.Generator().manual_seed(0),
    )


@pytest.mark.parametrize("keep_features", [True, False])
def test_batches_are_those_of_the_request(keep_features: bool) -> None:
    problem, model = TinyProblem(), tiny_model("vit")
    train = problem.images("train")
    drawn = sampler(4, with_retain=True, keep_features=keep_features)
    request = simulate_requests(problem.split.train, drawn.images, num_forget=3, seed=0)[0]
    support, groups = drawn.sample(request)

    def inputs(positions: tuple[int, ...]) -> torch.Tensor:
        pictures = train.inputs(torch.tensor(positions))
        if not keep_features:
            return pictures
        with torch.no_grad():
            features: torch.Tensor = FeaturesAndLogits(model)(pictures)[1]
        return features

    torch.testing.assert_close(support.inputs, inputs(request.support))
    assert [problem.split.train[i] for i in support.index] == list(request.identities)
    torch.testing.assert_close(
        torch.cat([group.forget.inputs for group in groups]), inputs(request.forget)
    )
    assert len(groups) == -(-len(request.forget) // 4)
    assert all(group.val.original is not None and group.retain is not None for group in groups)


def test_val_batches_wrap_around_and_do_not_repeat_before() -> None:
    drawn = sampler(3, with_retain=False, keep_features=False)
    problem = TinyProblem()
    num_val = len(problem.images("val"))
    everybody = SimulatedRequest(
        identities=problem.split.train[:1],
        support=(0,),
        forget=tuple(range(len(problem.images("train")))),
    )
    _, groups = drawn.sample(everybody)
    num_batches = -(-num_val // 3)
    assert len(groups) > num_batches
    first_pass = torch.cat([group.val.inputs for group in groups[:num_batches]])
    assert len(torch.unique(first_pass.flatten(1), dim=0)) == num_val
    assert torch.equal(groups[num_batches].val.inputs, groups[0].val.inputs)
    assert groups[0].retain is None


@each_case
def test_simulated_requests_are_the_reference_s(case: GoldenCase) -> None:
    expected, split = case.json("simulated_requests"), case.json("split")
    identity = case.identities.numpy()
    everybody = sorted(set(identity.tolist()))
    requests = simulate_requests(
        split["train"],
        images_by_identity(identity, everybody),
        num_forget=expected["num_ids"],
        seed=expected["python_random_seed"],
        exclude=split["support"],
    )
    usable = np.setdiff1d(np.flatnonzero(np.isin(identity, split["train"])), split["support"])
    assert len(requests) == len(expected["requests"])
    for ours, theirs in zip(requests, expected["requests"], strict=True):
        assert list(ours.identities) == theirs["identities"]
        assert list(ours.support) == theirs["support"]
        assert list(ours.forget) == theirs["forget"]
        assert usable[retained(identity[usable], ours)].tolist() == theirs["retain"]


@each_case
def test_the_split_that_requests_come_from_is_the_reference_s(case: GoldenCase) -> None:
    meta, expected, subsets = case.json("case"), case.json("split"), case.json("subsets")
    identity = case.identities.numpy()
    in_order = dict.fromkeys(identity.tolist())
    order = list(in_order) if meta["identity_map"] == "dict" else range(identity.max() + 1)
    split = make_split(
        identity, order, num_forget=meta["num_identities"], seed=meta["split_python_random_seed"]
    )
    for name in ("train", "val", "test", "forget", "retain"):
        ours = getattr(split, name)
        assert sorted(ours) == sorted(expected[name])
        if name != "retain":
            assert list(ours) == expected[name]
    assert list(split.support) == expected["support"]
    for name, rows in subsets.items():
        assert split.images(name).tolist() == (rows if name == "support" else sorted(rows))
