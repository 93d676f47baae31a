"""One small sweep of two cells, and a study's first jobs: what tests of stages read and ask."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from support.inline_sweep import InlineSweep, inline_sweep
from support.pool import pool_sweep
from support.stage_contexts import Asked, moved, run_jobs
from torch import nn

from oneshui.enclosure import nursery
from oneshui.methods import base
from oneshui.requests import PrepareRequest, UnlearnRequest
from oneshui.spec import Access
from sweeps.config import load
from sweeps.graph.plan import Plan, expand

TINY = (
    "sweep.datasets=[synthetic_tiny]",
    "datasets.synthetic_tiny.crop_size=48",
    "sweep.seeds=[0,1]",
)


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> InlineSweep:
    """Two cells with their pretrained and retrained models, larger pictures for crops beside."""
    return inline_sweep(
        tmp_path_factory.mktemp("cells"),
        "sweep=leak_cost",
        "scale=toy",
        *TINY,
        "sweep.methods=[pretrain,retrain,retrain_again]",
    )


@pytest.fixture(scope="session")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> InlineSweep:
    """A sweep with a pool, and a cell whose people are chosen from it."""
    return pool_sweep(tmp_path_factory.mktemp("pool"))


@pytest.fixture(scope="session")
def study_plan() -> Plan:
    """A study over two held-out cells of a one-shot row, and of a row with full access."""
    return expand(
        load(
            [
                "sweep=leak_cost",
                "scale=toy",
                *TINY,
                "sweep.seeds=[2]",
                "sweep.methods=[ssd,scrub]",
                "tuning.rows=[ssd,scrub]",
                "tuning.seeds=[0,1]",
                "tuning.trials=2",
            ]
        ).sweep
    )


@pytest.fixture(scope="session")
def studied(cells: InlineSweep, study_plan: Plan) -> InlineSweep:
    """The cells' store with all that the study's needs, and both trials of the one-shot row run."""
    (ssd,) = [study for study in study_plan.studies if study.method == "ssd"]
    jobs = {**cells.plan.jobs, **study_plan.jobs}
    sweep = dataclasses.replace(cells, plan=dataclasses.replace(study_plan, jobs=jobs))
    trials = {key for study in study_plan.studies for key in study.trials}
    before = {key for trial in trials for key in study_plan.jobs[trial].needs} - trials
    retrained = [
        key
        for key, job in study_plan.jobs.items()
        if job.stage == "evaluate" and job.label.startswith("evaluate retrain")
    ]
    run_jobs(sweep, _with_inputs(study_plan, {*before, *retrained, *ssd.trials}))
    return sweep


def _with_inputs(plan: Plan, keys: set[str]) -> list[str]:
    """The jobs with all that they need, in the order of the plan."""
    found, waiting = set(keys), list(keys)
    for key in waiting:
        new = [other for other in plan.jobs[key].needs if other not in found]
        found.update(new)
        waiting += new
    return [key for key in plan.jobs if key in found]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Two methods for this test alone, and what they were asked.

    They run in this process, as where none can be forked: otherwise nobody heard what they hear.
    "curious" has a preparation, "nosy" full access; both move each weight a little.
    """
    base.names()
    monkeypatch.setattr(base.METHODS, "known", dict(base.METHODS.known))
    monkeypatch.setattr(nursery, "_can_fork", lambda: False)
    told = Asked()

    @dataclass(frozen=True, kw_only=True)
    class Listening:
        search_space: ClassVar[dict[str, base.Range]] = {}
        alpha: float = 1.0
        beta: float = 1.0

        def unlearn(self, request: UnlearnRequest) -> nn.Module:
            told.methods.append((self.alpha, self.beta))
            told.unlearn.append(request)
            told.does()
            return moved(request.model)

    @base.register
    @dataclass(frozen=True, kw_only=True)
    class Curious(Listening):
        name: ClassVar[str] = "curious"
        access: ClassVar[Access] = Access.PREPARED
        prepare_fields: ClassVar[tuple[str, ...]] = ()

        def prepare(self, request: PrepareRequest) -> dict[str, torch.Tensor]:
            told.prepare.append(request)
            return told.prepared

    @base.register
    @dataclass(frozen=True, kw_only=True)
    class Nosy(Listening):
        name: ClassVar[str] = "nosy"
        access: ClassVar[Access] = Access.FULL

    return told


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    """Where a stage that is called by itself writes."""
    folder = tmp_path / "draft"
    folder.mkdir()
    return folder
