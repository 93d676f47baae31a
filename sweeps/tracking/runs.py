"""Runs of one MLflow experiment that can be published again and again.

A run is found by tags that say what it is. What is there already, whole and equal, costs nothing;
what a crash left half is completed; of two runs that say the same one is deleted.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.tracking.client import is_server

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Experiment, Run

CONTENT = "oneshui.content"
"""Tag that is written with the last of a run's numbers: without it a run is not whole."""
ARTIFACTS = "mlartifacts"
PARENT = "mlflow.parentRunId"
LATEST, EARLIER = "latest", "earlier"
BATCH = 1000
"""Numbers that MLflow takes at once."""
SOURCE = {"mlflow.source.name": "launch.py", "mlflow.source.type": "LOCAL"}
COMMIT = "mlflow.source.git.commit"
GRID = "grid"
"""Tag that says whether the sweep, as it was last launched, contains the run."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a run shall say.

    Attributes:
        name: As people read it.
        tags: With those that identify it and ``CONTENT``.
        params: Never changed; a run with other ones is replaced.
        metrics: Finite numbers.
        inputs: Datasets.
        curves: Finite numbers by epoch, from epoch 1.
    """

    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    inputs: Sequence[DatasetInput] = ()
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def last(self) -> Mapping[str, float]:
        """The numbers that MLflow shows of the run: of a curve the last."""
        return {**self.metrics, **{name: values[-1] for name, values in self.curves.items()}}


@dataclass(frozen=True, kw_only=True)
class _Known:
    run_id: str
    is_finished: bool
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    has_inputs: bool


def experiment_named(client: MlflowClient, name: str, uri: str, output: Path) -> Experiment:
    """The experiment, created or taken out of the bin if need be.

    Args:
        client: Of the tracking store.
        name: Of the experiment.
        uri: The client's; where it is no server, artefacts go into the output folder.
        output: Folder of the sweep.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        place = None if is_server(uri) else (output / ARTIFACTS).as_uri()
        return client.get_experiment(client.create_experiment(name, artifact_location=place))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found


def all_runs(client: MlflowClient, experiment_id: str) -> list[Run]:
    """All runs of an experiment that are not deleted."""
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs([experiment_id], max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


class Runs:
    """The runs of an experiment that carry certain tags, by the values of these."""

    def __init__(
        self,
        client: MlflowClient,
        experiment_id: str,
        identity: Sequence[str],
        known: Iterable[Run],
    ) -> None:
        """Take over the runs that are there.

        Args:
            client: Of the tracking store.
            experiment_id: Of the experiment.
            identity: Names of the tags that tell runs apart; a run without the first is not ours.
            known: All runs of the experiment.
        """
        self._client = client
        self._experiment_id = experiment_id
        self._identity = tuple(identity)
        self._known: dict[tuple[str | None, ...], _Known] = {}
        for run in sorted(known, key=lambda run: run.info.start_time):
            tags = run.data.tags
            if self._identity[0] not in tags:
                continue
            key = tuple(tags.get(name) for name in self._identity)
            if key in self._known:
                # Made by a request whose answer never came.
                client.delete_run(run.info.run_id)
                continue
            self._known[key] = _Known(
                run_id=run.info.run_id,
                is_finished=run.info.status == "FINISHED",
                tags=tags,
                params=run.data.params,
                metrics=run.data.metrics,
                has_inputs=bool(run.inputs and run.inputs.dataset_inputs),
            )

    def put(self, wanted: Wanted) -> str:
        """Make a run say this, unless it does so already; returns its id."""
        from mlflow.entities import Metric, Param, RunTag

        key = tuple(wanted.tags[name] for name in self._identity)
        known = self._known.get(key)
        if known and known.is_finished and _says(known, wanted):
            return known.run_id
        if known and not _can_become(known, wanted):
            self._client.delete_run(known.run_id)
            known = None
        if known is None:
            tags = {k: v for k, v in wanted.tags.items() if k != CONTENT}
            run = self._client.create_run(self._experiment_id, tags=tags, run_name=wanted.name)
            run_id = str(run.info.run_id)
        else:
            run_id = known.run_id
        if wanted.inputs and not (known and known.has_inputs):
            self._client.log_inputs(run_id, datasets=list(wanted.inputs))
        now = int(time.time() * 1000)
        points = [(name, value, 0) for name, value in wanted.metrics.items()]
        for name, values in wanted.curves.items():
            points += [(name, value, epoch) for epoch, value in enumerate(values, start=1)]
        parts = [points[at : at + BATCH] for at in range(0, len(points), BATCH)]
        *whole, last = parts or [[]]
        for some in whole:
            self._client.log_batch(run_id, metrics=[Metric(n, v, now, at) for n, v, at in some])
        self._client.log_batch(
            run_id,
            metrics=[Metric(name, value, now, at) for name, value, at in last],
            params=[Param(name, value) for name, value in wanted.params.items()],
            # Those of a new run are there already but for the one that says that it is whole.
            tags=[
                RunTag(name, value)
                for name, value in wanted.tags.items()
                if known is not None or name == CONTENT
            ],
        )
        self._client.set_terminated(run_id, "FINISHED")
        self._known[key] = _Known(
            run_id=run_id,
            is_finished=True,
            tags=dict(wanted.tags),
            params=wanted.params,
            metrics=wanted.last,
            has_inputs=bool(wanted.inputs) or bool(known and known.has_inputs),
        )
        return run_id

    def set_aside(self, keys: set[tuple[str, ...]]) -> None:
        """Tag all runs but those with these identities as of an earlier grid."""
        for key, known in self._known.items():
            if key not in keys and known.tags.get(GRID) != EARLIER:
                self._client.set_tag(known.run_id, GRID, EARLIER)
                self._known[key] = _Known(
                    **{**known.__dict__, "tags": {**known.tags, GRID: EARLIER}}
                )


def _says(known: _Known, wanted: Wanted) -> bool:
    """Whether all that is wanted is there; a database may have changed since it was written."""
    return (
        wanted.tags.items() <= known.tags.items()
        and wanted.params.items() <= known.params.items()
        and wanted.last.items() <= known.metrics.items()
    )


def _can_become(known: _Known, wanted: Wanted) -> bool:
    """Params cannot change, and a metric that is no longer measured cannot be taken back."""
    changed = any(known.params.get(k, v) != v for k, v in wanted.params.items())
    return (
        not changed
        and known.params.keys() <= wanted.params.keys()
        and known.metrics.keys() <= wanted.last.keys()
    )
