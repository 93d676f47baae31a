"""RMIA from stored views: a memoriser is found out, a retrained model is not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from reference.auc import auc_error

from oneshui.attacks.membership import Paired, membership, tuned_a
from oneshui.attacks.rmia import PUBLISHED_A, Signals, rmia
from oneshui.attacks.roc import auc, tpr_at_fpr
from oneshui.errors import InputError

SIZES = {"forget": 60, "test": 200, "val": 200, "retain": 200}


def views(seed: int, memorised: tuple[str, ...]) -> pd.DataFrame:
    """Losses of one model: hardness of the picture, noise of the model, less where memorised."""
    of_pictures, of_model = np.random.default_rng(0), np.random.default_rng(seed)
    frames = []
    for name, size in SIZES.items():
        hardness = of_pictures.gamma(2.0, 0.3, size=(size, 1))
        noise = of_model.gamma(50, 0.02, size=(size, 2))
        losses = hardness * noise * (0.1 if name in memorised else 1)
        frames.append(
            pd.DataFrame(
                {
                    "set": name,
                    "image": np.arange(size),
                    "identity": np.arange(size) // 4,
                    "losses": list(losses.astype(np.float32)),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


HARDER = np.random.default_rng(9).uniform(0.5, 3, size=sum(SIZES.values()))
RETRAINED = [views(seed, ("retain",)) for seed in (1, 2)]


def test_a_model_that_memorises_is_found_out() -> None:
    values = membership(views(3, ("retain", "forget")), RETRAINED).values
    assert values["rmia_auc"] is not None
    assert values["rmia_auc"] > 0.9
    assert values["rmia_references"] == 2
    assert values["rmia_fpr"] == 0.05
    assert values["rmia_a"] == PUBLISHED_A


@pytest.mark.parametrize("memorised", [("retain",), ("retain", "forget")])
def test_the_sets_of_both_attacks_are_these(memorised: tuple[str, ...]) -> None:
    target = views(3, memorised)

    def signals(*names: str) -> Signals:
        def of(frame: pd.DataFrame) -> np.ndarray:
            parts = [np.stack(frame.loc[frame["set"] == n, "losses"].to_list()) for n in names]
            return np.concatenate(parts).T

        return Signals(target=of(target), references=np.stack([of(r) for r in RETRAINED]))

    found = membership(target, RETRAINED)
    forget, test, val = (signals(name) for name in ("forget", "test", "val"))
    published = rmia(forget=forget, nonmembers=test, population=val)
    authors = rmia(
        forget=forget,
        nonmembers=val,
        population=signals("forget", "retain", "val"),
        variant="reference",
    )
    assert found.values["rmia_auc"] == published.auc
    scores = published.forget_scores, published.nonmember_scores
    assert found.values["rmia_tpr"] == tpr_at_fpr(*scores, fpr=0.05)
    assert found.values["rmia_copies_auc"] is None
    assert found.values["rmia_reference_auc"] == authors.auc


def test_copies_change_their_own_number_and_no_other() -> None:
    target, copy = views(3, ("retain",)), views(4, ("retain",))
    copy["losses"] = [losses * scale for scale, losses in zip(HARDER, copy["losses"], strict=True)]
    plain, both = membership(target, RETRAINED), membership(target, RETRAINED, copies=[copy])
    joined = membership(target, [*RETRAINED, copy])
    assert both.values == plain.values | {"rmia_copies_auc": joined.values["rmia_auc"]}
    assert both.values["rmia_copies_auc"] != both.values["rmia_auc"]
    np.testing.assert_array_equal(both.attack.forget_scores, plain.attack.forget_scores)


def test_a_retrained_model_is_not() -> None:
    found = membership(views(3, ("retain",)), RETRAINED)
    scores = found.attack.forget_scores, found.attack.nonmember_scores
    assert auc(*scores) == pytest.approx(0.5, abs=2 * auc_error(*map(len, scores)))


def test_the_order_of_images_changes_nothing() -> None:
    order = np.random.default_rng(0).permutation(sum(SIZES.values()))
    target = views(3, ("retain", "forget"))
    shuffled = [part.iloc[order] for part in (target, *RETRAINED)]
    one, other = membership(target, RETRAINED), membership(shuffled[0], shuffled[1:])
    assert one.values == pytest.approx(other.values, abs=1e-12)


def test_a_is_tuned_on_images_that_the_second_model_did_not_see() -> None:
    paired = Paired(target=RETRAINED[0], reference=views(5, ()), seen=set(range(10)))
    changed = paired.reference.copy()
    changed["losses"] = [
        losses if identity >= 10 else losses * 0
        for losses, identity in zip(changed["losses"], changed["identity"], strict=True)
    ]
    assert 0 <= tuned_a(paired) <= 1
    again = Paired(target=paired.target, reference=changed, seen=paired.seen)
    assert tuned_a(again) == tuned_a(paired)
    nothing_left = Paired(target=paired.target, reference=changed, seen=set(range(100)))
    assert tuned_a(nothing_left) == PUBLISHED_A


def test_the_tuned_a_is_the_one_that_is_used() -> None:
    target = views(3, ("retain", "forget"))
    paired = Paired(target=RETRAINED[0], reference=views(5, ("retain",)), seen=set())
    tuned = tuned_a(paired)
    assert tuned != PUBLISHED_A
    plain, found = membership(target, RETRAINED), membership(target, RETRAINED, paired)
    assert (plain.values["rmia_a"], found.values["rmia_a"]) == (PUBLISHED_A, tuned)
    assert found.attack.a == tuned
    scores = found.attack.nonmember_scores, plain.attack.nonmember_scores
    assert not np.array_equal(*scores)


def test_few_non_members_give_no_rate() -> None:
    def few(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[(frame["set"] != "test") | (frame["image"] < 99)]

    values = membership(few(RETRAINED[0]), [few(RETRAINED[1])]).values
    assert values["rmia_tpr"] is None
    assert values["rmia_fpr"] is None


def test_other_images_or_no_reference_are_refused() -> None:
    with pytest.raises(InputError, match="at least one reference"):
        membership(RETRAINED[0], [])
    other_images = RETRAINED[1].assign(image=RETRAINED[1]["image"] + 1)
    for other in (RETRAINED[1].iloc[::-1], other_images):
        with pytest.raises(InputError, match="differ in images"):
            membership(RETRAINED[0], [other])
    parts = [part[part["set"] != "val"] for part in RETRAINED]
    with pytest.raises(InputError, match="val set, but there is none"):
        membership(parts[0], parts[1:])
