"""Augmented views: the same for every model, and cheap to check by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from support.tiny import TinyProblem

from oneshui.attacks.views import predict_views, sample
from oneshui.data.images import LabelledImages
from oneshui.errors import NumericalError
from oneshui.training.losses import sample_losses
from oneshui.training.predict import predict

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def problem() -> TinyProblem:
    return TinyProblem("convnext")


def losses_of(frame: pd.DataFrame) -> np.ndarray:
    return np.stack(frame["losses"].to_list())


def look(problem: TinyProblem, data: LabelledImages, seed: int = 1, views: int = 4) -> pd.DataFrame:
    model = problem.full_request().fresh_model
    return predict_views(
        model, {"test": data}, task="multilabel", views=views, seed=seed, device=CPU
    )


def test_view_0_is_the_picture_and_view_1_its_mirror_image(problem: TinyProblem) -> None:
    data = problem.images("test")
    model = problem.full_request().fresh_model
    frame = look(problem, data)
    plain = predict(model, {"test": data}, task="multilabel", device=CPU)
    assert frame[["set", "image", "identity"]].equals(plain[["set", "image", "identity"]])
    np.testing.assert_allclose(losses_of(frame)[:, 0], plain["loss"], atol=1e-6)
    with torch.no_grad():
        mirrored = sample_losses(model(data.inputs().flip(-1)), data.labels, "multilabel")
    np.testing.assert_allclose(losses_of(frame)[:, 1], mirrored.numpy(), atol=1e-6)


def test_a_crop_depends_on_the_picture_and_the_seed_alone(problem: TinyProblem) -> None:
    data = problem.images("test")
    whole, part = look(problem, data), look(problem, data.select(np.array([3, 1])))
    np.testing.assert_allclose(losses_of(part), losses_of(whole)[[3, 1]], atol=1e-6)
    other = losses_of(look(problem, data, seed=2))
    assert (other[:, 2:] != losses_of(whole)[:, 2:]).any()
    np.testing.assert_array_equal(other[:, :2], losses_of(whole)[:, :2])


def test_every_further_view_is_another_crop(problem: TinyProblem) -> None:
    losses = losses_of(look(problem, problem.images("test"), views=5))
    for one in range(2, 5):
        for other in range(one):
            assert np.abs(losses[:, one] - losses[:, other]).max() > 1e-4


def test_a_sample_is_seeded_and_keeps_the_order(problem: TinyProblem) -> None:
    data = problem.images("retain")
    drawn = sample(data, 5, seed=0)
    assert len(drawn) == 5
    assert (np.diff(drawn.rows) > 0).all()
    assert drawn.rows.tolist() == sample(data, 5, seed=0).rows.tolist()
    assert drawn.rows.tolist() != sample(data, 5, seed=1).rows.tolist()
    assert sample(data, 10**6, seed=0) is data


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_one_loss_that_is_not_finite_is_an_error(problem: TinyProblem, number: float) -> None:
    model = problem.full_request().fresh_model
    model.register_forward_hook(lambda _, __, logits: logits.index_fill(0, torch.tensor(2), number))
    sets = {"test": problem.images("test")}
    with pytest.raises(NumericalError, match=f"views of 1 of {len(sets['test'])} images of the"):
        predict_views(model, sets, task="multilabel", views=2, seed=0, device=CPU)
