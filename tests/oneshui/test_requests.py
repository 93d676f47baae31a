from __future__ import annotations

import itertools

import torch
from support.tiny import TinyProblem


def test_a_request_has_another_generator_for_every_seed_and_purpose() -> None:
    request = TinyProblem().prepare_request
    states = [
        tuple(request(seed=seed).generator(purpose).get_state().tolist())
        for seed, purpose in itertools.product((7, 8), ("jit noise", "ssd order"))
    ]
    assert len(set(states)) == 4
    again = request(seed=7).generator("jit noise").get_state()
    assert tuple(again.tolist()) == states[0]


def test_a_support_set_is_normalised_like_the_images_that_were_trained_on() -> None:
    problem = TinyProblem()
    support = problem.unlearn_request().support
    assert torch.equal(support.inputs(), problem.images("support").inputs())
    expected = support.images.double() / 127.5 - 1
    torch.testing.assert_close(support.inputs().double(), expected, rtol=0, atol=1e-6)
