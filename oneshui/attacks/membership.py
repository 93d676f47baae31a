"""RMIA of one model from stored losses of views: which sets, which references, which ``a``.

The forget images are attacked, test images are the non-members, validation images the
population. Reference models never trained on any of them: retrained models, the same for all
models that are to be compared. Copies of retrained models that have unlearned as the attacked model
did may have seen the forget images while they prepared; with them the attack is a second one.
``oneshui.attacks.rmia`` is the attack itself.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from oneshui.attacks.rmia import PUBLISHED_A, RMIA, Signals, rmia, tune_offline_a
from oneshui.attacks.roc import reportable_fprs, tpr_at_fpr
from oneshui.errors import InputError
from oneshui.seeding import derive_seed

FPRS = (0.001, 0.01, 0.05, 0.1)
"""The reported TPR is at the smallest of these that is at least ten non-members."""

REFERENCE_IMAGES = 2000
"""The authors' variant costs the product of its sets; larger ones are drawn down to this."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Paired:
    """Two retrained models whose training sets are known: what ``a`` is tuned on.

    Attributes:
        target: Views of the model that trained on this cell's retain set.
        reference: Views of the same images under a model of another split.
        seen: Identities that the second model trained on; their images are left out.
    """

    target: pd.DataFrame
    reference: pd.DataFrame
    seen: Collection[int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Membership:
    """What RMIA says about one model.

    Attributes:
        values: ``rmia_auc``, ``rmia_tpr`` and ``rmia_fpr`` (None if the non-members are too few
            for any FPR), ``rmia_a``, ``rmia_references``, ``rmia_copies_auc`` (with the copies as
            further references; None without) and ``rmia_reference_auc`` (the authors' variant).
        attack: With the scores of every image; the copies take no part in it.
    """

    values: dict[str, float | int | None]
    attack: RMIA


def membership(
    target: pd.DataFrame,
    references: Sequence[pd.DataFrame],
    paired: Paired | None = None,
    copies: Sequence[pd.DataFrame] = (),
) -> Membership:
    """Attack one model.

    Args:
        target: Of the model, as ``oneshui.attacks.views.predict_views`` gives them.
        references: The same of models that saw neither forget, test nor validation images.
        paired: To tune ``a``, without anything of the target; the published 0.3 without.
        copies: The same of retrained models that have unlearned as the target did.

    Raises:
        InputError: There is no reference, or two tables are not about the same images.
    """
    if not references:
        raise InputError("RMIA needs at least one reference model")
    a = PUBLISHED_A if paired is None else tuned_a(paired)
    attack = _attack(target, references, a)
    fpr = next(iter(reportable_fprs(len(attack.nonmember_scores), FPRS)), None)
    return Membership(
        values={
            "rmia_auc": attack.auc,
            "rmia_tpr": None
            if fpr is None
            else tpr_at_fpr(attack.forget_scores, attack.nonmember_scores, fpr=fpr),
            "rmia_fpr": fpr,
            "rmia_a": a,
            "rmia_references": len(references),
            "rmia_copies_auc": _attack(target, [*references, *copies], a).auc if copies else None,
            "rmia_reference_auc": reference_auc(target, references),
        },
        attack=attack,
    )


def _attack(target: pd.DataFrame, references: Sequence[pd.DataFrame], a: float) -> RMIA:
    sets = {name: _signals(target, references, name) for name in ("forget", "test", "val")}
    return rmia(forget=sets["forget"], nonmembers=sets["test"], population=sets["val"], a=a)


def tuned_a(paired: Paired) -> float:
    """The ``a`` that finds the paired model's training images best.

    Members are its retain images, non-members test images, the population validation images, all
    of people whom its reference model did not train on; the published 0.3 if a set has none.
    """
    unseen = ~paired.target["identity"].isin(list(paired.seen)).to_numpy()
    target, reference = paired.target[unseen], paired.reference[unseen]
    _require_same_images(paired.target, paired.reference)
    if not {"retain", "test", "val"} <= set(target["set"]):
        return PUBLISHED_A
    members, others, population = (
        _signals(target, [reference], name) for name in ("retain", "test", "val")
    )
    return tune_offline_a(members=members, nonmembers=others, population=population).a


def reference_auc(target: pd.DataFrame, references: Sequence[pd.DataFrame]) -> float:
    """AUC of the authors' variant: training images and validation images as population.

    Their population holds the forget images too, and validation images are their non-members.
    """
    forget, retain, val = (
        _few(_signals(target, references, name), name) for name in ("forget", "retain", "val")
    )
    parts = (forget, retain, val)
    population = Signals(
        target=np.concatenate([part.target for part in parts], axis=1),
        references=np.concatenate([part.references for part in parts], axis=2),
    )
    few = _few(population, "population")
    return rmia(forget=forget, nonmembers=val, population=few, variant="reference").auc


def _few(signals: Signals, name: str) -> Signals:
    size = signals.target.shape[1]
    if size <= REFERENCE_IMAGES:
        return signals
    generator = np.random.default_rng(derive_seed("RMIA reference", name))
    drawn = np.sort(generator.choice(size, REFERENCE_IMAGES, replace=False))
    return Signals(target=signals.target[:, drawn], references=signals.references[:, :, drawn])


def _signals(target: pd.DataFrame, references: Sequence[pd.DataFrame], name: str) -> Signals:
    for reference in references:
        _require_same_images(target, reference)
    return Signals(
        target=_losses(target, name),
        references=np.stack([_losses(reference, name) for reference in references]),
    )


def _losses(views: pd.DataFrame, name: str) -> npt.NDArray[Any]:
    """[views, n] of one set."""
    losses = views.loc[views["set"] == name, "losses"].to_list()
    if not losses:
        raise InputError(f"RMIA needs views of the {name} set, but there is none")
    return np.stack(losses, axis=1)


def _require_same_images(one: pd.DataFrame, other: pd.DataFrame) -> None:
    keys = ["set", "image"]
    if not one[keys].reset_index(drop=True).equals(other[keys].reset_index(drop=True)):
        raise InputError("views of the model and of a reference model differ in images")
