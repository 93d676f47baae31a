"""Do drawn faces say which method helps real people? Finished sweeps in one table.

    uv run python benchmarks/drawn_and_real.py runs/demo runs/demo_mufac runs/people

Takes output folders of finished sweeps, or their results.parquet. Prints a Markdown table, row by
sweep, of the mean gain in ToW over doing nothing (points, over seeds and then over datasets and
forget sizes, each counted alike) with the rank in it, of all rows that compete in two sweeps or
more; for every two sweeps Spearman's correlation of the gains of the rows that both have, with the
p of a permutation test, in a sentence; and how well the seeds of a sweep agree with each other,
above which no other sweep can be expected to agree with it. The last line is one JSON object.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import permutation_test, rankdata

from oneshui.errors import InputError
from sweeps.inference.comparisons import blocks
from sweeps.inference.rows import gains_over_nothing
from sweeps.inference.testing import ALPHA
from sweeps.report.numbers import signed

RESAMPLES = 100_000
"""Permutations, where there are more than so many; with up to 8 rows all of them are tried."""
FEWEST_ROWS = 4
"""Of which a correlation can have a p of .05 at all: of 3 rows there are 6 orders."""
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How alike two sweeps order their rows.

    Attributes:
        one: Name of the first sweep.
        other: Name of the second.
        rows: Number of rows that both have.
        spearman: Rank correlation of their gains; NaN with fewer rows than ``FEWEST_ROWS``, and
            where all rows of a sweep gain the same.
        p: Two-sided, by permuting rows.
    """

    one: str
    other: str
    rows: int
    spearman: float
    p: float

    @property
    def sentence(self) -> str:
        """What follows from it, and no more."""
        both = f"{self.rows} {'row' if self.rows == 1 else 'rows'} that {self.one} and {self.other}"
        if math.isnan(self.spearman):
            return f"Of the {both} have in common no order can be compared."
        found = f"Spearman {self.spearman:+.2f}, p {self.p:.2g}"
        if self.p > ALPHA:
            says = f"{self.one} is not shown to say which method is better on {self.other}"
        elif self.spearman > 0:
            says = f"{self.one} says something about which method is better on {self.other}"
        else:
            says = f"what is better on {self.one} is shown to be worse on {self.other}"
        return f"Over the {both} have in common, {says} ({found})."


def mean_gains(frame: pd.DataFrame) -> pd.Series[float]:
    """Mean gain in ToW over doing nothing of every row that competes, in points, by name.

    Args:
        frame: From ``sweeps.report.results.results_frame``.

    Returns:
        Over seeds, then over datasets and forget sizes; without rows that lack one of these.
    """
    means = [gains_over_nothing(rows).mean() for _, rows in blocks(frame)]
    table = pd.concat(means, axis=1) if means else pd.DataFrame()
    return 100 * table.dropna().mean(axis=1)


def centred_ranks(values: Array) -> Array:
    """Ranks, ties at their mean rank, scaled to length 1; NaN if all values are equal."""
    ranks: Array = rankdata(values) - (len(values) + 1) / 2
    length = np.linalg.norm(ranks)
    return ranks / length if length else np.full(len(ranks), math.nan)


def agreement(one: str, other: str, gains: Mapping[str, pd.Series[float]]) -> Agreement:
    """How alike two sweeps order the rows that both have."""
    common = pd.concat([gains[one], gains[other]], axis=1, join="inner")
    first, second = (centred_ranks(side) for side in common.to_numpy().T)
    found = float(first @ second) if len(common) >= FEWEST_ROWS else math.nan
    p = math.nan
    if not math.isnan(found):
        p = permutation_test(
            (first,),
            lambda permuted, axis: (permuted * second).sum(axis=axis),
            permutation_type="pairings",
            vectorized=True,
            n_resamples=RESAMPLES,
            rng=np.random.default_rng(0),
        ).pvalue
    return Agreement(one=one, other=other, rows=len(common), spearman=found, p=float(p))


def agreement_of_seeds(frame: pd.DataFrame) -> float:
    """Mean rank correlation of each seed's gains with the mean of the others', over all blocks.

    NaN where no dataset and forget size has two seeds and ``FEWEST_ROWS`` rows.
    """
    found = []
    for _, rows in blocks(frame):
        gains = gains_over_nothing(rows).dropna(axis="columns", how="all").dropna()
        if len(gains) > 1 and gains.shape[1] >= FEWEST_ROWS:
            for seed in gains.index:
                rest = gains.drop(index=seed).mean().to_numpy()
                own = gains.loc[seed].to_numpy()
                found.append(float(centred_ranks(own) @ centred_ranks(rest)))
    known = [value for value in found if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def table(gains: Mapping[str, pd.Series[float]]) -> pd.DataFrame:
    """Gain and rank among the table's rows, row by sweep, as text; rows of two sweeps or more."""
    joined = pd.concat(gains, axis=1)
    joined = joined[joined.notna().sum(axis=1) > 1]
    ranks = joined.rank(ascending=False)
    found = pd.DataFrame(index=joined.index)
    for name in joined:
        pairs = zip(joined[name], ranks[name], strict=True)
        found[str(name)] = [
            "-" if math.isnan(gain) else f"{signed(gain)} ({rank:g})" for gain, rank in pairs
        ]
    order = ranks.mean(axis=1).sort_values(kind="stable").index
    return found.loc[order]


def markdown(shown: pd.DataFrame) -> str:
    """A table of ``table`` as Markdown."""
    lines = [["row", *shown.columns], ["---", *["---:"] * shown.shape[1]]]
    rows = zip(shown.index, shown.to_numpy(), strict=True)
    lines += [[str(name), *values] for name, values in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def read(place: Path) -> pd.DataFrame:
    """The results of a finished sweep.

    Raises:
        InputError: There are none.
    """
    file = place / "report" / "results.parquet" if place.is_dir() else place
    try:
        return pd.read_parquet(file)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} cannot be read as the results of a sweep ({type(error).__name__}); name the "
            "output folder of a finished sweep, such as runs/demo"
        ) from None


def main(given: Sequence[str]) -> int:
    """Read, compare, print."""
    places = [Path(one) for one in dict.fromkeys(given)]
    try:
        if len(places) < 2:
            raise InputError("name the output folders of two finished sweeps or more")
        names = [it.name if it.is_dir() else str(it) for it in places]
        if len(set(names)) < len(names):
            names = list(map(str, places))
        frames = dict(zip(names, map(read, places), strict=True))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    gains = {name: mean_gains(frame) for name, frame in frames.items()}
    pairs = [agreement(one, other, gains) for one, other in itertools.combinations(frames, 2)]
    seeds = {name: agreement_of_seeds(frame) for name, frame in frames.items()}
    print(markdown(table(gains)))
    print()
    for pair in pairs:
        print(pair.sentence)
    for name, found in seeds.items():
        if not math.isnan(found):
            print(f"A seed of {name} and the mean of its other seeds: Spearman {found:+.2f}.")
    done = {"benchmark": "drawn_and_real", "pairs": [asdict(pair) for pair in pairs]}
    print(json.dumps({**done, "seeds": seeds, "gains": {k: dict(v) for k, v in gains.items()}}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
