"""Whether the packages are there whose files a sweep starts from: asked before anything else."""

from __future__ import annotations

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
