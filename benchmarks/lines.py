"""Do the intervals of Figures 4 and 5 cover? People, seeds and trainings are drawn here.

    python benchmarks/lines.py [--repetitions 2000]

Draws people who stand in several seeds, seeds whose means differ, and two rows of which one is the
other trained again, and puts the points through the report's own fits. Prints by situation how
often each interval holds the truth, then one JSON object. The bar: 93 to 97 % for the report's
intervals; where people are fewer than 20 or log-normal, 93 % or more. The other two are what a
report without seed intercepts, or without people, would say.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import linregress, t

from sweeps.report.analyses import fits

Array = npt.NDArray[Any]

ROW, AGAIN = "row", "retrain_again"
LOW, HIGH = 0.93, 0.97
ENOUGH_PEOPLE = 20


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What a sweep's points are drawn from; every spread beside it is fixed.

    Attributes:
        people: Of the data set.
        per_seed: Of them in each seed.
        seeds: Number of seeds.
        same: Whether all seeds have the same people, as where a sweep varies the training alone.
        skewed: Whether distances and effects of people are log-normal, not normal.
        slope: True slope of retraining again, in outcome per unit of distance.
        more: How much steeper the row is.
    """

    people: int
    per_seed: int
    seeds: int
    same: bool = False
    skewed: bool = False
    slope: float = 0.0
    more: float = 0.0


SITUATIONS: dict[str, Situation] = {
    "10 people, one seed": Situation(people=10, per_seed=10, seeds=1),
    "15 people, 5 a seed": Situation(people=1000, per_seed=5, seeds=3),
    "20 people, one seed": Situation(people=20, per_seed=20, seeds=1),
    "20 people, skewed": Situation(people=20, per_seed=20, seeds=1, skewed=True),
    "20 people in all of 3 seeds": Situation(people=20, per_seed=20, seeds=3, same=True),
    "30 people, 20 a seed": Situation(people=30, per_seed=20, seeds=3),
    "30 people, skewed": Situation(people=30, per_seed=20, seeds=3, skewed=True),
    "100 people, 60 a seed": Situation(people=100, per_seed=60, seeds=5),
    "100 people, a trend": Situation(people=100, per_seed=60, seeds=5, slope=0.3, more=0.5),
    "200 people, 5 a seed": Situation(people=1000, per_seed=5, seeds=40),
}


def drawn(situation: Situation, generator: np.random.Generator) -> pd.DataFrame:
    """Points of both rows, as ``fits`` takes them.

    A person has a distance and an outcome of the own in every seed, which are independent of each
    other; a seed moves both together, so that seeds alone look like a trend.
    """
    of_people = generator.normal(size=(2, situation.people))
    if situation.skewed:
        of_people = np.exp(of_people)
    chosen = [
        generator.choice(situation.people, situation.per_seed, replace=False)
        for _ in range(1 if situation.same else situation.seeds)
    ]
    person = np.concatenate(chosen * (situation.seeds if situation.same else 1))
    seed = np.repeat(np.arange(situation.seeds), situation.per_seed)
    level = 2 * generator.normal(size=situation.seeds)[seed]
    distance = of_people[0, person] + level + 0.3 * generator.normal(size=len(person))
    common = of_people[1, person] + level
    points = {"dataset": "drawn", "num_forget": situation.per_seed, "seed": seed}
    parts = [
        pd.DataFrame(
            {
                **points,
                "method": method,
                "identity": person,
                "distance": distance,
                "gap": slope * distance + common + 0.7 * generator.normal(size=len(person)),
            }
        )
        for method, slope in (
            (ROW, situation.slope + situation.more),
            (AGAIN, situation.slope),
        )
    ]
    return pd.concat(parts, ignore_index=True)


def coverage(situation: Situation, repetitions: int, seed: int = 0) -> dict[str, float]:
    """How often 95 % intervals hold the true slope.

    Args:
        situation: What is drawn.
        repetitions: How often.
        seed: Of all draws.

    Returns:
        Shares in [0, 1] by interval: "slope" and "slope_minus_again" of ``fits``; "seeds pooled",
        one intercept for all seeds; "points as people", an intercept a seed and every point a
        person of its own.
    """
    generator = np.random.default_rng(seed)
    truth = situation.slope + situation.more
    truths = {"slope": truth, "slope_minus_again": situation.more}
    held: dict[str, list[bool]] = {}
    for _ in range(repetitions):
        points = drawn(situation, generator)
        fit = fits(points, "gap", {AGAIN}).set_index("method").loc[ROW]
        for name, true in truths.items():
            holds = fit[f"{name}_low"] <= true <= fit[f"{name}_high"]
            held.setdefault(name, []).append(bool(holds))
        row = points[points["method"] == ROW]
        x, y = (row[name].to_numpy() for name in ("distance", "gap"))
        by_seed = [values.reshape(situation.seeds, -1) for values in (x, y)]
        u, v = ((part - part.mean(axis=1, keepdims=True)).ravel() for part in by_seed)
        for name, (low, high) in (
            ("seeds pooled", _of_points(x, y, 1)),
            ("points as people", _of_points(u, v, situation.seeds)),
        ):
            held.setdefault(name, []).append(bool(low <= truth <= high))
    return {name: float(np.mean(values)) for name, values in held.items()}


def _of_points(x: Any, y: Any, intercepts: int) -> tuple[float, float]:
    """The textbook's interval of a slope, all points independent."""
    line = linregress(x, y)
    free, counted = len(x) - 1 - intercepts, len(x) - 2
    reach = t.ppf(0.975, free) * line.stderr * math.sqrt(counted / free)
    return line.slope - reach, line.slope + reach


def main() -> int:
    """Draw, measure, print."""
    given = sys.argv
    repetitions = int(given[given.index("--repetitions") + 1]) if "--repetitions" in given else 2000
    results, ok = {}, True
    for name, situation in SITUATIONS.items():
        results[name] = found = coverage(situation, repetitions)
        print(f"{name:30s}" + ", ".join(f"{k} {v:.3f}" for k, v in found.items()), flush=True)
        people = min(situation.people, situation.per_seed * situation.seeds)
        highest = HIGH if people >= ENOUGH_PEOPLE and not situation.skewed else 1.0
        ok &= all(LOW <= found[k] <= highest for k in ("slope", "slope_minus_again"))
    print(json.dumps({"benchmark": "lines", "ok": ok, "bar": [LOW, HIGH], "coverage": results}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
