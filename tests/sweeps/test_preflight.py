"""What a method cannot do is said before anything trains."""

from __future__ import annotations

from pathlib import Path

import pytest
from inline_sweep import inline_sweep

from oneshui.errors import InputError
from sweeps.config import load
from sweeps.plan import expand
from sweeps.stages import preflight


def check(folder: Path, *overrides: str) -> None:
    """Preflight of a sweep whose datasets are indexed, as workers do it."""
    indexed = inline_sweep(
        folder, "sweep=smoke", "sweep.seeds=[0]", "sweep.methods=[pretrain]", *overrides[:1]
    )
    plan = expand(load(["sweep=smoke", "sweep.seeds=[0]", *overrides]).sweep)
    preflight(plan.jobs.values(), indexed.env)


def test_all_methods_of_the_smoke_sweep_pass(tmp_path: Path) -> None:
    check(tmp_path, "sweep.datasets=[synthetic_tiny_mufac]")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{method: scrub, divergence: bernoulli}", "scrub cannot be used here: .*bernoulli"),
        ("{method: pgu, entropy: bernoulli}", "pgu cannot be used here: .*'softmax'"),
    ],
)
def test_a_method_that_does_not_fit_the_task_is_refused(
    tmp_path: Path, row: str, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        check(
            tmp_path,
            "sweep.datasets=[synthetic_tiny_mufac]",
            f"+sweep.rows.wrong={row}",
            "sweep.methods=[wrong]",
        )
