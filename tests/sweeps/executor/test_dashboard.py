"""Ray's own dashboard: off unless asked for, and one sentence where it is not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from oneshui.errors import InputError
from sweeps.config import load
from sweeps.executor.tune import ray_cluster


def test_it_is_off_by_default_and_can_be_asked_for() -> None:
    assert not load(["sweep=smoke"]).cluster.dashboard
    assert load(["sweep=smoke", "cluster.dashboard=true"]).cluster.dashboard


def test_what_it_is_made_of_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What Python itself leaves where an import is known to fail.
    monkeypatch.setitem(sys.modules, "ray.dashboard.optional_deps", None)
    cluster = load(["sweep=smoke", "cluster.dashboard=true"]).cluster
    with pytest.raises(InputError, match="uv sync --extra cluster"), ray_cluster(cluster, tmp_path):
        pytest.fail("Ray was started")
