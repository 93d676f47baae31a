"""Probes of the models of a cell: one job for every model and request, whichever rows ask for it.

Pure: no torch, no Ray, no MLflow, no Hydra, no input or output. A probe depends on one model and
on the request's pictures alone, so that of the retrained model serves every row; differences to it
are taken where results are gathered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from oneshui.spec import Role, TrainingSpec
from sweeps.graph.cells import Base, Graph, Request, cell_name
from sweeps.graph.spec import Cell, Row, SweepSpec

RELEARNING = (
    *("optimizer", "learning_rate", "momentum", "weight_decay", "batch_size", "clip_norm"),
)
"""Fields of the training's recipe that a model which learns again is trained with."""


@dataclass(frozen=True, kw_only=True)
class Probes:
    """Where what the probes say of a row comes from.

    Attributes:
        own: Keys of the probes of the row's models, one for every request.
        retrained: The same of the retrained model, on the same pictures.
        pretrained: The same of the pretrained model.
        again: The same of the model that was retrained again; empty without one.
        again_score: Job that measured the latter; None without one.
    """

    own: tuple[str, ...]
    retrained: tuple[str, ...]
    pretrained: tuple[str, ...]
    again: tuple[str, ...] = ()
    again_score: str | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """All of them."""
        score = () if self.again_score is None else (self.again_score,)
        return (*self.own, *self.retrained, *self.pretrained, *self.again, *score)


def probes_of(
    graph: Graph,
    sweep: SweepSpec,
    cell: Cell,
    base: Base,
    requests: Sequence[Request],
    rows: Sequence[tuple[Row, Sequence[str], str]],
) -> list[Probes]:
    """Add the probes of all rows of a cell.

    Args:
        graph: Where to add them.
        sweep: Says how models are trained.
        cell: Dataset, forget size and seed.
        base: The cell's own jobs.
        requests: Of the cell.
        rows: With the keys of their weights, one or one for every request, and of their score.
    """

    def probed(title: str, weights: Sequence[str]) -> tuple[str, ...]:
        each = list(weights) * len(requests) if len(weights) == 1 else weights
        return tuple(
            _probe(graph, sweep, cell, request, title, model)
            for request, model in zip(requests, each, strict=True)
        )

    again, again_score = tuple[str, ...](), None
    for row, weights, score in rows:
        if row.role is Role.RETRAIN_AGAIN:
            again, again_score = probed(row.name, weights), score
            break
    retrained = probed("retrain", [base.retrained])
    pretrained = probed("pretrain", [base.pretrained])
    return [
        Probes(
            own=probed(row.name, weights),
            retrained=retrained,
            pretrained=pretrained,
            again=again,
            again_score=again_score,
        )
        for row, weights, _ in rows
    ]


def _probe(
    graph: Graph, sweep: SweepSpec, cell: Cell, request: Request, title: str, weights: str
) -> str:
    training: TrainingSpec = sweep.training[cell.dataset]
    spec: dict[str, Any] = {
        "model": request.base.recipe["model"],
        "recipe": {name: getattr(training, name) for name in RELEARNING},
    }
    label = f"probe {title}{request.title} {cell_name(cell)}"
    return graph.add("probe", label, spec, weights=weights, **request.base.data)
