"""What each knowledge buys: rows that were tuned alike but for what the choice may see.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd


def leak_cost(frame: pd.DataFrame) -> pd.DataFrame:
    """What each knowledge buys: ToW of the rows that were tuned under several objectives.

    Args:
        frame: From ``results_frame``; where there are several objectives, rows are called
            "<row>@<objective>".

    Returns:
        One row per objective: "objective", "n" (pairs of row and cell), mean and standard
        deviation of the ToW, and of the paired difference to support_only, in [0, 1]; "better"
        is the share of pairs in which it is above support_only. Empty without several objectives.
    """
    own = ["dataset", "num_forget", "seed", "method", "tuning", "tow"]
    tuned = frame[own].dropna(subset=["tuning", "tow"])
    names = zip(tuned["method"], tuned["tuning"], strict=True)
    tuned = tuned.assign(study=[name.removesuffix(f"@{objective}") for name, objective in names])
    index = ["dataset", "num_forget", "seed", "study"]
    wide = tuned.pivot_table(index=index, columns="tuning", values="tow")
    if "support_only" not in wide or wide.shape[1] < 2:
        return pd.DataFrame()
    rows = []
    for objective in wide.columns:
        is_base = objective == "support_only"
        values = wide[objective]
        gain = values - wide["support_only"]
        rows.append(
            {
                "objective": objective,
                "n": values.count(),
                "tow_mean": values.mean(),
                "tow_std": values.std(ddof=1),
                "gain_mean": gain.mean(),
                "gain_std": math.nan if is_base else gain.std(ddof=1),
                "better": math.nan if is_base else (gain.dropna() > 0).mean(),
            }
        )
    return pd.DataFrame(rows).sort_values("tow_mean", ascending=False, ignore_index=True)


def leak_cost_markdown(table: pd.DataFrame) -> str:
    """What ``leak_cost`` found, in Markdown, percent and points.

    Args:
        table: From ``leak_cost``, not empty.
    """
    lines = [
        "| objective | rows x cells | ToW | against support_only | ahead of it |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [f"| {' | '.join(texts)} |" for texts in leak_cost_lines(table)]
    return "\n".join(lines) + f"\n\n{LEAK_NOTE}\n"


def leak_cost_lines(table: pd.DataFrame) -> Iterator[list[str]]:
    """The same, one list of texts per objective.

    Args:
        table: From ``leak_cost``.
    """
    for row in table.to_dict("records"):
        is_base = row["objective"] == "support_only"
        yield [
            str(row["objective"]),
            str(row["n"]),
            _spread(row["tow_mean"], row["tow_std"], ""),
            "-" if is_base else _spread(row["gain_mean"], row["gain_std"], "+"),
            "-" if is_base else f"{100 * row['better']:.0f}%",
        ]


LEAK_NOTE = (
    "The same rows, tuned with the same points; only what the choice among them may see differs. "
    "support_only sees S, support_and_val also validation pictures, simulated nothing after "
    "deletion, oracle the gap to the retrained model, which nobody has who needs to unlearn. Mean "
    "± standard deviation over rows and cells; differences are paired, in points of ToW."
)


def _spread(mean: float, std: float, sign: str) -> str:
    text = f"{round(100 * mean, 1) + 0.0:{sign}.1f}"
    return text if pd.isna(std) else f"{text} ± {100 * std:.1f}"
