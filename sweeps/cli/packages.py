"""What a sweep needs of packages and plugins, asked before anything else."""

from __future__ import annotations

from pathlib import Path

from oneshui.errors import InputError
from oneshui.plugins import require_outside
from sweeps.graph.launch import LaunchSpec
from sweeps.graph.spec import SweepSpec


def require_packages(sweep: SweepSpec) -> None:
    """Refuse a sweep whose faces or weights are in a package that is absent or another.

    Raises:
        InputError: Naming the package and how it is installed.
    """
    for dataset in sweep.datasets.values():
        if dataset.installed is not None:
            dataset.installed()
    if sweep.model.named_weights is not None:
        sweep.model.named_weights.path()


def require_free_columns(sweep: SweepSpec) -> None:
    """Refuse a plugin's measure that would stand in a column which is there already.

    Raises:
        InputError: Naming the column.
    """
    if not sweep.measures:
        return
    from sweeps.report.results import COLUMNS

    for key in sweep.measures:
        if key in COLUMNS:
            raise InputError(
                f"a plugin's measure is called {key!r}, which is a column of the results already: "
                "give it another key"
            )


def require_places_apart(spec: LaunchSpec) -> None:
    """Refuse training data and results in a plugin's folder, which methods may read.

    Raises:
        InputError: Naming the key.
    """
    places = spec.places
    said = {"output_dir": places.output_dir, "store.uri": places.store_uri}
    for name, dataset in spec.sweep.datasets.items():
        if dataset.generate is None:
            said |= {"data_dir": places.data_dir}
            said |= {f"datasets.{name}.path": str(Path(places.data_dir, dataset.path))}
    for key, place in said.items():
        if "://" not in place:
            require_outside(key, Path(place))
