"""Intervals over people: how often they hold the truth, and what the resamples cost.

    uv run python benchmarks/people.py [--repetitions 1000]

Attacks on made-up people whose images are alike: every person has an effect of his own, and the
images of the person share it. Prints, for several settings, how often the 95 % interval of the AUC
holds the true value: the interval of the results, plain percentiles of the same resamples, and the
interval of resampled images, as if they were independent; then seconds of one row's resamples at
the demo's size and at 20,000 test images. The last line is one JSON object. The bar: 93 to 97 %
with 10 people or more, 0.15 s and 5 s.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import numpy.typing as npt
import pandas as pd

from oneshui.attacks.roc import auc
from oneshui.metrics.resampling import draws, interval, resampled, resampled_aucs

Array = npt.NDArray[Any]
LARGE = 200_000
NUM_ATTRIBUTES = 40


@dataclass(frozen=True, kw_only=True)
class Population:
    """Scores of an attack on people whose images are alike.

    Attributes:
        people: Members, every one with 1 image and a Poisson number more.
        others: Non-members.
        images: Images of a person, on average.
        shift: Mean score of members minus that of non-members, in standard deviations of a score.
        share: Of the variance that is between people, in [0, 1].
        effects: Distribution of the people's effects.
    """

    people: int
    others: int
    images: float = 7.0
    shift: float = 0.7
    share: float = 0.4
    effects: Literal["normal", "skewed"] = "normal"

    def scores(
        self, people: int, images: float, shift: float, generator: np.random.Generator
    ) -> tuple[Array, Array]:
        """Scores [n] and whose they are [n]."""
        person = np.repeat(np.arange(people), 1 + generator.poisson(images - 1, people))
        if self.effects == "normal":
            effect = generator.standard_normal(people)
        else:
            effect = generator.exponential(size=people) - 1
        noise = generator.standard_normal(len(person))
        found = shift + np.sqrt(self.share) * effect[person] + np.sqrt(1 - self.share) * noise
        return found, person

    def true_auc(self) -> float:
        """That of very many people with one image each: whose an image is does not move it."""
        generator = np.random.default_rng(0)
        members, others = (
            self.scores(LARGE, 1.0, shift, generator)[0] for shift in (self.shift, 0.0)
        )
        return auc(members, others)


def coverage(population: Population, *, repetitions: int, seed: int = 0) -> dict[str, float]:
    """Share of 95 % intervals of the AUC that hold the true one.

    Args:
        population: Who is attacked.
        repetitions: Samples of people, each with its own resamples.
        seed: Of the samples.

    Returns:
        ``by_people``: the interval of the results; ``by_percentiles``: percentiles of the same
        resamples; ``by_images``: the interval when images are resampled. ``auc``: the truth.
    """
    generator = np.random.default_rng(seed)
    truth, held = population.true_auc(), {"by_people": 0, "by_percentiles": 0, "by_images": 0}
    for repetition in range(repetitions):
        members, of_members = population.scores(
            population.people, population.images, population.shift, generator
        )
        others, of_others = population.scores(population.others, population.images, 0.0, generator)
        value = auc(members, others)
        units = {
            "by_people": (of_members, of_others),
            "by_images": (np.arange(len(members)), np.arange(len(others))),
        }
        for name, pair in units.items():
            # Draws depend on who is there: other people in every repetition.
            counts = [
                draws(unit + 1_000_000 * repetition, of)
                for unit, of in zip(pair, ("forget", "test"), strict=True)
            ]
            if counts[0] is None or counts[1] is None:
                raise ValueError("a single person cannot be resampled")
            drawn = resampled_aucs(members, others, counts[0], counts[1])
            ends = interval(value, drawn, min(int(unit[-1]) + 1 for unit in pair))
            held[name] += ends is not None and ends[0] <= truth <= ends[1]
            if name == "by_people":
                low, high = np.percentile(drawn, [2.5, 97.5])
                held["by_percentiles"] += low <= truth <= high
    return {"auc": truth, **{name: count / repetitions for name, count in held.items()}}


def made_up(people: tuple[int, int], images: tuple[int, int], seed: int) -> pd.DataFrame:
    """Predictions on forget and test set; labels and people do not depend on the seed."""
    same, own = np.random.default_rng(0), np.random.default_rng(seed)
    parts = []
    for place, name in enumerate(("forget", "test")):
        labels = (same.random((images[place], NUM_ATTRIBUTES)) < 0.25).astype(np.float32)
        logits = own.normal(size=labels.shape).astype(np.float32)
        parts.append(
            pd.DataFrame(
                {
                    "set": name,
                    "image": np.arange(len(labels)),
                    "identity": np.arange(len(labels)) % people[place],
                    "loss": own.random(len(labels)),
                    "label": list(labels),
                    "logits": list(logits),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def seconds(people: tuple[int, int], images: tuple[int, int]) -> float:
    """Processor seconds of one row's resamples."""
    own, retrained = (made_up(people, images, seed) for seed in (1, 2))
    generator = np.random.default_rng(3)
    judged = generator.random(images[0]), generator.random(images[1])
    start = time.process_time()
    resampled(own, retrained, task="multilabel", retain_gap=0.01, votes=judged, membership=judged)
    return time.process_time() - start


def main() -> int:
    """Run; the exit status is 0 if the bars are met."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=1000)
    repetitions = parser.parse_args().repetitions
    settings = [
        Population(people=20, others=60, shift=0.0),
        Population(people=20, others=60),
        Population(people=20, others=60, effects="skewed"),
        Population(people=20, others=60, shift=1.5),
        Population(people=20, others=60, shift=2.3),
        Population(people=20, others=60, shift=3.0),
        Population(people=50, others=150),
        Population(people=50, others=150, shift=3.0),
        Population(people=10, others=60),
        Population(people=5, others=60),
    ]
    found = []
    for one in settings:
        shares = coverage(one, repetitions=repetitions)
        found.append({**dataclasses.asdict(one), **shares})
        print(
            f"{one.people:3} and {one.others:3} people, {one.effects:6}, AUC {shares['auc']:.3f}: "
            f"people {shares['by_people']:.3f}, percentiles {shares['by_percentiles']:.3f}, "
            f"images {shares['by_images']:.3f}",
            flush=True,
        )
    costs = {
        "140 and 640 images": seconds((20, 80), (140, 640)),
        "1,000 and 20,000 images": seconds((50, 1000), (1000, 20_000)),
    }
    for name, spent in costs.items():
        print(f"{name}: {spent:.2f} s")
    asked = [one["by_people"] for one in found if one["people"] >= 10]
    in_time = all(spent <= bar for spent, bar in zip(costs.values(), (0.15, 5.0), strict=True))
    ok = in_time and all(0.93 <= share <= 0.97 for share in asked)
    print(json.dumps({"benchmark": "people", "ok": ok, "coverage": found, "seconds": costs}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
