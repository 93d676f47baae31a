"""Learning again: who is taught with what, that steps are the training's, and what is asked."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from support.tiny import TinyProblem, tiny_model
from torch import nn

from oneshui.audits import relearning
from oneshui.audits.hiding import TIMES
from oneshui.audits.relearning import curve_of, lessons, relearn, resampled_heights
from oneshui.data.images import LabelledImages, make_images
from oneshui.metrics.resampling import draws
from oneshui.metrics.scores import accuracy, mean_average_precision
from oneshui.spec import TrainingSpec
from oneshui.training.losses import task_loss

CPU = torch.device("cpu")
RECIPE = TrainingSpec(
    epochs=1,
    warmup_epochs=0,
    batch_size=4,
    optimizer="adamw",
    learning_rate=1e-2,
    weight_decay=0.1,
    clip_norm=0.5,
    augmentation="crop",
)


def people(*pictures: int) -> LabelledImages:
    """So many pictures of each person; identities from 10 on."""
    identity = np.repeat(np.arange(10, 10 + len(pictures)), pictures)
    pixels = np.zeros((len(identity), 3, 8, 8), dtype=np.uint8)
    return make_images(pixels, identity % 3, identity, np.arange(len(identity)))


def of(data: LabelledImages, person: int) -> set[int]:
    return set(data.rows[data.identities.numpy() == person].tolist())


def test_nobody_is_taught_with_more_than_half_of_their_pictures_and_all_others_are_asked() -> None:
    forget, support = people(1, 2, 5, 12), people(1, 1, 1, 1)
    drawn = lessons(forget, support, seed=3)
    assert {name: len(one) for name, one in drawn.taught.items()} == {
        "1": 0 + 1 + 1 + 1,
        "5": 0 + 1 + 2 + 5,
        "support": 4,
    }
    assert drawn.taught["support"] is support
    for person in range(10, 14):
        one, five, asked = (
            of(data, person) for data in (drawn.taught["1"], drawn.taught["5"], drawn.asked)
        )
        assert one <= five
        assert not five & asked
        assert five | asked == of(forget, person)


def test_who_is_taught_with_what_depends_on_the_seed_and_the_person_alone() -> None:
    first, same, other = (lessons(people(12, 12, 12), people(1), seed) for seed in (3, 3, 4))
    assert first.taught["5"].rows.tolist() == same.taught["5"].rows.tolist()
    assert first.taught["5"].rows.tolist() != other.taught["5"].rows.tolist()
    assert of(lessons(people(12, 12), people(1), 3).taught["5"], 11) == of(first.taught["5"], 11)


@pytest.fixture
def problem() -> TinyProblem:
    return TinyProblem()


def asked_of(problem: TinyProblem) -> tuple[LabelledImages, LabelledImages]:
    drawn = lessons(problem.images("forget"), problem.images("support"), 0)
    return drawn.taught["1"], problem.images("test")


def answered(
    problem: TinyProblem,
    model: nn.Module,
    taught: LabelledImages,
    asked: LabelledImages,
    *,
    seed: int = 0,
    recipe: TrainingSpec = RECIPE,
) -> list[torch.Tensor | None]:
    return relearn(model, taught, asked, recipe, task=problem.task, seed=seed, device=CPU)


def test_the_model_itself_stays_as_it_is(problem: TinyProblem) -> None:
    model = tiny_model("vit").train()
    before = copy.deepcopy(model.state_dict())
    answered(problem, model, *asked_of(problem))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training


def test_steps_are_those_of_the_recipe_s_optimiser_at_a_tenth_of_its_rate(
    problem: TinyProblem,
) -> None:
    model = tiny_model("vit")
    taught, asked = asked_of(problem)
    assert len(taught) <= RECIPE.batch_size, "then the order does not matter"
    by_hand = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=1e-3, weight_decay=0.1)
    expected = []
    for step in range(max(TIMES) + 1):
        if step in TIMES:
            with torch.no_grad():
                expected.append(by_hand(asked.inputs()))
        optimizer.zero_grad()
        task_loss(by_hand(taught.inputs()), taught.labels, "multilabel").backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(by_hand.parameters(), 0.5)
        optimizer.step()
    found = answered(problem, model, taught, asked)
    for own, other in zip(found, expected, strict=True):
        assert own is not None
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4)
    assert found[0] is not None
    assert found[-1] is not None
    assert not torch.allclose(found[0], found[-1], atol=1e-2)


def test_statistics_of_layers_stay_as_in_use() -> None:
    problem = TinyProblem(network="batchnorm")
    taught, asked = asked_of(problem)
    model = tiny_model("batchnorm")
    # Trained in the other mode, a batch of a single picture would be a picture of zeros.
    alone = taught.select(np.arange(1))
    in_use, trained = (answered(problem, one, alone, asked) for one in (model, model.train()))
    assert not any(one is None for one in in_use)
    for own, other in zip(in_use, trained, strict=True):
        assert own is not None
        assert other is not None
        assert torch.equal(own, other)
    assert in_use[0] is not None
    assert in_use[1] is not None
    assert not torch.equal(in_use[0], in_use[1])


def test_a_batch_holds_everybody_before_anybody_twice(
    problem: TinyProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught, asked = problem.images("forget"), problem.images("test")
    seen: list[list[float]] = []

    def listened(logits: torch.Tensor, labels: torch.Tensor, task: str) -> torch.Tensor:
        del task
        seen.append([float(one) for one in labels[:, 0]])
        return (logits * 0).sum()

    numbered = dataclasses.replace(
        taught, labels=torch.arange(len(taught), dtype=torch.float32)[:, None].expand(-1, 5)
    )
    monkeypatch.setattr(relearning, "task_loss", listened)
    answered(problem, tiny_model("vit"), numbered, asked)
    assert len(taught) == 9
    assert [len(batch) for batch in seen[:6]] == [4, 4, 1, 4, 4, 1]
    assert len(seen) == max(TIMES)
    rounds = [
        [one for batch in seen[place : place + 3] for one in batch] for place in range(0, 30, 3)
    ]
    assert all(sorted(one) == list(range(9)) for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1


def test_the_order_depends_on_the_seed_and_is_the_same_for_every_model(
    problem: TinyProblem,
) -> None:
    taught, asked = problem.images("forget"), problem.images("test")
    model = tiny_model("vit")
    first, same, other = (
        answered(problem, model, taught, asked, seed=seed)[-1] for seed in (1, 1, 2)
    )
    assert first is not None
    assert same is not None
    assert other is not None
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_scores_are_those_of_the_task(problem: TinyProblem) -> None:
    taught, asked = asked_of(problem)
    answers = answered(problem, tiny_model("vit"), taught, asked)
    for answer, value in zip(answers, curve_of(answers, asked, "multilabel"), strict=True):
        assert value == mean_average_precision(answer, asked.labels)
    classes = TinyProblem(task="multiclass")
    taught, asked = asked_of(classes)
    answers = answered(classes, tiny_model("vit"), taught, asked)
    for answer, value in zip(answers, curve_of(answers, asked, "multiclass"), strict=True):
        assert value == accuracy(answer, asked.labels)


def test_a_model_that_leaves_the_finite_numbers_says_nothing_from_there_on(
    problem: TinyProblem,
) -> None:
    taught, asked = asked_of(problem)
    wild = dataclasses.replace(RECIPE, learning_rate=1e30, clip_norm=0.0, optimizer="sgd")
    answers = answered(problem, tiny_model("vit"), taught, asked, recipe=wild)
    assert answers[0] is not None
    assert answers[-1] is None
    curve = curve_of(answers, asked, "multilabel")
    assert [one is None for one in curve] == [one is None for one in answers]
    assert resampled_heights(answers, asked, "multilabel") is None


def test_of_a_lesson_without_pictures_only_the_beginning_is_known(problem: TinyProblem) -> None:
    taught, asked = asked_of(problem)
    nothing = taught.select(np.empty(0, dtype=np.int64))
    answers = answered(problem, tiny_model("vit"), nothing, asked)
    assert [one is None for one in answers] == [False, *[True] * (len(TIMES) - 1)]


def test_people_without_any_attribute_have_no_score(problem: TinyProblem) -> None:
    taught, asked = asked_of(problem)
    bare = dataclasses.replace(asked, labels=torch.zeros_like(asked.labels))
    answers = answered(problem, tiny_model("vit"), taught, bare)
    assert curve_of(answers, bare, "multilabel") == [None] * len(TIMES)
    heights = resampled_heights(answers, bare, "multilabel")
    assert heights is not None
    assert set(heights) == {None}


def test_resampled_heights_are_those_of_tables_that_hold_people_as_often_as_they_are_drawn(
    problem: TinyProblem,
) -> None:
    taught, asked = asked_of(problem)
    answers = answered(problem, tiny_model("vit"), taught, asked)
    found = resampled_heights(answers, asked, "multilabel")
    counts = draws(asked.identities, "relearn")
    assert found is not None
    assert counts is not None
    assert len(found) == len(counts)
    for number in (0, 1, 99):
        rows = np.repeat(np.arange(len(asked)), counts[number])
        scores = []
        for answer in answers:
            assert answer is not None
            scores.append(mean_average_precision(answer[rows], asked.labels[rows]))
        steps = np.diff(TIMES)
        expected = (steps * (np.array(scores[1:]) + np.array(scores[:-1])) / 2).sum() / TIMES[-1]
        assert found[number] == pytest.approx(expected)


def test_a_single_person_cannot_be_drawn_again(problem: TinyProblem) -> None:
    taught, asked = asked_of(problem)
    alone = asked.select(np.flatnonzero(asked.identities.numpy() == int(asked.identities[0])))
    answers = answered(problem, tiny_model("vit"), taught, alone)
    assert resampled_heights(answers, alone, "multilabel") is None
