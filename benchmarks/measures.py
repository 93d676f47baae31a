"""Every measure of one model at CelebA's size, from generated predictions, against plain loops.

    python benchmarks/measures.py [--images 200000]

Prints seconds by measure, then how much faster than the obvious way some of them are (on
subsamples that the obvious way can do), then one JSON object. The bar: all measures in 30 s on two
cores; ``ratio`` is 30 s over the total. Runs on one thread. Weights are no predictions, so
``weight_distance`` is not timed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import numpy.typing as npt
import pandas as pd

# Ahead of the clock: imports are paid once by a process, not by every model that it measures.
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression  # noqa: F401
from sklearn.metrics import average_precision_score
from sklearn.model_selection import cross_val_score  # noqa: F401

from oneshui.attacks.forest import forest_votes
from oneshui.attacks.loss_mia import loss_mia, threshold_auc
from oneshui.attacks.rmia import Signals, rmia, tune_offline_a
from oneshui.attacks.roc import log_log_points
from oneshui.metrics.divergence import js_divergence
from oneshui.metrics.identities import centroids, per_identity, retain_drop, support_hardness
from oneshui.metrics.nomus import attack_accuracy, nomus
from oneshui.metrics.scores import average_precisions, mean_average_precision
from oneshui.metrics.tow import normalised_tow, signed_gaps, tow, tow_with_mia

Array = npt.NDArray[Any]

LIMIT_SECONDS = 30.0
NUM_ATTRIBUTES = 40
IMAGES_PER_IDENTITY = 20
NUM_FORGET = 10
NUM_FEATURES = 768
VIEWS = 8
REFERENCE_MODELS = 3
REFERENCE_RMIA_IMAGES = 2000
"""The authors' RMIA costs the product of its sets; they too draw a part of CelebA."""


def make_predictions(num_images: int, seed: int, memorised: tuple[str, ...]) -> pd.DataFrame:
    """Predictions as ``oneshui.predict`` gives them, 60/20/20 as the benchmark splits.

    Args:
        num_images: Of the whole dataset.
        seed: Of the model; the labels are the same for all.
        memorised: Sets on which the model's logits lean more to the labels.
    """
    of_data, of_model = np.random.default_rng(0), np.random.default_rng(seed)
    identity = np.arange(num_images) // IMAGES_PER_IDENTITY
    names = np.where(identity % 5 < 3, "retain", np.where(identity % 5 == 3, "val", "test"))
    names = names.astype(object)
    forget = np.unique(identity[names == "retain"])[:NUM_FORGET]
    names[np.isin(identity, forget)] = "forget"
    names[np.searchsorted(identity, forget)] = "support"
    labels = (of_data.random((num_images, NUM_ATTRIBUTES)) < 0.25).astype(np.float32)
    lean = np.where(np.isin(names, memorised), 3.0, 1.0)[:, None]
    noise = of_model.normal(size=labels.shape, scale=2)
    logits = (lean * (2 * labels - 1) + noise).astype(np.float32)
    return pd.DataFrame(
        {
            "set": names,
            "image": np.arange(num_images),
            "identity": identity,
            "loss": np.logaddexp(0, logits * (1 - 2 * labels)).mean(axis=1).astype(np.float32),
            "label": list(labels),
            "logits": list(logits),
        }
    )


def make_signals(target: Array, references: list[Array]) -> Signals:
    """Losses in several views: those of the stored predictions with a little noise."""
    noise = np.random.default_rng(len(target)).gamma(50, 0.02, size=(VIEWS, len(target)))
    return Signals(
        target=(target * noise).astype(np.float32),
        references=np.stack([(losses * noise).astype(np.float32) for losses in references]),
    )


def timed(seconds: dict[str, float], name: str, measure: Callable[[], Any]) -> Any:
    """What ``measure`` gives; its seconds are printed and noted."""
    start = time.perf_counter()
    result = measure()
    seconds[name] = time.perf_counter() - start
    print(f"{name:34}{seconds[name]:8.2f} s", flush=True)
    return result


def scores_of(predictions: pd.DataFrame) -> dict[str, float]:
    """The mAP of every set."""
    return {
        str(name): mean_average_precision(
            np.stack(part["logits"].to_list()), np.stack(part["label"].to_list())
        )
        for name, part in predictions.groupby("set")
    }


def measure_all(num_images: int) -> dict[str, float]:
    """Seconds of every measure of one model."""
    own = make_predictions(num_images, 1, ("retain", "forget"))
    retrained = make_predictions(num_images, 2, ("retain",))
    references = [make_predictions(num_images, 3 + k, ("retain",)) for k in range(REFERENCE_MODELS)]
    losses = {str(name): part["loss"].to_numpy() for name, part in own.groupby("set")}
    signals = {
        name: make_signals(
            losses[name],
            [other.loc[other["set"] == name, "loss"].to_numpy() for other in references],
        )
        for name in ("forget", "val", "test")
    }
    few = {
        name: Signals(
            target=part.target[:, :REFERENCE_RMIA_IMAGES],
            references=part.references[:, :, :REFERENCE_RMIA_IMAGES],
        )
        for name, part in signals.items()
    }
    features = np.random.default_rng(0).random((num_images // 2, NUM_FEATURES), dtype=np.float32)
    identity_of_feature = own["identity"].to_numpy()[: len(features)]

    seconds: dict[str, float] = {}
    scores = timed(seconds, "scores of all sets", lambda: scores_of(own))
    theirs = timed(seconds, "scores of the retrained model", lambda: scores_of(retrained))
    timed(
        seconds,
        "ToW, gaps, NoMUS",
        lambda: (
            normalised_tow(tow(scores, theirs), 0.5),
            signed_gaps(scores, theirs),
            tow_with_mia(scores, theirs, 0.6, 0.5),
            nomus(scores["test"], attack_accuracy(losses["forget"], losses["test"], seed=0)),
        ),
    )
    sets: dict[str, Any] = {name: losses[name] for name in ("retain", "val", "forget", "test")}
    timed(seconds, "loss MIA, forest", lambda: loss_mia(**sets, seed=0))
    timed(
        seconds,
        "loss MIA, reference's forests",
        lambda: loss_mia(**sets, seed=0, variant="reference"),
    )
    timed(seconds, "loss MIA, threshold", lambda: threshold_auc(losses["forget"], losses["test"]))
    tuned = timed(
        seconds,
        "RMIA, tuning of a",
        lambda: tune_offline_a(
            members=signals["forget"], nonmembers=signals["test"], population=signals["val"]
        ),
    )
    attack = timed(
        seconds,
        "RMIA",
        lambda: rmia(
            forget=signals["forget"],
            nonmembers=signals["test"],
            population=signals["val"],
            a=tuned.a,
        ),
    )
    timed(
        seconds,
        f"RMIA, reference's, {REFERENCE_RMIA_IMAGES} images",
        lambda: rmia(
            forget=few["forget"],
            nonmembers=few["val"],
            population=few["test"],
            variant="reference",
        ),
    )
    pair = attack.forget_scores, attack.nonmember_scores
    timed(seconds, "ROC", lambda: log_log_points(*pair))
    table = timed(
        seconds,
        "per identity, with JS, all images",
        lambda: per_identity(own, retrained, task="multilabel"),
    )
    names, centres = timed(seconds, "centroids", lambda: centroids(features, identity_of_feature))
    gaps = table["gap"].to_numpy()[: len(names)]
    timed(
        seconds,
        "support hardness and retain drop",
        lambda: (
            support_hardness(centres[1 : NUM_FORGET + 1], centres[:NUM_FORGET], gaps[:NUM_FORGET]),
            retain_drop(centres[NUM_FORGET:], centres[:NUM_FORGET], gaps[NUM_FORGET:]),
        ),
    )
    return seconds


def compare(num_images: int) -> dict[str, float]:
    """How many times faster than the obvious way, on what the obvious way can do in seconds."""
    generator = np.random.default_rng(0)
    size = min(num_images, 20_000)
    logits = generator.normal(size=(size, NUM_ATTRIBUTES)).astype(np.float32)
    labels = generator.integers(0, 2, size=logits.shape)
    x, z = generator.gamma(2.0, size=(2, VIEWS, min(num_images, 2000)))
    losses = generator.gamma(2.0, 0.3, size=size).astype(np.float32)
    is_member = (generator.random(size) < 0.8).astype(np.int64)
    p, q = generator.normal(size=(2, min(num_images, 500), NUM_ATTRIBUTES))
    parts: dict[str, Any] = {
        name: Signals(target=losses, references=losses[None] * 1.1)
        for name, losses in (("forget", x), ("nonmembers", x), ("population", z))
    }

    def rmia_by_matrix() -> list[float]:
        areas = []
        for _ in range(2):
            of_x, of_z = (
                np.exp(-losses) / ((1.3 * np.exp(-1.1 * losses) + 0.7) / 2) for losses in (x, z)
            )
            beats = of_x[:, :, None] / of_z[:, None, :] > 1
            areas.append(float(beats.mean(axis=2).mean()))
        return areas

    def coin_by_coin() -> list[float]:
        totals = []
        for row, other in zip(p, q, strict=True):
            total = 0.0
            for a, b in zip(1 / (1 + np.exp(-row)), 1 / (1 + np.exp(-other)), strict=True):
                for u, v in ((a, b), (1 - a, 1 - b)):
                    total += (u * np.log2(2 * u / (u + v)) + v * np.log2(2 * v / (u + v))) / 2
            totals.append(total / NUM_ATTRIBUTES)
        return totals

    ways: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        f"AP, {size} images, sklearn": (
            lambda: average_precisions(logits, labels),
            lambda: [
                average_precision_score(labels[:, c], logits[:, c]) for c in range(NUM_ATTRIBUTES)
            ],
        ),
        f"RMIA, {x.shape[1]} x {z.shape[1]}, matrix": (
            lambda: rmia(**parts, a=0.3),
            rmia_by_matrix,
        ),
        f"loss forest, {size}, sklearn": (
            lambda: forest_votes(losses, is_member, losses[:200], trees=10, seed=0),
            lambda: (
                RandomForestClassifier(10, random_state=0, n_jobs=1)
                .fit(losses[:, None], is_member)
                .predict_proba(losses[:200, None])
            ),
        ),
        f"JS, {len(p)} images, loop": (lambda: js_divergence(p, q, "multilabel"), coin_by_coin),
    }
    ratios = {}
    for name, (ours, plain) in ways.items():
        seconds: dict[str, float] = {}
        for who, way in (("ours", ours), ("plain", plain)):
            start = time.perf_counter()
            way()
            seconds[who] = time.perf_counter() - start
        ratios[name] = round(seconds["plain"] / seconds["ours"], 1)
        print(f"{name:34}{ratios[name]:8.1f} x", flush=True)
    return ratios


def main(arguments: list[str]) -> int:
    """Run; the exit status is 0 if the bar is met."""
    num_images = 200_000
    if arguments:
        if len(arguments) != 2 or arguments[0] != "--images" or not arguments[1].isdigit():
            print(f"usage: {sys.argv[0]} [--images NUMBER]", file=sys.stderr)
            return 2
        num_images = int(arguments[1])
    seconds = measure_all(num_images)
    total = sum(seconds.values())
    print(f"{'all measures':34}{total:8.2f} s\n")
    ratios = compare(num_images)
    result = {
        "benchmark": "measures",
        "ratio": round(LIMIT_SECONDS / total, 2),
        "bar": 1.0,
        "ok": total <= LIMIT_SECONDS,
        "images": num_images,
        "attributes": NUM_ATTRIBUTES,
        "total_seconds": round(total, 2),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "times_faster_than_plain": ratios,
    }
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
