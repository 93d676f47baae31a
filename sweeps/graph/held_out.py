"""Which cells tune for which: held-out ones that no row reports, or each reported one for itself.

Pure: no torch, no Ray, no MLflow, no Hydra, no input or output.
"""

from __future__ import annotations

import dataclasses

from sweeps.graph.spec import Cell, Row, SweepSpec


def study_cells(sweep: SweepSpec, cell: Cell) -> tuple[Cell, ...]:
    """The cells that the studies of a reported cell's rows run on.

    Held-out ones vary everything, whatever the reported ones do: their split is their own.
    """
    if sweep.tuning.cells == "own":
        return (cell,)
    parts = sweep.tuning.parts
    return tuple(
        Cell(dataset=cell.dataset, num_forget=cell.num_forget, seed=seed)
        for seed in parts[sweep.turns[cell.seed] % len(parts)]
    )


def reserving_cells(sweep: SweepSpec, dataset: str) -> tuple[Cell, ...]:
    """The cells whose forgotten people no study may forget, in an order of their own."""
    if sweep.tuning.cells == "own":
        return ()
    reported = [cell for cell in sweep.cells if cell.dataset == dataset]
    further = [
        dataclasses.replace(cell, seed=seed)
        for cell in reported
        for seed in sweep.tuning.reserved_seeds
    ]
    # Those beside them whose people are chosen are reported as well.
    chosen = [dataclasses.replace(cell, choose=sweep.choose) for cell in [*reported, *further]]
    found = dict.fromkeys([*reported, *further, *chosen])
    return tuple(sorted(found, key=lambda cell: (cell.num_forget, cell.seed, cell.choose)))


def sizes_behind(sweep: SweepSpec, cell: Cell, row: Row) -> tuple[int, ...]:
    """The forget sizes without whose cells a row would run with other hyperparameters."""
    if row.objective is None or sweep.tuning.cells == "own":
        return (cell.num_forget,)
    return tuple(dict.fromkeys(c.num_forget for c in sweep.cells if c.dataset == cell.dataset))
