"""What a sweep is, as plain checked values. Pure: imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from oneshui.data.synthetic import FacesSpec
from oneshui.errors import InputError
from oneshui.spec import Access, ModelSpec, TrainingSpec, require

Layout = Literal["celebahq", "celeba", "mufac", "mufac_clean", "table"]
Preprocessing = Literal["corrected", "reference"]
SeedLevel = Literal["all", "split", "training", "unlearning", "support"]


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """A dataset by name.

    Attributes:
        name: How tables call it.
        layout: Whose on-disk layout it has.
        generate: How to draw it, when it is generated and not brought.
        path: Where it is, relative to the data folder; not part of any identity.
    """

    name: str
    layout: Layout
    generate: FacesSpec | None = None
    path: str = ""

    def __post_init__(self) -> None:
        drawn = ("celebahq", "celeba", "mufac")
        if self.generate is not None and self.layout not in drawn:
            raise InputError(
                f"datasets.{self.name} cannot be generated in the layout {self.layout!r}, only in "
                f"{', '.join(drawn)}"
            )


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One (dataset, forget size, seed), with its four seed levels.

    Attributes:
        dataset: Name of the dataset.
        num_forget: Identities in the request.
        seed: The integer that names the cell in tables.
        vary: What the seed varies; "all" is the paper's way.
        fixed_seed: The seed of everything else.
    """

    dataset: str
    num_forget: int
    seed: int
    vary: SeedLevel = "all"
    fixed_seed: int = 0

    def _seed(self, level: SeedLevel) -> int:
        return self.seed if self.vary in ("all", level) else self.fixed_seed

    @property
    def split_seed(self) -> int:
        """Seed of the split and of the choice of forget identities."""
        return self._seed("split")

    @property
    def support_seed(self) -> int:
        """Seed of the choice of support images."""
        return self._seed("support")

    @property
    def training_seed(self) -> int:
        """Seed of starting weights, shuffling and augmentation."""
        return self._seed("training")

    @property
    def unlearning_seed(self) -> int:
        """Seed of preparation and unlearning."""
        return self._seed("unlearning")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the comparative table: a method with its hyperparameters for one cell.

    Attributes:
        name: How the table calls the row; a method may have several.
        method: Name of the method.
        access: What the method may see when it unlearns.
        hyperparameters: All of them, defaults included.
        prepare: Those that the method's preparation depends on; None if it prepares nothing.
    """

    name: str
    method: str
    access: Access
    hyperparameters: Mapping[str, Any]
    prepare: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class SweepSpec:
    """A whole sweep.

    Attributes:
        name: Of the sweep.
        datasets: By name.
        cells: All combinations of dataset, forget size and seed.
        rows: The rows of every cell.
        model: The network.
        training: Recipe of pretraining and retraining, by dataset.
        preprocessing: "corrected" resizes with antialiasing; "reference" as the authors' code.
        views: Augmented views of a picture that the relative membership attack looks at.
        reference_copies: Whether that attack also uses the retrained model after the same
            one-shot unlearning as a reference.
    """

    name: str
    datasets: Mapping[str, DatasetSpec]
    cells: tuple[Cell, ...]
    rows: Mapping[Cell, tuple[Row, ...]]
    model: ModelSpec
    training: Mapping[str, TrainingSpec]
    preprocessing: Preprocessing = "corrected"
    views: int = 2
    reference_copies: bool = False

    def __post_init__(self) -> None:
        require(1 <= self.views <= 64, "sweep.views", self.views, "1 to 64")
        require(bool(self.cells), "sweep", self.name, "a sweep with at least one cell")
        if len(set(self.cells)) != len(self.cells):
            raise InputError("sweep.seeds, sweep.datasets or sweep.forget_sizes repeats a value")


@dataclass(frozen=True, kw_only=True)
class ClusterSpec:
    """Where jobs run.

    Attributes:
        mode: "local" starts Ray here; "existing" joins the cluster that the driver is on.
        workers: Jobs at the same time; 0 means one per processor (or per GPU share).
        cpus_per_worker: Processors reserved for each.
        gpus_per_worker: GPUs, or share of one, reserved for each.
    """

    mode: Literal["local", "existing"] = "local"
    workers: int = 0
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.workers <= 1024, "cluster.workers", self.workers, "0 to 1024")
        require(
            self.cpus_per_worker >= 1, "cluster.cpus_per_worker", self.cpus_per_worker, "1 or more"
        )
        require(
            0 <= self.gpus_per_worker <= 8,
            "cluster.gpus_per_worker",
            self.gpus_per_worker,
            "0 to 8",
        )


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where things are read and written; no part of any identity.

    Attributes:
        data_dir: Folder that contains the datasets.
        output_dir: Folder of this sweep.
        store_uri: Folder of the results; empty for ``<output_dir>/store``.
        tracking_uri: MLflow's; empty for a database in ``output_dir``.
    """

    data_dir: str = "data"
    output_dir: str = ""
    store_uri: str = ""
    tracking_uri: str = ""


@dataclass(frozen=True, kw_only=True)
class LaunchSpec:
    """All that one command asks for.

    Attributes:
        mode: "run" runs what is missing, "plan" only counts, "report" rebuilds the report, "ui"
            shows MLflow's pages, "why" says where a number comes from.
        sweep: What to compute.
        cluster: Where.
        places: Folders and addresses.
        command: The user's overrides, for messages that say how to go on.
        row: What mode "why" asks about: dataset, forget size, method and metric.
    """

    mode: Literal["run", "plan", "report", "ui", "why"]
    sweep: SweepSpec
    cluster: ClusterSpec
    places: Places
    command: tuple[str, ...] = field(default=())
    row: str = ""
