from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from reference.auc import auc_error
from reference.rmia import published_scores
from reference.rmia import reference_scores as slow_reference_scores
from support.golden import GoldenCase, each_case

from oneshui.attacks import rmia as rmia_module
from oneshui.attacks.rmia import (
    PUBLISHED_A,
    REFERENCE_AS,
    REFERENCE_GAMMAS,
    Signals,
    ratios,
    reference_scores,
    reference_tpr,
    rmia,
    tune_offline_a,
)
from oneshui.attacks.roc import auc
from oneshui.errors import InputError

VIEWS = 8
Parts = dict[str, Any]


def signals(
    generator: np.random.Generator, number: int, *, member: bool = False, models: int = 1
) -> Signals:
    """Images of varying difficulty; a memorising target has smaller losses on its members."""
    difficulty = generator.gamma(2.0, 0.5, size=number)
    of_model = generator.gamma(4.0, 0.25, size=(models + 1, 1, number))
    of_view = generator.gamma(20.0, 0.05, size=(models + 1, VIEWS, number))
    losses = (difficulty * of_model * of_view).astype(np.float32)
    return Signals(target=losses[0] * (0.1 if member else 1.0), references=losses[1:])


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("models", [1, 3])
@pytest.mark.parametrize(("a", "gamma"), [(0.0, 1.0), (0.3, 1.0), (1.0, 2.0)])
def test_scores_are_their_definition_pair_by_pair(
    generator: np.random.Generator, models: int, a: float, gamma: float
) -> None:
    x, other, z = (signals(generator, n, models=models) for n in (5, 4, 7))
    attack = rmia(forget=x, nonmembers=other, population=z, a=a, gamma=gamma)
    for part, ours in ((x, attack.forget_scores), (other, attack.nonmember_scores)):
        expected = published_scores(part.target, part.references, z.target, z.references, a, gamma)
        np.testing.assert_allclose(ours, expected, atol=1e-12)
    assert (attack.a, attack.gamma) == (a, gamma)


def test_images_no_more_likely_than_the_population_beat_none_of_it() -> None:
    same = Signals(target=np.full((VIEWS, 3), 0.5), references=np.ones((1, VIEWS, 3)))
    attack = rmia(forget=same, nonmembers=same, population=same)
    assert attack.forget_scores.tolist() == attack.nonmember_scores.tolist() == [0.0] * 3


def test_the_reference_keeps_the_first_of_its_best_points_with_gamma_outermost(
    generator: np.random.Generator,
) -> None:
    def first_best(grid: list[tuple[float, float]], parts: Parts) -> tuple[float, float]:
        tprs = {}
        for gamma, a in grid:
            members, others = (
                reference_scores(parts[name], parts["population"], a=a, gammas=(gamma,))[0]
                for name in ("forget", "nonmembers")
            )
            tprs[gamma, a] = reference_tpr(members, others)
        return max(tprs, key=lambda point: tprs[point])

    by_gamma = [(gamma, a) for gamma in REFERENCE_GAMMAS for a in REFERENCE_AS]
    differing = 0
    for _ in range(40):
        parts: Parts = {"forget": signals(generator, 12), "nonmembers": signals(generator, 3)}
        parts["forget"] = replace(parts["forget"], target=parts["forget"].target * 0.5)
        parts["population"] = signals(generator, 12)
        attack = rmia(**parts, variant="reference")
        assert (attack.gamma, attack.a) == first_best(by_gamma, parts)
        by_a = sorted(by_gamma, key=lambda point: point[1])
        differing += first_best(by_a, parts) != (attack.gamma, attack.a)
    assert differing > 0


def test_the_reference_s_scores_are_their_definition_vote_by_vote(
    generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, z = signals(generator, 5), signals(generator, 7)
    monkeypatch.setattr(rmia_module, "_COMPARISONS_AT_ONCE", 14)
    ours = reference_scores(x, z, a=0.3)
    for number, gamma in enumerate(REFERENCE_GAMMAS):
        expected = slow_reference_scores(
            x.target, x.references[0], z.target, z.references[0], 0.3, gamma
        )
        np.testing.assert_allclose(ours[number], expected, atol=1e-12)


def test_a_memorising_model_is_found_out_and_a_retrained_one_is_not(
    generator: np.random.Generator,
) -> None:
    population, nonmembers = signals(generator, 400), signals(generator, 400)
    found = rmia(
        forget=signals(generator, 100, member=True), nonmembers=nonmembers, population=population
    )
    assert found.auc > 0.9
    assert set(found.tpr) == {0.1}
    clean = rmia(forget=signals(generator, 100), nonmembers=nonmembers, population=population)
    assert clean.auc == pytest.approx(0.5, abs=2 * auc_error(100, 400))


def test_more_reference_models_attack_better(generator: np.random.Generator) -> None:
    forget, nonmembers, population = (signals(generator, 600, models=8) for _ in range(3))
    forget = replace(forget, target=forget.target * 0.6)

    def area(models: int) -> float:
        parts = {"forget": forget, "nonmembers": nonmembers, "population": population}
        few: Parts = {n: replace(p, references=p.references[:models]) for n, p in parts.items()}
        return rmia(**few).auc

    assert area(8) > area(1) + 0.01 > 0.6


@pytest.mark.parametrize("variant", ["corrected", "reference"])
def test_the_order_of_images_changes_nothing(
    generator: np.random.Generator, variant: Literal["corrected", "reference"]
) -> None:
    parts: Parts = {n: signals(generator, 30) for n in ("forget", "nonmembers", "population")}
    expected = rmia(**parts, variant=variant)
    for name, part in parts.items():
        order = generator.permutation(30)
        parts[name] = Signals(target=part.target[:, order], references=part.references[:, :, order])
    shuffled = rmia(**parts, variant=variant)
    assert (shuffled.auc, shuffled.tpr) == (expected.auc, expected.tpr)


def test_models_that_saw_an_image_do_not_count_for_it(generator: np.random.Generator) -> None:
    x, other, z = (signals(generator, n, models=3) for n in (5, 4, 7))
    saw_half = np.ones((3, 5), dtype=bool)
    saw_half[2] = False
    masked = rmia(forget=replace(x, out=saw_half), nonmembers=other, population=z)
    assert not np.array_equal(
        masked.forget_scores, rmia(forget=x, nonmembers=other, population=z).forget_scores
    )
    expected = [
        published_scores(
            x.target[:, [i]], x.references[:2, :, [i]], z.target, z.references, PUBLISHED_A, 1.0
        )[0]
        for i in range(5)
    ]
    np.testing.assert_allclose(masked.forget_scores, expected, atol=1e-12)


def test_a_ratio_is_1_where_the_target_agrees_with_the_mixture() -> None:
    assert ratios(np.array([0.5]), np.array([0.5]), 1.0) == 1.0
    assert ratios(np.array([0.575]), np.array([0.5]), 0.7) == pytest.approx(1.0)
    with pytest.raises(InputError, match="one reference value"):
        ratios(np.ones(2), np.ones(3), 0.3)
    for a in (-0.1, 1.1, np.nan):
        with pytest.raises(InputError, match="must be in"):
            ratios(np.ones(2), np.ones(2), a)


def test_losses_too_large_for_a_probability_are_no_members(
    generator: np.random.Generator,
) -> None:
    hopeless = Signals(
        target=np.full((VIEWS, 3), 2000.0), references=np.full((1, VIEWS, 3), 2000.0)
    )
    parts: Parts = {"nonmembers": signals(generator, 9), "population": signals(generator, 9)}
    for a in (0.0, 1.0):
        assert rmia(forget=hopeless, **parts, a=a).forget_scores.max() == 0.0


def test_a_is_tuned_on_the_paired_model_alone(generator: np.random.Generator) -> None:
    parts: Parts = {
        "members": signals(generator, 200, member=True),
        "nonmembers": signals(generator, 200),
        "population": signals(generator, 200),
    }
    tuned = tune_offline_a(**parts)
    assert len(tuned.aucs) == 11
    assert tuned.aucs[tuned.a] == max(tuned.aucs.values())
    for a, area in tuned.aucs.items():
        attack = rmia(
            forget=parts["members"],
            nonmembers=parts["nonmembers"],
            population=parts["population"],
            a=a,
        )
        assert area == attack.auc


def test_of_equally_good_candidates_the_published_one_is_taken() -> None:
    same = Signals(target=np.ones((VIEWS, 3)), references=np.ones((1, VIEWS, 3)))
    assert tune_offline_a(members=same, nonmembers=same, population=same).a == PUBLISHED_A
    with pytest.raises(InputError, match="without a candidate"):
        tune_offline_a(members=same, nonmembers=same, population=same, candidates=())


def test_a_reference_model_becomes_the_target_of_its_pair(
    generator: np.random.Generator,
) -> None:
    x = replace(signals(generator, 4, models=3), out=np.ones((3, 4), dtype=bool))
    pair = x.paired(1)
    np.testing.assert_array_equal(pair.target, x.references[1])
    np.testing.assert_array_equal(pair.references, x.references[[0, 2]])
    assert pair.out is not None
    assert pair.out.shape == (2, 4)
    with pytest.raises(InputError, match="at least two"):
        signals(generator, 4).paired(0)


@pytest.mark.parametrize(
    ("target", "references", "message"),
    [
        (np.zeros(3), np.zeros((1, 3)), r"needs \[views, n\]"),
        (np.zeros((2, 3)), np.zeros((1, 2, 4)), r"needs \[views, n\]"),
        (np.zeros((2, 0)), np.zeros((1, 2, 0)), "at least one"),
        (np.zeros((2, 3)), np.zeros((0, 2, 3)), "at least one reference"),
        (np.full((2, 3), np.nan), np.zeros((1, 2, 3)), "6 of 6 losses of the target"),
        (np.zeros((2, 3)), np.full((1, 2, 3), -0.5), "6 of 6 losses of the reference"),
    ],
)
def test_unusable_losses_are_refused(
    target: npt.NDArray[Any], references: npt.NDArray[Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Signals(target=target, references=references)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.ones((2, 3), dtype=bool), "mask of the models"),
        (np.ones((1, 3)), "mask of the models"),
        (np.array([[True, False, True]]), "1 of 3 images were seen by all"),
    ],
)
def test_unusable_masks_are_refused(out: npt.NDArray[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Signals(target=np.zeros((2, 3)), references=np.zeros((1, 2, 3)), out=out)


def test_sets_of_different_models_and_impossible_gammas_are_refused(
    generator: np.random.Generator,
) -> None:
    one, two = signals(generator, 4), signals(generator, 4, models=2)
    with pytest.raises(InputError, match="all must have the same"):
        rmia(forget=one, nonmembers=one, population=two)
    for gamma in (0.0, -1.0, np.nan):
        with pytest.raises(InputError, match="gamma"):
            rmia(forget=one, nonmembers=one, population=one, gamma=gamma)


def test_only_the_reference_reports_zero_when_no_member_is_in_front() -> None:
    worst = Signals(target=np.full((VIEWS, 3), 9.0), references=np.ones((1, VIEWS, 3)))
    best = Signals(target=np.full((VIEWS, 9), 0.01), references=np.ones((1, VIEWS, 9)))
    mixed = np.tile(np.array([9.0, 0.01]), (VIEWS, 1))
    some = Signals(target=mixed, references=np.ones((1, VIEWS, 2)))
    attack = rmia(forget=worst, nonmembers=best, population=some, variant="reference")
    assert (attack.auc, attack.tpr) == (0.0, {1e-4: 0.0})


def test_a_loss_of_0_leaves_the_reference_s_scores_finite() -> None:
    for loss in (0.0, 1e-40):
        same = Signals(target=np.full((VIEWS, 3), loss), references=np.full((1, VIEWS, 3), loss))
        other = Signals(target=np.full((VIEWS, 3), loss), references=np.ones((1, VIEWS, 3)))
        attack = rmia(forget=same, nonmembers=other, population=other, variant="reference")
        assert np.isfinite(attack.forget_scores).all()


def golden_signals(case: GoldenCase, *names: str) -> Signals:
    losses = {k: v.numpy() for k, v in case.tensors("rmia", "loss.").items()}
    return Signals(
        target=np.concatenate([losses[f"{name}.target"] for name in names], axis=1),
        references=np.concatenate([losses[f"{name}.ref"] for name in names], axis=1)[None],
    )


@each_case
def test_the_reference_s_grid_and_choice_are_the_authors(case: GoldenCase) -> None:
    forget, val = golden_signals(case, "forget"), golden_signals(case, "val")
    population = golden_signals(case, "train", "val")
    expected = case.expected["rmia"]
    grid = {(point["gamma"], point["a"]): point for point in expected["grid"]}
    theirs = case.tensors("rmia", "score.")
    for a in REFERENCE_AS:
        members, others = (reference_scores(part, population, a=a) for part in (forget, val))
        for number, gamma in enumerate(REFERENCE_GAMMAS):
            ours = np.concatenate([members[number], others[number]])
            np.testing.assert_allclose(ours, theirs[f"gamma{gamma}_a{a}"], atol=1e-6)
            point = grid[gamma, a]
            assert auc(members[number], others[number]) == pytest.approx(point["auc"], abs=1e-9)
            assert reference_tpr(members[number], others[number]) == pytest.approx(
                point["tpr_at_1e_4"], abs=1e-9
            )
    attack = rmia(forget=forget, nonmembers=val, population=population, variant="reference")
    assert attack.auc == pytest.approx(expected["best_auc"], abs=1e-9)
    assert attack.tpr == pytest.approx({1e-4: expected["best_tpr_at_1e_4"]}, abs=1e-9)
    chosen = grid[attack.gamma, attack.a]
    assert chosen["auc"] == pytest.approx(expected["best_auc"], abs=1e-9)


@each_case
@pytest.mark.parametrize(
    ("name", "population", "nonmembers"),
    [("textbook", "val", "test"), ("textbook_zTest", "test", "val")],
)
def test_the_published_attack_has_the_golden_scores(
    case: GoldenCase, name: str, population: str, nonmembers: str
) -> None:
    attack = rmia(
        forget=golden_signals(case, "forget"),
        nonmembers=golden_signals(case, nonmembers),
        population=golden_signals(case, population),
    )
    theirs = case.tensors("rmia", f"{name}.score.")
    np.testing.assert_allclose(attack.forget_scores, theirs["forget"], atol=1e-6)
    np.testing.assert_allclose(attack.nonmember_scores, theirs[nonmembers], atol=1e-6)
    assert attack.auc == pytest.approx(case.expected[f"rmia_{name}"]["auc"], abs=1e-9)
