"""How complete the forgetting of a row is: a job per row, and per cell a network knowing nothing.

Pure: no torch, no Ray, no MLflow, no Hydra, no input or output.
"""

from __future__ import annotations

from collections.abc import Sequence

from sweeps.graph.cells import Base, Graph, cell_name
from sweeps.graph.spec import Cell, Row


def completeness_of(
    graph: Graph,
    cell: Cell,
    base: Base,
    row: Row,
    predictions: Sequence[str],
    strangers: Sequence[str],
    *,
    pretrained: str,
    retrained: str,
) -> str:
    """Add the job that says how complete a row's forgetting is.

    Args:
        graph: Where to add it.
        cell: Of the row.
        base: The cell's own jobs.
        row: What is measured.
        predictions: Keys of the evaluations of its models, one or one for each request.
        strangers: The same of models that were retrained without the cell's people.
        pretrained: The same of the pretrained model.
        retrained: The same of the retrained model.
    """
    # A model is no yardstick of itself.
    others = tuple(key for key in strangers if key not in predictions)
    return graph.add(
        "completeness",
        f"completeness {row.name} {cell_name(cell)}",
        {},
        {"predictions": tuple(predictions), "strangers": others},
        pretrained=pretrained,
        retrained=retrained,
        untrained=_untrained(graph, cell, base),
    )


def _untrained(graph: Graph, cell: Cell, base: Base) -> str:
    """What a network like the model with random weights says of the forget images."""
    spec = {"model": base.recipe["model"], "seed": cell.training_seed}
    return graph.add("untrained", f"untrained network {cell_name(cell)}", spec, **base.data)
