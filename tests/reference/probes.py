"""Probes by hand: every picture beside every picture, every trapezoid by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from sklearn.metrics import roc_curve


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    lengths = [math.sqrt(sum(a * a for a in v)) for v in (one, other)]
    return dot / (lengths[0] * lengths[1]) if min(lengths) > 0 else 0.0


def rank_one(
    gallery: Sequence[Sequence[float]],
    names: Sequence[int],
    probes: Sequence[Sequence[float]],
    owners: Sequence[int],
) -> dict[int, float]:
    """Share of each person's pictures whose nearest in the gallery is the person's, alone."""
    hits: dict[int, list[bool]] = {}
    for picture, owner in zip(probes, owners, strict=True):
        pairs = zip(gallery, names, strict=True)
        near = sorted((cosine(picture, one), name) for one, name in pairs)
        is_tied = len(near) > 1 and near[-1][0] == near[-2][0]
        hits.setdefault(owner, []).append(near[-1][1] == owner and not is_tied)
    return {owner: sum(each) / len(each) for owner, each in sorted(hits.items())}


def true_accepts(
    gallery: Sequence[Sequence[float]],
    names: Sequence[int],
    probes: Sequence[Sequence[float]],
    owners: Sequence[int],
    rate: float,
) -> float:
    """Share of pairs of one person that are accepted where at most ``rate`` of the others are."""
    scores, same = [], []
    for picture, owner in zip(probes, owners, strict=True):
        for one, name in zip(gallery, names, strict=True):
            scores.append(cosine(picture, one))
            same.append(name == owner)
    fpr, tpr, _ = roc_curve(same, scores, drop_intermediate=False)
    return float(tpr[fpr <= rate].max())


def area(curve: Sequence[float], times: Sequence[int]) -> float:
    total = 0.0
    for place in range(1, len(times)):
        total += (times[place] - times[place - 1]) * (curve[place] + curve[place - 1]) / 2
    return total


def standard_error(differences: Sequence[float]) -> float:
    return float(np.std(differences, ddof=1)) / math.sqrt(len(differences))
