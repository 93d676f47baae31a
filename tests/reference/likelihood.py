"""The score of id-LiRA's decisions, one at a time and straight from the model's definition."""

from typing import Any

import numpy as np
from scipy.stats import multivariate_normal


def log_ratio(
    phi: float,
    of_one: Any,
    of_other: Any,
    *,
    variance_one: float,
    variance_other: float,
    mean: float,
    spread: float,
    vague: float = 1e8,
) -> float:
    """Log likelihood ratio of one value, from the joint normal distribution of everything.

    ``of_one`` and ``of_other`` are what the other models say of the person; the person's level is
    drawn from N(0, vague), the gap from N(mean, spread).
    """

    def log_density(values: Any, is_one: Any, variances: Any) -> float:
        covariance = np.full((len(values), len(values)), vague)
        covariance += spread * np.outer(is_one, is_one)
        covariance += np.diag(variances)
        joint = multivariate_normal(mean * is_one, covariance, allow_singular=True)
        return float(joint.logpdf(values))

    known = np.concatenate([of_one, of_other])
    is_one = np.repeat([1.0, 0.0], [len(of_one), len(of_other)])
    variances = np.repeat([variance_one, variance_other], [len(of_one), len(of_other)])
    found = []
    for kind, variance in ((1.0, variance_one), (0.0, variance_other)):
        found.append(
            log_density(
                np.append(known, phi), np.append(is_one, kind), np.append(variances, variance)
            )
        )
    return found[0] - found[1]
