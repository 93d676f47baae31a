"""Links into MLflow's UI that show something: the right mode, and a saved view.

The form of a saved view is not documented; it was found by looking (MLflow 3.17). Where it cannot
be written, or another version does not read it, the plain link still works.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

_TAG = "mlflow.sharedViewState."
_MODE = {"workflowType": "machine_learning"}
_WRITTEN = 1_767_225_600_000
"""Milliseconds, which the UI insists on; one for all, so that equal views are equal tags."""
_CARD = 640
"""Height of a chart in pixels."""


@dataclass(frozen=True, kw_only=True)
class SavedView:
    """A way to look at an experiment.

    Attributes:
        key: In the link.
        name: As people read it.
        state: What the UI shall restore.
        is_chart: Whether the link opens the charts.
    """

    key: str
    name: str
    state: Mapping[str, Any]
    is_chart: bool = False


def table(key: str, name: str, columns: Sequence[str], order_by: str) -> SavedView:
    """Runs of the last grid as a table.

    Args:
        key: In the link.
        name: As people read it.
        columns: For example "params.method" and "metrics.tow".
        order_by: A column; the highest value comes first.
    """
    return SavedView(key=key, name=name, state=_state(columns, order_by))


def chart(
    key: str, name: str, sections: Mapping[str, Sequence[str]], order_by: str, search: str
) -> SavedView:
    """Runs as bars, one per run, each section so tall that the names of all of them are read.

    Args:
        key: In the link.
        name: As people read it.
        sections: Metrics by the heading over their charts; the first section is unfolded.
        order_by: A column.
        search: Which runs, in MLflow's language.
    """
    headings = [
        {
            "uuid": f"{key}-{place}",
            "name": heading,
            "display": place == 0,
            "isReordered": False,
            "deleted": False,
            "isGenerated": False,
            "columns": min(len(metrics), 2),
            "cardHeight": _CARD,
        }
        for place, (heading, metrics) in enumerate(sections.items())
    ]
    charts = [
        {
            "uuid": f"{key}-{metric}",
            "type": "BAR",
            "metricKey": metric,
            "displayName": metric,
            "metricSectionId": f"{key}-{place}",
            "runsCountToCompare": 50,
            "deleted": False,
            "isGenerated": False,
        }
        for place, metrics in enumerate(sections.values())
        for metric in metrics
    ]
    columns = [f"metrics.{metric}" for metrics in sections.values() for metric in metrics]
    state = {
        **_state(columns, order_by, search),
        "compareRunSections": headings,
        "compareRunCharts": charts,
        "isAccordionReordered": True,
    }
    return SavedView(key=key, name=name, state=state, is_chart=True)


def _state(
    columns: Sequence[str], order_by: str, search: str = "tags.grid = 'latest'"
) -> dict[str, Any]:
    return {
        "selectedColumns": [_quoted(column) for column in columns],
        "orderByKey": _quoted(order_by),
        "orderByAsc": False,
        "searchFilter": search,
        "runsHiddenMode": "SHOWALL",
    }


def _quoted(column: str) -> str:
    kind, _, name = column.partition(".")
    return f"{kind}.`{name}`"


def encode(view: SavedView) -> str:
    """The tag's value."""
    packed = base64.b64encode(zlib.compress(json.dumps(view.state).encode())).decode("ascii")
    document = {
        "name": view.name,
        "createdAt": _WRITTEN,
        "updatedAt": _WRITTEN,
        "state": f"deflate;{packed}",
    }
    return json.dumps(document)


def save(client: MlflowClient, experiment: Experiment, views: Sequence[SavedView]) -> None:
    """Write views that are not there yet.

    Raises:
        Exception: Whatever mlflow raises; links without the views still work.
    """
    for view in views:
        value = encode(view)
        if experiment.tags.get(_TAG + view.key) != value:
            client.set_experiment_tag(experiment.experiment_id, _TAG + view.key, value)


def link(experiment_id: str, view: SavedView | None = None) -> str:
    """Path of an experiment's page; without the mode it would show an empty list of traces."""
    query = dict(_MODE)
    if view is not None:
        query["viewStateShareKey"] = view.key
        if view.is_chart:
            query["compareRunsMode"] = "CHART"
    return f"/#/experiments/{experiment_id}/runs?{urlencode(query)}"


def run_link(experiment_id: str, run_id: str) -> str:
    """Path of one run's page."""
    return f"/#/experiments/{experiment_id}/runs/{run_id}?{urlencode(_MODE)}"
