"""Which images a simulated request's batches hold, and in which order."""

from __future__ import annotations

import pytest
import torch
from support.tiny import TinyProblem, tiny_model

from oneshui.data.simulated_requests import SimulatedRequest, simulate_requests
from oneshui.methods.metaunlearn.objective import Batch
from oneshui.methods.metaunlearn.sampler import ImagePool, RequestSampler, make_pool

CPU = torch.device("cpu")
PROBLEM = TinyProblem()
SIZE = 5


def sampler(*, with_retain: bool = True, val: ImagePool | None = None) -> RequestSampler:
    train = PROBLEM.images("train")
    return RequestSampler(
        train=ImagePool(data=train, device=CPU),
        val=val or ImagePool(data=PROBLEM.images("val"), device=CPU),
        train_identities=PROBLEM.split.train,
        batch_size=SIZE,
        with_retain=with_retain,
        generator=torch.Generator().manual_seed(0),
    )


def request_of(one: RequestSampler, size: int = 3) -> SimulatedRequest:
    return simulate_requests(PROBLEM.split.train, one.images, num_forget=size, seed=0)[0]


def positions(batches: list[Batch], name: str) -> list[int]:
    """Where in the set the batches' pictures are."""
    pictures = PROBLEM.images(name).inputs()  # type: ignore[arg-type]
    return [
        next(place for place, other in enumerate(pictures) if torch.equal(picture, other))
        for batch in batches
        for picture in batch.inputs
    ]


def test_batches_hold_the_request_s_images_and_those_it_leaves_alone() -> None:
    own = sampler()
    request = request_of(own)
    support, groups = own.sample(request)
    assert positions([Batch(inputs=support.inputs, labels=support.labels)], "train") == [
        *request.support
    ]
    order = [PROBLEM.split.train.index(identity) for identity in request.identities]
    assert support.index.tolist() == order
    assert positions([group.forget for group in groups], "train") == [*request.forget]
    assert all(len(group.forget.inputs) == SIZE for group in groups[:-1])
    identities = PROBLEM.images("train").identities.tolist()
    retained = [group.retain for group in groups if group.retain is not None]
    assert len(retained) == len(groups)
    for place in positions(retained, "train"):
        assert identities[place] not in request.identities


def test_val_and_retain_images_are_shuffled_for_every_request_and_begin_again() -> None:
    own = sampler()
    request = request_of(own, size=9)
    count = len(PROBLEM.images("val"))
    per_pass = -(-count // SIZE)
    orders = []
    for _ in range(2):
        _, groups = own.sample(request)
        assert len(groups) > per_pass
        order = positions([group.val for group in groups], "val")
        assert sorted(order[:count]) == list(range(count))
        assert order[count:] == order[: len(order) - count]
        orders.append((order, positions([g.retain for g in groups if g.retain], "train")))
    for first, second in zip(*orders, strict=True):
        assert first != second
        assert first != sorted(first)


def test_retain_batches_are_drawn_if_asked_for_only() -> None:
    own = sampler(with_retain=False)
    assert all(group.retain is None for group in own.sample(request_of(own))[1])


@pytest.mark.parametrize("keep_features", [False, True])
def test_a_pool_keeps_what_the_model_says_of_its_images(keep_features: bool) -> None:
    model, data = tiny_model("vit"), PROBLEM.images("val")
    pool = make_pool(model, data, CPU, keep_logits=True, keep_features=keep_features, batch_size=4)
    chosen = torch.tensor([4, 0, 7])
    batch = pool.batch(chosen)
    with torch.no_grad():
        expected = model(data.inputs(chosen))
        seen = model.forward_head(model.forward_features(data.inputs(chosen)), pre_logits=True)  # type: ignore[operator]
    torch.testing.assert_close(batch.original_logits(), expected, rtol=0, atol=1e-5)
    wanted = seen if keep_features else data.inputs(chosen)
    torch.testing.assert_close(batch.inputs, wanted, rtol=0, atol=1e-5)
    assert torch.equal(batch.labels, data.labels[chosen])
