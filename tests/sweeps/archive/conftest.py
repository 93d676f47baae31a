"""Two finished sweeps that share most of their jobs; tests must not change them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.inline_sweep import InlineSweep, inline_sweep

ONE = (
    "sweep=smoke",
    "sweep.datasets=[synthetic_tiny]",
    "sweep.methods=[pretrain,retrain,retrain_again,ssd,gradient_ascent]",
    "+sweep.rows.retrain_again={method: retrain, reseed: 1}",
)
"""Rows that prepare and do not, two seeds."""
OTHER = (*ONE[:2], "sweep.methods=[pretrain,retrain,jit,ssd]", "sweep.rows.ssd.alpha=20.0")
"""One row more, two less, and one with another hyperparameter."""


@pytest.fixture(scope="session")
def one(tmp_path_factory: pytest.TempPathFactory) -> InlineSweep:
    return inline_sweep(tmp_path_factory.mktemp("one"), *ONE)


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> InlineSweep:
    return inline_sweep(tmp_path_factory.mktemp("other"), *OTHER)


def folder_of(sweep: InlineSweep) -> Path:
    """The output folder."""
    return sweep.env.logs.parent
