"""id-LiRA where the truth is known in closed form: how near its AUC is, and what intervals hold.

    uv run python benchmarks/likelihood.py [--draws 200]

Made-up people whose phi is normal over models: never seen, it has a mean of the person's own; seen
and unlearned, a mean that is ``shift`` higher, give or take ``unlike`` from person to person. The
likelihood ratio of whoever knows all this has AUC Phi(shift / sqrt 2), or with ``unlike`` the mean
over pairs of people of Phi(sqrt(d_i^2 + d_j^2) / 2). Prints for every setting the mean AUC of the
audit, its standard deviation, the mean width of the 95 % interval, how often it holds the truth
and how often it holds the audit's own mean; how often epsilon's bound is above the truth; and the
seconds of a whole audit. The last line is one JSON object. The bar, for equal shifts with 32 models
and 64 people: the truth in 90 to 98 % of the intervals, epsilon's bound above it in at most 5 %.

Where people's shifts differ an audit cannot know each person's, so that its AUC is a little below
that of somebody who does; with 8 models it is so for equal shifts too, and intervals are wide.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from oneshui.audits.likelihood import FPRS, audit, privacy_decisions

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A pool.

    Attributes:
        models: K.
        people: A.
        shift: Mean phi of unlearned people minus that of never seen ones, in standard deviations.
        unlike: Standard deviation over people of that difference.
        of_model: Standard deviation of what a model adds to everybody's phi.
    """

    models: int = 32
    people: int = 64
    shift: float = 0.0
    unlike: float = 0.0
    of_model: float = 0.0

    def draw(self, seed: int) -> tuple[Array, Array, Array, Array]:
        """Before, after, seen, asked."""
        random = np.random.default_rng(seed)
        order = [random.permutation(self.models) for _ in range(self.people)]
        seen = np.stack([places < self.models // 2 for places in order], axis=1)
        asked = np.stack([places < self.models // 4 for places in order], axis=1)
        level = 3 * random.standard_normal(self.people)
        gap = self.shift + self.unlike * random.standard_normal(self.people)
        own = self.of_model * random.standard_normal((2, self.models, 1))
        before, after = random.standard_normal((2, *seen.shape)) + own
        return before + level + 2 * seen, np.where(asked, after + level + gap, np.nan), seen, asked

    def true_auc(self) -> float:
        """Of the likelihood ratio of whoever knows every person's distribution."""
        random = np.random.default_rng(0)
        one, other = self.shift + self.unlike * random.standard_normal((2, 100_000))
        return float(norm.cdf(np.sqrt(one**2 + other**2) / 2).mean())

    def true_epsilon(self) -> float:
        """The largest that one of the audit's thresholds shows, of equal shifts."""
        return max(float(np.log(norm.sf(norm.isf(fpr) - abs(self.shift)) / fpr)) for fpr in FPRS)


SETTINGS = {
    "retrained": Setting(),
    "nearly forgotten": Setting(shift=0.3),
    "half forgotten": Setting(shift=1.0),
    "not forgotten": Setting(shift=2.0),
    "over-forgotten": Setting(shift=-1.0),
    "people unlike": Setting(shift=1.0, unlike=0.5),
    "models unlike": Setting(shift=1.0, of_model=0.3),
    "16 models, 32 people": Setting(models=16, people=32, shift=1.0),
    "8 models, 16 people": Setting(models=8, people=16, shift=1.0),
    "8 and 16, retrained": Setting(models=8, people=16),
}


def measured(setting: Setting, draws: int) -> dict[str, float]:
    """What the audits of so many draws say of a setting."""
    start = time.perf_counter()
    audit(*setting.draw(0), seed=0)
    seconds = time.perf_counter() - start
    found = [privacy_decisions(*setting.draw(seed), seed=seed) for seed in range(draws)]
    aucs = [one.auc() for one in found]
    value, low, high = np.array([(one.value, one.low, one.high) for one in aucs]).T
    truth, mean = setting.true_auc(), value.mean()
    epsilons = [one.epsilon(FPRS, delta=0.0) for one in found]
    bounds = [bound for bound in epsilons if bound is not None]
    return {
        "true_auc": truth,
        "mean_auc": float(mean),
        "spread": float(value.std(ddof=1)),
        "width": float((high - low).mean()),
        "holds_truth": float(((low <= truth) & (truth <= high)).mean()),
        "holds_own_mean": float(((low <= mean) & (mean <= high)).mean()),
        "epsilon": float(np.mean(bounds)) if bounds else float("nan"),
        "true_epsilon": setting.true_epsilon(),
        "epsilon_above": float(np.mean([bound > setting.true_epsilon() for bound in bounds]))
        if bounds
        else float("nan"),
        "seconds": seconds,
    }


def main() -> None:
    """Print a line for every setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--only", default="", help="settings whose name has this in it")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    titles = (
        "true",
        "mean",
        "spread",
        "width",
        "holds truth",
        "own mean",
        "epsilon",
        "true",
        "above",
    )
    print(f"{'':22}" + "".join(f"{title:>12}" for title in (*titles, "seconds")))
    for name, setting in SETTINGS.items():
        if arguments.only not in name:
            continue
        values = measured(setting, arguments.draws)
        results[name] = {**asdict(setting), **values}
        print(f"{name:22}" + "".join(f"{value:12.3f}" for value in values.values()), flush=True)
    print(json.dumps({"draws": arguments.draws, "settings": results}))


if __name__ == "__main__":
    main()
