"""NoMUS: utility and forgetting as one number, the measure of the MUFAC data set.

Source: Choi and Na, "Towards machine unlearning benchmarks: forgetting the personal identities in
facial recognition systems" (arXiv 2311.02240), with their weight of one half.

It needs no retrained model, which is its weakness: retraining itself loses test accuracy, and a
model that is better on the test set than retraining is rewarded for not having forgotten.
"""

from __future__ import annotations

import numpy as np

from oneshui.errors import InputError
from oneshui.metrics.registry import Predicted, measure
from oneshui.metrics.scores import ArrayLike, accuracy, as_numpy

FOLDS = 10
"""Random splits over which the attack's accuracy is averaged; also the fewest images it needs."""


ATTACK_SEED = 0
"""One attack for all models, so that two models' values differ by the models alone."""


@measure("nomus")
def nomus_of(outcome: Predicted) -> float | None:
    """NoMUS in [0, 1] of an outcome; None for attributes, or with fewer than 10 images."""
    forget, unseen = outcome.losses("forget"), outcome.losses("test")
    if outcome.task == "multilabel" or min(len(forget), len(unseen)) < FOLDS:
        return None
    on_test = accuracy(outcome.logits("test"), outcome.labels("test")[:, 0].astype(np.int64))
    return nomus(on_test, attack_accuracy(forget, unseen, seed=ATTACK_SEED))


def nomus(accuracy: float, mia_accuracy: float) -> float:
    """NoMUS in [0, 1]: A/2 + (1 - 2 |M - 1/2|)/2.

    Args:
        accuracy: A, the model's accuracy on the test set, in [0, 1].
        mia_accuracy: M, the accuracy in [0, 1] of an attack that tells forgotten from unseen
            images where both are equally frequent, as ``attack_accuracy`` gives it. Guessing is
            1/2. (MUFAC's tables print |M - 1/2| in the column "MIA". The ``accuracy`` of
            ``oneshui.attacks.loss_mia`` is another thing and must not be put here.)

    Returns:
        1 for a model without a wrong answer that no attack tells from one that never saw the
        forgotten images.

    Raises:
        InputError: An argument is not a number in [0, 1].
    """
    for name, value in (("accuracy", accuracy), ("attack's accuracy", mia_accuracy)):
        if not 0 <= value <= 1:
            raise InputError(f"NoMUS got {value} as the {name}, but it needs fractions in [0, 1]")
    return 0.5 * accuracy + 0.5 * (1 - 2 * abs(mia_accuracy - 0.5))


def attack_accuracy(forget_losses: ArrayLike, unseen_losses: ArrayLike, *, seed: int) -> float:
    """Accuracy in [0, 1] of MUFAC's attack: a logistic regression on the loss.

    The larger set is drawn down to the size of the smaller, so that guessing is right half of the
    time; the accuracy is the mean over 10 random splits into nine tenths for fitting and one
    tenth for asking.

    Args:
        forget_losses: One loss per forgotten image, [n].
        unseen_losses: One per image that was never trained on, [m].
        seed: Of the drawing and of the splits.

    Raises:
        InputError: A set has fewer than 10 images or a loss that is not finite.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score

    sets = {"forgotten": as_numpy(forget_losses), "unseen": as_numpy(unseen_losses)}
    for name, losses in sets.items():
        if losses.ndim != 1 or len(losses) < FOLDS or not np.isfinite(losses).all():
            raise InputError(
                f"the losses of the {name} images have shape {losses.shape}, but the attack needs "
                f"one finite loss for each of at least {FOLDS} images"
            )
    size = min(map(len, sets.values()))
    generator = np.random.default_rng(seed)
    drawn = [generator.permutation(np.sort(losses))[:size] for losses in sets.values()]
    splits = StratifiedShuffleSplit(n_splits=FOLDS, random_state=seed % 2**32)
    features, was_trained_on = np.concatenate(drawn)[:, None], np.repeat([1, 0], size)
    return float(cross_val_score(LogisticRegression(), features, was_trained_on, cv=splits).mean())
