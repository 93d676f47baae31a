"""Requests that came one after the other: how each chain went, how many requests a row survives.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from oneshui.spec import Access
from sweeps.graph.plan import Plan, ResultRow
from sweeps.graph.sequence import Chain
from sweeps.report.findings import Finding
from sweeps.report.numbers import signed
from sweeps.report.results import Entries
from sweeps.report.sheets import write_csv
from sweeps.report.tables import request_title

SEQUENCE, REVERSALS, SURVIVAL = "sequence.csv", "reversals.csv", "survival.csv"
AT_ONCE = "at once"
"""The order of the chain of a single request."""
BY_TIME = (
    *("tow", "tow_nothing", "tow_mean", "forget_gap", "erosion", "erosion_test", "erosion_val"),
    *("retain_lost", "drift"),
)
"""What a chain's job says of every time, see ``sweeps.stages.sequences``."""
OF_A_CHAIN = ("noise_floor", "mia_first", "mia_first_retrained")
MEASURES = (*BY_TIME, "reversal_max", "reversal_mean", *OF_A_CHAIN, "survived", "batch_gap")
"""Columns of ``sequence.csv`` that are numbers of a chain."""

BLOCK = ["dataset", "num_forget"]
OF_A_LINE = [*BLOCK, "method", "keeps_support", "schedule"]
TITLES = (
    *("row", "tuned on", "requests", "survived", "± orders", "± seeds", "ToW at the end"),
    *("doing nothing", "mean ToW", "order spread", "batch gap", "erosion", "came back", "drift"),
    "MIA on the first (retrained)",
)
NOTE = (
    "Requests survived: the last request after which a row's ToW against a model retrained "
    "without those who have asked so far is at least the noise floor above doing nothing, and at "
    "most 1 point of the score on those who stay has been lost (to the pretrained or to the "
    "retrained model, whichever scores less). Erosion is the loss to the retrained one. Survival "
    "is looked at where there is a retrained model, and nowhere else: after {times} people. The "
    "noise floor is what two models retrained alike are apart in ToW. Mean over orders and seeds; "
    "± orders is the standard deviation over orders within a seed, ± seeds that of the seeds' "
    "means. Order spread is the same of the ToW at the end; batch gap what asking all at once has "
    "more than asking one after the other. Came back: the most that any group of people regained "
    "of what was forgotten of it, in % (100: as well known as ever). Drift: how far the weights "
    "went, in lengths of the way to retraining. MIA: AUC of the loss attack on those who asked "
    "first, at the end; 50 is chance. Scores, ToW and gaps in percent or points. Earlier support "
    "pictures are deleted before the next request{kept}; preparations are from before the first "
    "one and never refreshed: at the last of t requests they describe a model that is t - 1 "
    "requests old."
)
KEPT = ", except in rows marked + S, which keep them"


@dataclass(frozen=True, kw_only=True)
class SurvivalTable:
    """The lines of one dataset and forget size, as text.

    Attributes:
        title: Dataset and forget size in words.
        titles: Of the columns.
        lines: Their cells.
        note: How to read them.
    """

    title: str
    titles: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    note: str


def sequence_tables(plan: Plan, entries: Entries) -> dict[str, pd.DataFrame]:
    """What the finished chains say, by the names of files; nothing where the sweep has none.

    ``sequence.csv`` (``sequence_frame``), ``reversals.csv`` (``reversals_frame``) and
    ``survival.csv`` (``survival``).
    """
    if not any(row.chains for row in plan.results):
        return {}
    frame = sequence_frame(plan, entries)
    return {
        SEQUENCE: frame,
        REVERSALS: reversals_frame(plan, entries),
        SURVIVAL: survival(frame),
    }


def write(tables: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Write them as CSV, and ``sequence.parquet`` beside.

    Args:
        tables: From ``sequence_tables``.
        folder: Where to.
    """
    for name, table in tables.items():
        write_csv(table, folder / name)
    if SEQUENCE in tables:
        tables[SEQUENCE].to_parquet(folder / "sequence.parquet", index=False)


def _finished(plan: Plan, entries: Entries) -> Iterator[tuple[dict[str, Any], ResultRow, Chain]]:
    """Every finished chain with what tells it from others."""
    for row in plan.results:
        for chain in row.chains:
            if chain.score_key in entries:
                told = {
                    "dataset": row.cell.dataset,
                    "num_forget": row.cell.num_forget,
                    "seed": row.cell.seed,
                    "method": row.row.name,
                    "tuned_on": _tuned_on(row),
                    "schedule": chain.schedule,
                    "requests": chain.requests,
                    "people": chain.people,
                    "order": AT_ONCE if chain.order is None else str(chain.order),
                    "keeps_support": chain.keeps_support,
                }
                yield told, row, chain


def _tuned_on(row: ResultRow) -> str:
    if row.row.objective is None:
        return "no"
    people = row.row.tuned_in_steps_of
    return "one request" if people is None else f"{people} at a time"


def sequence_frame(plan: Plan, entries: Entries) -> pd.DataFrame:
    """A line for every finished chain and time at which it was compared with a retrained model.

    Returns:
        What tells chains apart; "forgotten" (people) and "request" (their number so far);
        "stale" (requests since the preparation; null without one); ``BY_TIME``; "reversal_max" and
        "reversal_mean" over groups forgotten before; ``OF_A_CHAIN``, "survived" (requests) and
        "batch_gap" (ToW when all ask at once minus the chain's at its end), the same in all
        lines of a chain; "job_key". Fractions; what is not defined is null.
    """
    rows = []
    for told, row, chain in _finished(plan, entries):
        value = entries[chain.score_key].value
        at_once = entries.get(row.chains[0].score_key)
        people = value["survived"]
        whole = {
            **{name: value[name] for name in OF_A_CHAIN},
            "survived": None if people is None else people // chain.people,
            "batch_gap": None if at_once is None else at_once.value["tow"][-1] - value["tow"][-1],
            "job_key": chain.score_key,
        }
        for place, forgotten in enumerate(value["times"]):
            request = forgotten // chain.people
            before = value["reversal"][place - 1] if place else []
            known = [share for share in before if share is not None]
            rows.append(
                {
                    **told,
                    "forgotten": forgotten,
                    "request": request,
                    "stale": request - 1 if row.row.access is Access.PREPARED else None,
                    **{name: value[name][place] for name in BY_TIME},
                    "reversal_max": max(known, default=None),
                    "reversal_mean": sum(known) / len(known) if known else None,
                    **whole,
                }
            )
    columns = [
        *("dataset", "num_forget", "seed", "method", "tuned_on", "schedule", "requests", "people"),
        *("order", "keeps_support", "forgotten", "request", "stale", *BY_TIME),
        *("reversal_max", "reversal_mean", *OF_A_CHAIN, "survived", "batch_gap", "job_key"),
    ]
    numbers = dict.fromkeys(columns[columns.index("stale") : -1], "float64")
    return pd.DataFrame(rows, columns=columns).astype(numbers)


def reversals_frame(plan: Plan, entries: Entries) -> pd.DataFrame:
    """The triangles: which share of what was forgotten of a group is back at a later time.

    Returns:
        What tells chains apart, "group" (people forgotten when the group had just been),
        "forgotten" (people at the later time) and "reversal", null where there was nothing to
        forget.
    """
    rows = []
    for told, _, chain in _finished(plan, entries):
        value = entries[chain.score_key].value
        for place, line in enumerate(value["reversal"]):
            for group, share in enumerate(line):
                times = {"group": value["times"][group], "forgotten": value["times"][place + 1]}
                rows.append({**told, **times, "reversal": share})
    columns = [
        *("dataset", "num_forget", "seed", "method", "tuned_on", "schedule", "requests", "people"),
        *("order", "keeps_support", "group", "forgotten", "reversal"),
    ]
    return pd.DataFrame(rows, columns=columns).astype({"reversal": "float64"})


def survival(frame: pd.DataFrame) -> pd.DataFrame:
    """A line for every row and schedule: means over its chains at their end, and their spreads.

    Args:
        frame: From ``sequence_frame``.

    Returns:
        Columns ``OF_A_LINE``, tuned_on, requests, chains (their number), survived, survived_orders
        and survived_seeds (standard deviations over orders within a seed and of the seeds' means),
        tow, tow_nothing, tow_mean, order_spread (as survived_orders, of the ToW), batch_gap,
        erosion, reversal_max, drift, mia_first, mia_first_retrained and times (people, as text).
    """
    rows = []
    for names, part in frame.groupby(OF_A_LINE, sort=False):
        ends = part[part["forgotten"] == part["num_forget"]]
        means = ("survived", "tow", "tow_nothing", "tow_mean", "batch_gap", "erosion", "drift")
        of_seeds = ends.groupby("seed")
        rows.append(
            {
                **dict(zip(OF_A_LINE, names, strict=True)),
                "tuned_on": ends["tuned_on"].iloc[0],
                "requests": ends["requests"].iloc[0],
                "chains": len(ends),
                **{name: ends[name].mean() for name in means},
                "survived_orders": of_seeds["survived"].std().mean(),
                "survived_seeds": of_seeds["survived"].mean().std(),
                "order_spread": of_seeds["tow"].std().mean(),
                **{n: ends[n].mean() for n in ("reversal_max", "mia_first", "mia_first_retrained")},
                "times": ", ".join(map(str, sorted(part["forgotten"].unique()))),
            }
        )
    columns = [
        *(*OF_A_LINE, "tuned_on", "requests", "chains", "survived", "survived_orders"),
        *("survived_seeds", "tow", "tow_nothing", "tow_mean", "order_spread", "batch_gap"),
        *("erosion", "reversal_max", "drift", "mia_first", "mia_first_retrained", "times"),
    ]
    return pd.DataFrame(rows, columns=columns)


def survival_tables(tables: Mapping[str, pd.DataFrame]) -> list[SurvivalTable]:
    """The survival of every row and schedule as text, one table per dataset and forget size.

    Args:
        tables: From ``sequence_tables``.
    """
    found = []
    for (dataset, size), part in _blocks(tables):
        times = max(part["times"], key=len)
        kept = KEPT if part["keeps_support"].any() else ""
        found.append(
            SurvivalTable(
                title=f"Requests one after the other: {request_title(dataset, size)}",
                titles=TITLES,
                lines=tuple(_line(one) for one in part.to_dict("records")),
                note=NOTE.format(times=times, kept=kept),
            )
        )
    return found


def _blocks(
    tables: Mapping[str, pd.DataFrame],
) -> Iterator[tuple[tuple[str, int], pd.DataFrame]]:
    if SURVIVAL in tables:
        for (dataset, size), part in tables[SURVIVAL].groupby(BLOCK, sort=False):
            yield (str(dataset), int(str(size))), part


def _line(one: Mapping[Any, Any]) -> tuple[str, ...]:
    attacked = (_number(100 * one[name]) for name in ("mia_first", "mia_first_retrained"))
    return (
        f"{one['method']}{' + S' if one['keeps_support'] else ''}",
        one["tuned_on"],
        one["schedule"],
        "-" if math.isnan(one["survived"]) else f"{one['survived']:.1f} of {one['requests']}",
        _number(one["survived_orders"]),
        _number(one["survived_seeds"]),
        *(_number(100 * one[name]) for name in ("tow", "tow_nothing", "tow_mean", "order_spread")),
        *(_signed(100 * one[name]) for name in ("batch_gap", "erosion", "reversal_max")),
        _number(one["drift"], 2),
        "{} ({})".format(*attacked),
    )


def _number(value: float, digits: int = 1) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _signed(value: float) -> str:
    return "-" if math.isnan(value) else signed(value)


def sequence_findings(tables: Mapping[str, pd.DataFrame]) -> Iterator[Finding]:
    """Which row survives the most requests of the finest schedule, of every dataset and size.

    Args:
        tables: From ``sequence_tables``.
    """
    for (dataset, size), part in _blocks(tables):
        finest = part[(part["requests"] == part["requests"].max()) & ~part["keeps_support"]]
        known = finest[finest["survived"].notna()]
        if not len(known) or finest["requests"].iloc[0] == 1:
            continue
        best = known.loc[known["survived"].idxmax()]
        requests, chains = int(best["requests"]), int(best["chains"])
        where = f"over {chains} {'chain' if chains == 1 else 'chains'} (orders and seeds)"
        if best["survived"] > 0:
            said = (
                f"Of {requests} requests one after the other {best['method']} survives the most, "
                f"{best['survived']:.1f} on average {where}."
            )
        else:
            said = f"No row survives any of {requests} requests one after the other, {where}."
        nothing = known.loc[known["survived"] == 0, "method"].tolist()
        sentences = [said]
        if nothing and best["survived"] > 0:
            sentences.append(f"None at all: {', '.join(nothing)}.")
        sentences.append(
            f"Looked at after {best['times']} people, where there are retrained models; a request "
            "between two of these times may have been the last."
        )
        yield Finding(
            title=f"Requests survived: {request_title(dataset, size)}", sentences=tuple(sentences)
        )
