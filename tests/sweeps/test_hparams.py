"""The table of published hyperparameters is usable as it stands."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from omegaconf import OmegaConf

from oneshui import methods
from oneshui.methods.base import hyperparameters
from sweeps.composition import CONF

KEYS = ("dataset", "num_forget", "method")
METHODS = {"ssd", "jit", "pgu", "metaunlearn", "scrub", "bad_teacher"}


def table() -> list[dict[str, Any]]:
    loaded: Any = OmegaConf.to_container(OmegaConf.load(CONF / "hparams" / "paper.yaml"))
    rows: list[dict[str, Any]] = loaded["rows"]
    return rows


def values(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in KEYS}


def sizes(dataset: str, method: str) -> list[int]:
    return [r["num_forget"] for r in table() if (r["dataset"], r["method"]) == (dataset, method)]


@pytest.mark.parametrize("row", table(), ids=lambda row: "-".join(str(row[key]) for key in KEYS))
def test_every_row_builds_and_says_at_least_one_thing(row: dict[str, Any]) -> None:
    built = hyperparameters(methods.build(row["method"], values(row)))
    assert values(row).items() <= built.items()
    assert values(row)
    assert row["num_forget"] >= 1


def test_a_combination_stands_there_once() -> None:
    counts = Counter(tuple(row[key] for key in KEYS) for row in table())
    assert max(counts.values()) == 1


@pytest.mark.parametrize(
    ("dataset", "grid"),
    [("celebahq", {20, 50}), ("celeba", {5, 10}), ("mufac", {5, 10})],
)
def test_the_grid_of_the_full_sweep_is_complete(dataset: str, grid: set[int]) -> None:
    assert {row["method"] for row in table() if row["dataset"] == dataset} == METHODS
    for method in METHODS:
        assert grid <= set(sizes(dataset, method)), method


def test_sizes_without_a_published_value_are_absent() -> None:
    assert sizes("celebahq", "ssd") == [1, 20, 50, 200]
    assert sizes("celeba", "pgu") == [1, 5, 10, 200]
    assert sizes("celebahq", "scrub") == [1, 20, 50, 200, 500]
    assert sizes("mufac", "bad_teacher") == [5, 10]
