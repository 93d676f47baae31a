"""What the likelihood audit finds where there is nothing to find.

Its attack is made on few models, by estimates from the same models. On nothing its AUC is so a
little above .5, the more the fewer models there are and the more a model's mood is that of all its
people. How far it goes is seen by drawing phi anew, with nothing between the two kinds, and
attacking that.

Shapes: K models, A people.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from oneshui.seeding import derive_seed

Array: TypeAlias = npt.NDArray[np.float64]

NUM_CHANCES = 200
LEVEL = 0.975
"""Of all draws, those that stay below what is called chance: one end of an interval of 95 %."""


def alike(unlearned: Array, never: Array, *, seed: int) -> Iterator[tuple[Array, Array]]:
    """Draw two kinds between which there is nothing, ``NUM_CHANCES`` times.

    Both are normal and scatter alike over models: as both together were found to, pooled over
    people, with the part of it that all people under a model have in common. The unlearned are of
    other models than the never seen, as retraining would make them.

    Args:
        unlearned: phi of each person under each model, [K, A]; NaN where the model was not asked to
            forget the person.
        never: The same where the model never saw the person, NaN elsewhere.
        seed: Of the draws.

    Yields:
        Two arrays like these, around 0 for everybody: the attack looks at no person's level.
    """
    total, common = scatter(unlearned, never)
    generator = np.random.default_rng(derive_seed(seed, "id-LiRA", "by chance"))

    def drawn(like: Array) -> Array:
        moods = np.sqrt(common) * generator.standard_normal((len(like), 1))
        own = np.sqrt(total - common) * generator.standard_normal(like.shape)
        found: Array = np.where(np.isnan(like), np.nan, moods + own)
        return found

    for _ in range(NUM_CHANCES):
        yield drawn(unlearned), drawn(never)


def scatter(*kinds: Array) -> tuple[float, float]:
    """Variance over models about a person, and what of it is common to all people under a model.

    Args:
        kinds: phi, each [K, A] with NaN where there is none; a person has a level in each.

    Returns:
        Both pooled over people and kinds, the second by the moments of products of two people under
        a model.
    """
    squares = freedom = products = weight = 0.0
    for values in kinds:
        phi = values[:, ~np.isnan(values).all(axis=0)]
        there = ~np.isnan(phi)
        residuals = np.where(there, phi - np.nanmean(phi, axis=0), 0.0)
        counts = there.sum(axis=0).astype(np.float64)
        own = float((residuals**2).sum())
        squares += own
        freedom += float((counts - 1).sum())
        products += float((residuals.sum(axis=1) ** 2).sum()) - own
        # Residuals of a person sum to 0 over the models, which takes from a product of two of them
        # the shares that are taken from its weight here.
        together = there.T.astype(np.float64) @ there.astype(np.float64)
        lost = 1 / counts[:, None] + 1 / counts - together / np.outer(counts, counts)
        weights = together * (1 - lost)
        weight += float(weights.sum() - np.trace(weights))
    total = squares / max(freedom, 1.0)
    common = products / weight if weight > 0 else 0.0
    return total, float(np.clip(common, 0.0, total))
