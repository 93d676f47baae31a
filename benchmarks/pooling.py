"""Could people shorten the interval over seeds? Why tests do not pool spreads over rows.

    uv run python benchmarks/pooling.py [--repetitions 1200]

Rows differ from doing nothing by what other people and another training change; nothing is true of
any of them. Three intervals for each row's mean over seeds: Student's; one whose variance is that
of people times what seeds add to it, pooled over all rows; and that as far as the rows agree
(moderated as in Smyth, 2004, "Linear models and empirical Bayes methods"). Printed, for each number
of seeds and each part of the training (in units of people's part, and how unlike it is between
rows, as the standard deviation of its logarithm): coverage over rows, that of the worst row, and
how often some row of twelve is called different after Bonferroni's correction.
docs/decisions/0018-statistics.md draws the conclusion.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import numpy.typing as npt
from scipy.special import digamma, ndtri, polygamma

from sweeps.inference.intervals import t_quantile

Array = npt.NDArray[np.float64]
ROWS, PEOPLE, SHARED = 12, 20, 0.5
"""SHARED: correlation of two rows, which have doing nothing in common."""
SITUATIONS = ((0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (1.0, 1.0), (3.0, 0.0), (3.0, 1.0))


def drawn(
    seeds: int, training: float, unlike: float, generator: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Differences [seeds, rows], people's part of their variance [rows], people's correlations."""
    level = training * np.exp(unlike * ndtri((np.arange(ROWS) + 0.5) / ROWS))

    def alike(*shape: int) -> Array:
        common = generator.normal(size=(*shape, 1))
        own = generator.normal(size=(*shape, ROWS))
        found: Array = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own
        return found

    people = alike(seeds, PEOPLE)
    rows = level * alike(seeds) + people.mean(axis=1) * np.sqrt(PEOPLE)
    centred = (people - people.mean(axis=1, keepdims=True)).reshape(-1, ROWS)
    return rows, people.var(axis=1, ddof=1).mean(axis=0), np.corrcoef(centred.T)


def variances(rows: Array, people: Array, correlation: Array) -> dict[str, tuple[Array, float]]:
    """Variance of one seed's difference and degrees of freedom, by way of estimating it."""
    freedom = len(rows) - 1
    own = rows.var(axis=0, ddof=1)
    ratio = own / people
    independent = ROWS**2 / (correlation**2).sum()
    most = freedom * (independent - 1)

    def shrunk(prior: float, level: float) -> tuple[Array, float]:
        return people * (prior * level + freedom * ratio) / (prior + freedom), prior + freedom

    logs = np.log(ratio) - digamma(freedom / 2) + np.log(freedom / 2)
    excess = float(logs.var(ddof=1) - polygamma(1, freedom / 2))
    moderated = shrunk(most, float(ratio.mean()))
    if excess > 0:
        prior = 2 * _inverse_trigamma(excess)
        level = float(np.exp(logs.mean() + digamma(prior / 2) - np.log(prior / 2)))
        moderated = shrunk(min(most, prior), level)
    return {
        "student": (own, freedom),
        "pooled": shrunk(most, float(ratio.mean())),
        "moderated": moderated,
    }


def _inverse_trigamma(value: float) -> float:
    found = 0.5 + 1 / value
    for _ in range(30):
        reached = float(polygamma(1, found))
        found += reached * (1 - reached / value) / float(polygamma(2, found))
    return found


def measured(
    seeds: int, training: float, unlike: float, repetitions: int, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Coverage, that of the worst row, alarms of twelve and median width, by way."""
    generator = np.random.default_rng(seed)
    held: dict[str, list[Array]] = {}
    alarms: dict[str, list[bool]] = {}
    widths: dict[str, list[float]] = {}
    for _ in range(repetitions):
        rows, people, correlation = drawn(seeds, training, unlike, generator)
        for way, (variance, freedom) in variances(rows, people, correlation).items():
            errors = np.sqrt(variance / seeds)
            reached = np.abs(rows.mean(axis=0)) / errors
            half = float(t_quantile(0.975, freedom))
            held.setdefault(way, []).append(reached < half)
            corrected = float(t_quantile(1 - 0.025 / ROWS, freedom))
            alarms.setdefault(way, []).append(bool((reached > corrected).any()))
            widths.setdefault(way, []).append(float(np.median(half * errors)))
    return {
        way: {
            "coverage": round(float(np.mean(held[way])), 3),
            "worst_row": round(float(np.mean(held[way], axis=0).min()), 3),
            "alarms": round(float(np.mean(alarms[way])), 3),
            "width": round(float(np.mean(widths[way]) / np.mean(widths["student"])), 2),
        }
        for way in held
    }


def main() -> None:
    """Print one JSON object for each number of seeds and situation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=1200)
    repetitions = parser.parse_args().repetitions
    for seeds in (3, 5, 10):
        for training, unlike in SITUATIONS:
            found = measured(seeds, training, unlike, repetitions)
            situation = {"seeds": seeds, "training": training, "unlike": unlike}
            print(json.dumps({**situation, **found}), flush=True)


if __name__ == "__main__":
    main()
