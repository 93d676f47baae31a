from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from reference.auc import auc
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from support.golden import GoldenCase, each_case

from oneshui.attacks import loss_mia as loss_mia_module
from oneshui.attacks.loss_mia import LossMIA, forest_attack, loss_mia, threshold_auc
from oneshui.errors import InputError

Losses = dict[str, Any]
SETS = ("retain", "val", "forget", "test")


def global_state() -> str:
    return repr(np.random.get_state())  # noqa: NPY002


@pytest.fixture
def losses() -> Losses:
    generator = np.random.default_rng(0)
    mean = {"retain": 0.1, "val": 0.6, "forget": 0.2, "test": 0.6}
    return {n: generator.gamma(2.0, mean[n] / 2, size=80).astype(np.float32) for n in SETS}


def test_members_with_small_losses_are_found(losses: Losses) -> None:
    attack = loss_mia(**losses, seed=0)
    assert attack.auc > 0.65
    assert attack.accuracy <= 0.5


def test_the_seed_fixes_the_attack(losses: Losses) -> None:
    before = global_state()
    attacks = [loss_mia(**losses, seed=seed) for seed in (3, 3, 2**62)]
    assert attacks[0] == attacks[1]
    assert attacks[0].auc == pytest.approx(attacks[2].auc, abs=0.1)
    assert global_state() == before


def test_accuracy_is_the_share_of_forget_images_called_non_members(losses: Losses) -> None:
    losses["forget"] = np.array([0.0001, 5.0, 5.0, 5.0])
    assert loss_mia(**losses, seed=0).accuracy == 0.75


def test_only_the_reference_reports_zero_for_a_perfect_attack(losses: Losses) -> None:
    losses["forget"] = losses["retain"]
    assert loss_mia(**losses, seed=0, variant="reference").auc == 0.0
    assert loss_mia(**losses, seed=0).auc > 0.9


def by_sklearn(losses: Losses, trees: int, seed: int) -> LossMIA:
    """The authors' forest, with scikit-learn's classifier, AUC and 0.5 rule."""
    known = np.concatenate([losses["retain"], losses["val"]])[:, None]
    is_member = [1] * len(losses["retain"]) + [0] * len(losses["val"])
    forest = RandomForestClassifier(trees, random_state=seed, n_jobs=1).fit(known, is_member)
    forget, test = (forest.predict_proba(losses[n][:, None])[:, 1] for n in ("forget", "test"))
    truth = [1] * len(forget) + [0] * len(test)
    return LossMIA(
        auc=float(roc_auc_score(truth, np.concatenate([forget, test]))),
        accuracy=float(np.mean(forest.predict(losses["forget"][:, None]) == 0)),
    )


@pytest.mark.parametrize("seed", [0, 3, 2**32 + 5])
def test_the_attack_is_a_forest_of_100_trees(losses: Losses, seed: int) -> None:
    # Few values, so that leaves hold both kinds.
    losses = {name: values.round(2) for name, values in losses.items()}
    losses["val"] = losses["val"][:70]
    ours, theirs = loss_mia(**losses, seed=seed), by_sklearn(losses, 100, seed % 2**32)
    assert ours.auc == pytest.approx(theirs.auc, abs=1e-12)
    assert ours.accuracy == theirs.accuracy
    assert ours != by_sklearn(losses, 50, seed % 2**32)


def test_the_reference_reports_the_forest_that_calls_most_forget_images_non_members(
    losses: Losses,
) -> None:
    chosen = set()
    for seed in range(12):
        forests = {trees: by_sklearn(losses, trees, seed) for trees in (20, 50, 100)}
        most = max(forest.accuracy for forest in forests.values())
        first = next(trees for trees, forest in forests.items() if forest.accuracy == most)
        ours = loss_mia(**losses, seed=seed, variant="reference")
        assert ours.accuracy == most
        assert ours.auc == pytest.approx(forests[first].auc, abs=1e-12)
        chosen.add(first)
    assert len(chosen) > 1


def test_threshold_auc_is_its_definition_with_ties(losses: Losses) -> None:
    forget, test = losses["forget"].round(1), losses["test"].round(1)
    assert threshold_auc(forget, test) == pytest.approx(auc((-forget).tolist(), (-test).tolist()))
    assert threshold_auc([1.0], [1.0]) == 0.5
    assert threshold_auc(torch.tensor([0.1]), torch.tensor([0.2])) == 1.0


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("bad", [[], [[0.1]], [0.1, np.nan]])
def test_unusable_losses_are_refused(losses: Losses, name: str, bad: list[Any]) -> None:
    losses[name] = np.array(bad)
    with pytest.raises(InputError, match=f"the {name} set"):
        loss_mia(**losses, seed=0)


def test_importing_the_attack_does_not_import_sklearn() -> None:
    code = "import sys, oneshui.attacks.loss_mia; assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@each_case
@pytest.mark.parametrize("weights", ["before", "retrain", "scrub", "meta"])
def test_every_forest_is_the_reference_s(
    case: GoldenCase, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = case.tensors("metrics", f"losses.{weights}.")
    sets: Losses = {name: tensors[name].numpy() for name in SETS}
    expected = case.expected["rf_mia"][weights]
    attacks = {}
    for trees in loss_mia_module.REFERENCE_TREES:
        attack = forest_attack(sets, trees=trees, seed=0)
        for criterion in ("gini", "entropy"):
            theirs = expected["grid"][f"{trees}.{criterion}"]
            assert 100 * attack.auc == pytest.approx(theirs["auc"], abs=1e-9)
            assert 100 * attack.accuracy == pytest.approx(theirs["acc"], abs=1e-9)
        attacks[trees] = attack

    # The forests are fitted once, above; what remains to be tested is which of them is reported.
    def fitted(_: Losses, *, trees: int, seed: int) -> LossMIA:
        assert seed == 0
        return attacks[trees]

    monkeypatch.setattr(loss_mia_module, "forest_attack", fitted)
    reported = loss_mia(**sets, seed=0, variant="reference")
    assert 100 * reported.auc == pytest.approx(expected["auc"], abs=1e-4)
    assert 100 * reported.accuracy == pytest.approx(expected["acc"], abs=1e-4)
    assert loss_mia(**sets, seed=0) == attacks[100]
