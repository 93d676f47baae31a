"""How far a person is forgotten, between the pretrained model and one that never saw the person.

IAM ("interpolated approximate measurement", arXiv 2506.06112): between the signal s of a model
that never saw a picture and the signal o of the pretrained one lie v_a = s + a (o - s) for a from
0 to 1, each with a Gumbel distribution of mean v_a. How surely the unlearned model's signal u is
above them is the share of membership that is left:

    membership = sum_a a F_a(u) / sum_a a,      completeness = 1 - membership.

The signal is the logit margin (``oneshui.metrics.margin``). It needs no training: whoever has a
retrained model has s. What a value means is seen beside that of a model that was retrained again
(what 1 looks like) and that of the pretrained model (what 0 does): where the pretrained model is
no surer than a stranger to a person, both are about a half. Above the former is over-forgetting.

Shapes: N images, R models that never saw them, P people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from oneshui.errors import InputError
from oneshui.metrics.resampling import draws, interval
from oneshui.metrics.scores import ArrayLike, as_numpy, finite

Array: TypeAlias = npt.NDArray[np.float64]

STEPS = 100
"""Of a; the first has no weight, and the last, the pretrained model itself, no spread."""
ENOUGH_REFERENCES = 3
"""From so many models on, their own spread is that of the signal; fewer take that of pictures."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Completeness:
    """What is forgotten, in [0, 1].

    Attributes:
        people: A line per person: identity, images, completeness.
        mean: Over people.
        interval: Of the mean, 95 % over people; None for few.
    """

    people: pd.DataFrame
    mean: float
    interval: tuple[float, float] | None


def completeness(own: ArrayLike, pretrained: ArrayLike, references: ArrayLike) -> Array:
    """Of every image, float64 [N] in [0, 1]; it falls as the model's signal rises.

    Args:
        own: Logit margins of the unlearned model, [N].
        pretrained: The same of the pretrained model, [N].
        references: The same of models that never saw the images, [R, N].

    Raises:
        InputError: Shapes differ, a value is not finite, there is no model or image, or the images
            of a single model do not differ, so that nothing has a spread.
    """
    from scipy.stats import gumbel_r

    shadows = as_numpy(references).astype(np.float64)
    if shadows.ndim != 2 or shadows.size == 0:
        raise InputError(
            f"signals of the models that never saw the images have shape {shadows.shape}, but must "
            "be [models, images], not empty"
        )
    finite(shadows, shadows.shape, "signals of models that never saw the images")
    shape = shadows.shape[1:]
    unlearned = finite(own, shape, "signals of the unlearned model")
    known = finite(pretrained, shape, "signals of the pretrained model")
    left, shares = np.zeros(shape), np.linspace(0, 1, STEPS)[1:-1]
    for share in shares:
        between = shadows + share * (known - shadows)
        spread = _spread(shadows, between, share)
        if spread == 0:
            raise InputError(
                f"the signals of {shadows.shape[1]} images are all the same, so that they have no "
                "spread to measure completeness with"
            )
        scale = spread * np.sqrt(6) / np.pi
        location = between.mean(axis=0) - np.euler_gamma * scale
        # The authors' code has the weight of the next share; the paper has the share's own.
        # Further below, the distribution is 0 to the last bit, and on the way there overflows.
        distance = np.maximum((unlearned - location) / scale, -30.0)
        left += share * gumbel_r.cdf(distance)
    found: Array = 1 - left / shares.sum()
    return found


def _spread(shadows: Array, between: Array, share: float) -> float:
    if len(shadows) >= ENOUGH_REFERENCES:
        # The pretrained model is one and the same to all of them.
        return float((1 - share) * np.sqrt(shadows.var(axis=0, ddof=1).mean()))
    return float(between.std())


def of_people(
    own: ArrayLike, pretrained: ArrayLike, references: ArrayLike, identities: ArrayLike
) -> Completeness:
    """Completeness of every person, the mean over the person's images, and of them all.

    Args:
        own: As of ``completeness``, and likewise the next two.
        pretrained: [N].
        references: [R, N].
        identities: Of the images, [N].

    Raises:
        InputError: As ``completeness``.
    """
    values = completeness(own, pretrained, references)
    names, person = np.unique(as_numpy(identities), return_inverse=True)
    images = np.bincount(person, minlength=len(names))
    means = np.bincount(person, weights=values, minlength=len(names)) / images
    table = pd.DataFrame({"identity": names, "images": images, "completeness": means})
    value, counts = float(means.mean()), draws(names, "completeness")
    ends = None
    if counts is not None:
        ends = interval(value, counts @ means / counts.sum(axis=1), len(names))
    return Completeness(people=table, mean=value, interval=ends)
