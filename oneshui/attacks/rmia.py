"""RMIA, the relative membership inference attack, offline, with few reference models.

Source: Zarifzadeh, Liu, Shokri, "Low-cost high-power membership inference attacks" (arXiv
2312.03262). An image x is a member if the attacked model likes it more than models that never saw
it do, relative to how much more it likes images z of a population that no model saw:

    p(x) = exp(-loss(x))                 the probability of the label; for attributes the geometric
                                         mean of their probabilities
    mix(x) = ((1 + a) p_out(x) + (1 - a)) / 2        p_out: mean over reference models without x
    ratio(x) = p(x) / mix(x)
    score(x) = mean over z of 1(ratio(x) / ratio(z) > gamma)

averaged over augmented views, the same pictures in every view. ``a`` estimates how much higher a
member's probability is than p_out; ``tune_offline_a`` finds it without the target's labels.

Deviation from the benchmark's reference code (docs/benchmark.md, A3-A8), which puts losses in
place of probabilities, divides by the reference model twice, takes training images (the forget
images among them) as population, votes over the views, and reports the AUC of the (gamma, a) that
does best on the attacked images at an FPR that they cannot resolve. ``variant="reference"`` gives
its numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from oneshui.attacks.roc import auc, reportable_fprs, roc, tpr_at_fpr
from oneshui.errors import InputError

Array: TypeAlias = npt.NDArray[Any]

PUBLISHED_A = 0.3
CANDIDATES_A: tuple[float, ...] = tuple(step / 10 for step in range(11))

REFERENCE_GAMMAS: tuple[float, ...] = (1, 2, 4, 8)
REFERENCE_AS: tuple[float, ...] = (0.2, 0.3, 0.5, 1)
REFERENCE_FPR = 1e-4

_LARGEST_ROUNDING = 1e-6
_COMPARISONS_AT_ONCE = 2_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Signals:
    """Losses of one set of images under the attacked model and under the reference models.

    Attributes:
        target: Losses under the attacked model, [views, n].
        references: Losses under the reference models, [models, views, n].
        out: Which reference models did not train on which image, bool [models, n]; the others
            are left out of that image's p_out. None if no model trained on any.

    Raises:
        InputError: Shapes do not fit, there is no image, a loss is negative or not finite, or an
            image has no reference model that did not train on it.
    """

    target: Array
    references: Array
    out: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        target, references = self.target.shape, self.references.shape
        if len(target) != 2 or len(references) != 3 or references[1:] != target:
            raise InputError(
                f"RMIA got losses of shapes {target} and {references}, but it needs [views, n] of "
                "the target and [models, views, n] of the reference models"
            )
        if 0 in references:
            raise InputError(
                f"RMIA got losses of shape {references}, but it needs at least one reference "
                "model, one view and one image"
            )
        for name, losses in (("target", self.target), ("reference models", self.references)):
            bad = ~np.isfinite(losses) | (losses < -_LARGEST_ROUNDING)
            if bad.any():
                raise InputError(
                    f"{int(bad.sum())} of {losses.size} losses of the {name} are negative or not "
                    "finite, so they belong to no probability"
                )
        if self.out is None:
            return
        if self.out.shape != (references[0], references[2]) or self.out.dtype != np.bool_:
            raise InputError(
                f"RMIA got {self.out.dtype} {self.out.shape} as the mask of the models that did "
                f"not see an image, but it needs bool {(references[0], references[2])}"
            )
        if not self.out.any(axis=0).all():
            raise InputError(
                f"{int((~self.out.any(axis=0)).sum())} of {references[2]} images were seen by all "
                "reference models, so nothing says what a model without them would predict"
            )

    def paired(self, index: int) -> Signals:
        """One reference model as the target and the others as its references.

        Args:
            index: Of the reference model.

        Raises:
            InputError: There is no other reference model, or an image was seen by all others.
        """
        if len(self.references) < 2:
            raise InputError(
                "the only reference model cannot be attacked with the help of others; give at "
                "least two, or build its signals with the model that it was made from"
            )
        others = np.delete(np.arange(len(self.references)), index)
        return Signals(
            target=self.references[index],
            references=self.references[others],
            out=None if self.out is None else self.out[others],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class RMIA:
    """What the attack achieves.

    Attributes:
        auc: In [0, 1]; 0.5 is what retraining should give.
        tpr: True-positive rate by false-positive rate, for those of ``oneshui.attacks.roc.FPRS``
            that are at least ten non-members. Of the reference variant: at 1e-4 only,
            interpolated as there, however few non-members there are.
        a: Which was used.
        gamma: Which was used.
        forget_scores: Membership scores, larger for members, float64 [n]; in [0, 1], or in
            [-1, 0] of the reference variant.
        nonmember_scores: The same of the non-members, [m].
    """

    auc: float
    tpr: dict[float, float]
    a: float
    gamma: float
    forget_scores: npt.NDArray[np.float64]
    nonmember_scores: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class OfflineA:
    """The choice of ``a``.

    Attributes:
        a: The candidate with the largest AUC; of equals the one nearest to the published 0.3.
        aucs: AUC against the paired model by candidate.
    """

    a: float
    aucs: dict[float, float]


def ratios(target_p: Array, out_p: Array, a: float) -> npt.NDArray[np.float64]:
    """Likelihood ratios p / mix(p_out), mix = ((1 + a) p_out + (1 - a)) / 2, in the same shape.

    Args:
        target_p: Probabilities under the attacked model.
        out_p: Mean probabilities under models that did not train on the image, same shape.
        a: In [0, 1].

    Raises:
        InputError: Shapes differ or ``a`` is out of range.
    """
    if target_p.shape != out_p.shape:
        raise InputError(
            f"probabilities have shapes {target_p.shape} and {out_p.shape}, but RMIA needs one "
            "reference value for every value of the target"
        )
    if not 0 <= a <= 1:
        raise InputError(f"RMIA got a = {a}, but it must be in [0, 1]")
    mix = ((1 + a) * out_p.astype(np.float64) + (1 - a)) / 2
    # With a = 1 an image that no reference model believes has mix 0.
    return target_p / np.maximum(mix, np.finfo(np.float64).tiny)


def rmia(
    *,
    forget: Signals,
    nonmembers: Signals,
    population: Signals,
    a: float = PUBLISHED_A,
    gamma: float = 1.0,
    variant: Literal["corrected", "reference"] = "corrected",
) -> RMIA:
    """Attack one model: which of its forget images were trained on?

    Args:
        forget: The images under attack.
        nonmembers: Images that the target never saw, none of them in the population.
        population: Images that neither the target nor a reference model saw: z. The reference
            takes training and validation images instead.
        a: As ``tune_offline_a`` chose it. "reference" does not use it.
        gamma: How much larger x's ratio must be than z's. "reference" does not use it.
        variant: "corrected", as published; or "reference", the authors' number: 16 (gamma, a),
            first reference model only, AUC of the pair with the best TPR at FPR 1e-4, or 0 (with
            the scores of the first pair) if all those TPR are 0. Its cost is the product of the
            numbers of images: draw subsets, once for all views.

    Raises:
        InputError: The sets differ in views or reference models, or ``a`` or ``gamma`` is out of
            range.
    """
    _require_same_models(forget, nonmembers, population)
    if variant == "reference":
        return _reference(forget, nonmembers, population)
    z = _probabilities(population)
    members = _scores(_probabilities(forget), z, a, gamma)
    others = _scores(_probabilities(nonmembers), z, a, gamma)
    return RMIA(
        auc=auc(members, others),
        tpr={fpr: tpr_at_fpr(members, others, fpr=fpr) for fpr in reportable_fprs(len(others))},
        a=a,
        gamma=gamma,
        forget_scores=members,
        nonmember_scores=others,
    )


def tune_offline_a(
    *,
    members: Signals,
    nonmembers: Signals,
    population: Signals,
    candidates: Sequence[float] = CANDIDATES_A,
    gamma: float = 1.0,
) -> OfflineA:
    """Choose ``a`` by attacking a paired model, whose training set the auditor knows.

    Source: the authors' privacy meter tunes it on another model than the target. Nothing of the
    target enters: not its predictions, not who of the forget set was a member.

    In the benchmark the paired model is one that the target's reference models are made of: the
    retrained model (members: a sample of its retain set; non-members: val or test images outside
    the population). Its references are other seeds' retrained models, ``Signals.paired`` with
    ``out`` where their training sets overlap; with a single seed, a copy of it that has unlearned
    the members. All signals hold the paired model's losses as ``target``.

    Args:
        members: Images that the paired model trained on and (by ``out``) its references did not.
        nonmembers: Images that the paired model did not train on.
        population: Images that no model saw.
        candidates: Values of ``a`` to try, in [0, 1].
        gamma: As in ``rmia``.

    Raises:
        InputError: As ``rmia``, or there is no candidate.
    """
    if not candidates:
        raise InputError("RMIA's a cannot be tuned without a candidate")
    _require_same_models(members, nonmembers, population)
    x, other, z = (_probabilities(part) for part in (members, nonmembers, population))
    aucs = {a: auc(_scores(x, z, a, gamma), _scores(other, z, a, gamma)) for a in candidates}
    best = max(candidates, key=lambda a: (aucs[a], -abs(a - PUBLISHED_A)))
    return OfflineA(a=best, aucs=aucs)


@dataclass(frozen=True, eq=False)
class _Probabilities:
    target: npt.NDArray[np.float64]
    out: npt.NDArray[np.float64]


def _probabilities(signals: Signals) -> _Probabilities:
    """Probabilities under the target and, on average, under the models without the image."""
    references = np.exp(-signals.references.astype(np.float64))
    if signals.out is None:
        out = references.mean(axis=0)
    else:
        is_out = signals.out[:, None, :]
        out = (references * is_out).sum(axis=0) / is_out.sum(axis=0)
    return _Probabilities(np.exp(-signals.target.astype(np.float64)), out)


def _scores(
    x: _Probabilities, z: _Probabilities, a: float, gamma: float
) -> npt.NDArray[np.float64]:
    """Share of z that x beats, mean over views, [n]: by rank, so without an n by m matrix."""
    if not gamma > 0:
        raise InputError(f"RMIA got gamma = {gamma}, but it must be above 0")
    thresholds = np.sort(ratios(z.target, z.out, a), axis=1)
    own = ratios(x.target, x.out, a) / gamma
    # Counts are added before the one division: means of rounded means would tear equal ranks apart.
    beaten = sum(np.searchsorted(t, r, side="left") for t, r in zip(thresholds, own, strict=True))
    scores: npt.NDArray[np.float64] = beaten / np.float64(thresholds.size)
    return scores


def _require_same_models(*parts: Signals) -> None:
    shapes = sorted({part.references.shape[:2] for part in parts})
    if len(shapes) > 1:
        raise InputError(
            f"RMIA's sets have {', '.join(map(str, shapes))} reference models and views, but all "
            "must have the same"
        )


def reference_scores(
    images: Signals, population: Signals, *, a: float, gammas: Sequence[float] = REFERENCE_GAMMAS
) -> npt.NDArray[np.float64]:
    """The authors' scores of images, [gammas, n] in [-1, 0], larger for members.

    score(x) = -mean over z of 1(more than half of the views have r(x) r'(z) > gamma), with losses
    L and mix(L) = ((1 + a) L + 1 - a) / 2: r(x) = L(x) / L_ref(x) / mix(L_ref(x)) and
    r'(z) = L_ref(z) / L(z) / mix(L_ref(z)). In float32, as there.

    Args:
        images: x; the first reference model counts.
        population: z; the first reference model counts.
        a: In [0, 1].
        gammas: Thresholds.
    """
    # A loss of 0 makes a ratio infinite or undefined; no comparison with undefined is true.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        own, own_ref = _losses(images)
        x = own / own_ref / _loss_mix(own_ref, a)
        other, other_ref = _losses(population)
        z = other_ref / other / _loss_mix(other_ref, a)
        scores = np.empty((len(gammas), x.shape[1]))
        step = max(1, _COMPARISONS_AT_ONCE // z.shape[1])
        for start in range(0, x.shape[1], step):
            part = x[:, start : start + step]
            votes = np.zeros((len(gammas), part.shape[1], z.shape[1]), dtype=np.uint8)
            for of_x, of_z in zip(part, z, strict=True):
                products = of_x[:, None] * of_z
                for number, gamma in enumerate(gammas):
                    votes[number] += products > gamma
            scores[:, start : start + step] = -(votes > len(x) / 2).mean(axis=2)
    return scores


def reference_tpr(member_scores: Array, nonmember_scores: Array) -> float:
    """The authors' TPR at FPR 1e-4: on the straight line between two points of the ROC curve.

    Args:
        member_scores: [n].
        nonmember_scores: [m].
    """
    curve = roc(member_scores, nonmember_scores)
    return float(np.interp(REFERENCE_FPR, curve.fpr, curve.tpr))


def _reference(forget: Signals, nonmembers: Signals, population: Signals) -> RMIA:
    grids = [
        (
            a,
            reference_scores(forget, population, a=a),
            reference_scores(nonmembers, population, a=a),
        )
        for a in REFERENCE_AS
    ]
    # The authors go through gamma first and keep the first of equals, as max does.
    points = [
        RMIA(
            auc=auc(members[number], others[number]),
            tpr={REFERENCE_FPR: reference_tpr(members[number], others[number])},
            a=a,
            gamma=gamma,
            forget_scores=members[number],
            nonmember_scores=others[number],
        )
        for number, gamma in enumerate(REFERENCE_GAMMAS)
        for a, members, others in grids
    ]
    best = max(points, key=lambda point: point.tpr[REFERENCE_FPR])
    if best.tpr[REFERENCE_FPR] > 0:
        return best
    return replace(best, auc=0.0)


def _losses(signals: Signals) -> tuple[Array, Array]:
    return signals.target.astype(np.float32), signals.references[0].astype(np.float32)


def _loss_mix(losses: Array, a: float) -> Array:
    return ((1 + a) * losses + (1 - a)) / 2
