"""What a sweep is, as plain checked values. Pure: imports nothing heavy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from oneshui.data import registry
from oneshui.errors import InputError
from oneshui.seeding import derive_seed
from oneshui.spec import (
    FACES_LAYOUTS,
    Access,
    FacesSpec,
    ModelSpec,
    Range,
    Role,
    TrainingSpec,
    Walk,
    require,
)
from sweeps.graph.audits import POOL_SEED, AuditSpec, Choose
from sweeps.graph.job import STAGE_VERSION, Stage
from sweeps.graph.orders import SequenceSpec

Preprocessing = Literal["corrected", "reference"]
SeedLevel = Literal["all", "split", "training", "unlearning", "support", "nested"]


AT_MOST_ONE_GPU = "0 to 1, a share of one GPU: no job computes on two"
"""What a share of a GPU may be, in words."""


@dataclass(frozen=True, kw_only=True)
class StageResources:
    """What the jobs of a stage get; None leaves the worker's default.

    Attributes:
        cpus: Processors.
        gpus: Share of one GPU, 0 to 1.
        memory_gb: Main memory in 2**30 bytes.
    """

    cpus: int | None = None
    gpus: float | None = None
    memory_gb: float | None = None

    def __post_init__(self) -> None:
        require(self.cpus is None or self.cpus >= 1, "cpus", self.cpus, "1 or more")
        require(0 <= (self.gpus or 0.0) <= 1, "gpus", self.gpus, AT_MOST_ONE_GPU)
        memory = self.memory_gb
        require(memory is None or memory >= 0, "memory_gb", memory, "0 or more")


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """A dataset by name.

    Attributes:
        name: How tables call it.
        layout: Whose on-disk layout it has, a name of ``oneshui.data.registry``.
        forget_sizes: Of the cells, where the sweep names none.
        generate: How to draw it, when it is generated and not brought.
        training: What its training changes of the sweep's recipe, keys of ``sweep.training``.
        crop_size: Side in pixels of the decoded pictures that random crops are cut from; None
            for the network's input size, which loses the detail of small crops.
        walk: How its people are split; None for the layout's own way.
        path: Where it is, relative to the data folder; not part of any identity.
        resources: What jobs of a stage get on this dataset; not part of any identity either.
    """

    name: str
    layout: str
    forget_sizes: tuple[int, ...] = ()
    generate: FacesSpec | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    crop_size: int | None = None
    walk: Walk | None = None
    path: str = ""
    resources: Mapping[Stage, StageResources] = field(default_factory=dict)

    def __post_init__(self) -> None:
        installed = registry.get(self.layout).installed
        if self.path and installed is not None:
            raise InputError(
                f"path is {self.path!r}, but pictures in the layout {self.layout!r} are those of "
                "an installed package: leave path out, or choose the layout 'table'"
            )
        if self.generate is not None and self.layout not in FACES_LAYOUTS:
            raise InputError(
                f"faces cannot be drawn in the layout {self.layout!r}, only in "
                f"{', '.join(FACES_LAYOUTS)}"
            )

    @property
    def split_walk(self) -> Walk:
        """How its people are split."""
        return self.walk or registry.get(self.layout).walk

    @property
    def credit(self) -> str:
        """Whose pictures they are, to be said where they are; empty if nobody asks for it."""
        return registry.get(self.layout).credit

    @property
    def loader(self) -> str:
        """Hash over the code that reads it; empty for what ships."""
        return registry.get(self.layout).source

    @property
    def installed(self) -> Callable[[], Path] | None:
        """Finds its pictures in the package that brings them; None if none does."""
        return registry.get(self.layout).installed


@dataclass(frozen=True, kw_only=True)
class NestedSpec:
    """How often what follows a training is done again, where ``vary`` is "nested".

    The trainings are the sweep's seeds, each with split, support pictures and models of its own.

    Attributes:
        unlearning: Unlearnings of every trained model, their preparation included.
        evaluation: Evaluations of each of those: what its attacks draw.
    """

    unlearning: int = 2
    evaluation: int = 2

    def __post_init__(self) -> None:
        for name in ("unlearning", "evaluation"):
            value = getattr(self, name)
            require(1 <= value <= 100, f"sweep.nested.{name}", value, "1 to 100")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One (dataset, forget size, seed), with its four seed levels.

    Attributes:
        dataset: Name of the dataset.
        num_forget: Identities in the request.
        seed: The integer that names the cell in tables.
        vary: What the seed varies; "all" is the paper's way.
        fixed_seed: The seed of everything else.
        choose: Whether the seed draws the people who are forgotten, or memorisation says who.
        again: Which of the unlearnings of one training, from 0; others than 0 where seeds are
            nested, and never among a sweep's cells.
    """

    dataset: str
    num_forget: int
    seed: int
    vary: SeedLevel = "all"
    fixed_seed: int = 0
    choose: Choose = "random"
    again: int = 0

    @property
    def title(self) -> str:
        """As labels name it."""
        chosen = "" if self.choose == "random" else f" {self.choose}"
        again = f" u{self.again}" if self.again else ""
        return f"{self.dataset} n{self.num_forget} s{self.seed}{chosen}{again}"

    def _seed(self, level: SeedLevel) -> int:
        return self.seed if self.vary in ("all", "nested", level) else self.fixed_seed

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
        seed = self._seed("unlearning")
        return derive_seed(seed, "unlearning again", self.again) if self.again else seed


TuningObjective = Literal["support_only", "support_and_val", "simulated", "oracle"]
OBJECTIVES: tuple[TuningObjective, ...] = get_args(TuningObjective)
BEYOND_SUPPORT: frozenset[TuningObjective] = frozenset({"support_and_val", "oracle"})
"""Objectives that see more than S after deletion: their rows are marked and never ranked."""
Sampler = Literal["tpe", "random", "grid", "cmaes", "gp"]
Profile = Literal["paper", "reference", "tuned"]
TuningCells = Literal["held_out", "own"]
ValuesFrom = Literal["tuned", "published", "given", "truth_in_view"]
HELD_OUT_SEED = 1000
"""The first seed that studies run on where none is named.

Fixed, and not the next after the reported ones, so that whoever reports one more seed need not
tune anew for that alone; far from 0, where people begin to count the seeds that they report.
"""


@dataclass(frozen=True, kw_only=True)
class TuningSpec:
    """How hyperparameters are found.

    Attributes:
        objectives: What a choice may see; several of them make a row each.
        cells: "held_out" runs studies on seeds that are never reported, "own" tunes every reported
            cell by a study of its own.
        trials: Points of every study, the defaults and doing nothing included.
        batch: Trials that are drawn together, knowing the results of the batches before.
        seeds: Of held-out cells; None for as many as there are studies, from 1000 on.
        studies: Independent studies of each row, which share ``seeds`` out among them in equal
            parts; reported seeds take turns, so that their spread holds that of tuning.
        reserved_seeds: Further seeds that will be reported one day: who is forgotten there stays
            out of what studies forget, so that they need not run again then.
        sampler: Which of Optuna's proposes the points.
        requests: Simulated requests per trial and cell.
        carried: Trials that are run on the real request, beside doing nothing and, if they are
            shown to gain, the defaults.
        true_tow: Whether to compute the true ToW of every trial afterwards, for the report alone.
    """

    objectives: tuple[TuningObjective, ...] = ("support_only",)
    trials: int = 24
    batch: int = 4
    cells: TuningCells = "held_out"
    seeds: tuple[int, ...] | None = None
    studies: int = 1
    reserved_seeds: tuple[int, ...] = ()
    sampler: Sampler = "tpe"
    requests: int = 4
    carried: int = 5
    true_tow: bool = True

    def __post_init__(self) -> None:
        require(1 <= self.trials <= 10_000, "tuning.trials", self.trials, "1 to 10000")
        require(1 <= self.batch <= 1000, "tuning.batch", self.batch, "1 to 1000")
        self._check_cells()
        require(1 <= self.requests <= 64, "tuning.requests", self.requests, "1 to 64")
        require(1 <= self.carried <= 1000, "tuning.carried", self.carried, "1 to 1000")
        require(bool(self.objectives), "tuning.objective", list(self.objectives), "at least one")

    def _check_cells(self) -> None:
        for name, held_out in (("seeds", None), ("studies", 1), ("reserved_seeds", ())):
            value = getattr(self, name)
            if self.cells == "own" and value != held_out:
                raise InputError(
                    f"tuning.{name} is {_shown(value)}, but with tuning.cells=own every reported "
                    "cell is tuned by a study of its own; leave it out, or say "
                    "tuning.cells=held_out"
                )
        for name in ("seeds", "reserved_seeds"):
            seeds = getattr(self, name) or ()
            if len(set(seeds)) != len(seeds) or any(seed < 0 for seed in seeds):
                raise InputError(
                    f"tuning.{name} is {list(seeds)}: name each seed once, from 0 upwards"
                )
        require(1 <= self.studies <= 100, "tuning.studies", self.studies, "1 to 100")
        if self.seeds is not None:
            require(bool(self.seeds), "tuning.seeds", list(self.seeds), "at least one seed")
            require(
                len(self.seeds) % self.studies == 0,
                "tuning.studies",
                self.studies,
                f"a divisor of {len(self.seeds)}, the number of tuning.seeds, which it shares out",
            )

    @property
    def parts(self) -> tuple[tuple[int, ...], ...]:
        """The held-out seeds of each study."""
        last = HELD_OUT_SEED + self.studies
        seeds = self.seeds or tuple(range(HELD_OUT_SEED, last))
        each = len(seeds) // self.studies
        return tuple(seeds[start : start + each] for start in range(0, len(seeds), each))

    @property
    def where(self) -> str:
        """What studies run on, in words."""
        if self.cells == "own":
            return "a study of its own for every reported cell"
        seeds = [str(seed) for part in self.parts for seed in part]
        title = f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)}, never reported"
        return title if self.studies == 1 else f"{title}, in {self.studies} independent studies"


def _shown(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the comparative table: a method with its hyperparameters for one cell.

    Attributes:
        name: How the table calls the row; a method may have several.
        method: Name of the method.
        role: What the row stands for.
        access: What the method may see when it unlearns.
        source: Hash over the method's code, ``oneshui.sources``.
        hyperparameters: All of them, defaults included.
        prepare: Those that the method's preparation depends on; None if it prepares nothing.
        nothing: Hyperparameters at which the method does nothing; None if none are known.
        space: What a study varies; empty if the hyperparameters are used as they are.
        objective: What the study's choice may see; None without a study.
        tuned_in_steps_of: People at a time, where the study's requests are served one after the
            other; None where each is served as a whole.
        is_published: Whether all that was said of the hyperparameters is published values.
        truth_in_view: Whether somebody looked at reported cells' retrained models when they found
            the hyperparameters, a study's defaults included.
    """

    name: str
    method: str
    role: Role
    access: Access
    source: str
    hyperparameters: Mapping[str, Any]
    prepare: Mapping[str, Any] | None
    nothing: Mapping[str, float | int] | None = None
    space: Mapping[str, Range] = field(default_factory=dict)
    objective: TuningObjective | None = None
    tuned_in_steps_of: int | None = None
    is_published: bool = False
    truth_in_view: bool = False

    @property
    def hyperparameters_from(self) -> ValuesFrom | None:
        """Where the hyperparameters come from; None where there is nothing to be chosen."""
        if self.role is not Role.METHOD:
            return None
        if self.truth_in_view:
            return "truth_in_view"
        if self.objective is not None:
            return "tuned"
        return "published" if self.is_published else "given"

    @property
    def study(self) -> str:
        """The row's name without the objective that tells it from others of its study."""
        return self.name if self.objective is None else self.name.removesuffix(f"@{self.objective}")

    @property
    def fixed(self) -> dict[str, Any]:
        """The hyperparameters that no study varies, by name."""
        return {name: v for name, v in self.hyperparameters.items() if name not in self.space}


Saw = Literal["split", "all", "unknown"]
"""What a model that exists was trained on: the cell's own training pictures without S, all pictures
of the dataset, or nobody knows."""


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Models that exist, which stand in for pretrained ones.

    Attributes:
        path: Of a file of weights; {dataset}, {num_forget} and {seed} stand for a cell's.
        saw: What they were trained on.
        contents: sha256 of each file, by its path.
    """

    path: str
    saw: Saw
    contents: Mapping[str, str] = field(default_factory=dict)

    def file(self, cell: Cell) -> str:
        """Path of the file for a cell."""
        return self.path.format(dataset=cell.dataset, num_forget=cell.num_forget, seed=cell.seed)

    def check(self, cells: Iterable[Cell]) -> None:
        """Refuse one file for several splits, if it is said to have seen one split's pictures.

        Raises:
            InputError: Naming two cells.
        """
        cells_of: dict[str, Cell] = {}
        for cell in cells if self.saw == "split" else ():
            other = cells_of.setdefault(self.file(cell), cell)
            theirs, own = (
                (one.dataset, one.num_forget, one.split_seed, one.support_seed)
                for one in (other, cell)
            )
            if theirs != own:
                raise InputError(
                    f"sweep.pretrained_saw is 'split', but {self.file(cell)} is to stand for two "
                    f"splits, {other.title} and {cell.title}: put {{dataset}}, "
                    "{num_forget} or {seed} into sweep.pretrained, ask for one cell, or say 'all' "
                    "or 'unknown'"
                )


@dataclass(frozen=True, kw_only=True)
class SweepSpec:
    """A whole sweep.

    Attributes:
        name: Of the sweep.
        note: A line of the user's about it; no part of any identity.
        datasets: By name.
        cells: All combinations of dataset, forget size and seed.
        rows: The rows of every cell.
        model: The network.
        training: Recipe of pretraining and retraining, by dataset.
        preprocessing: "corrected" resizes with antialiasing; "reference" as the authors' code.
        views: Augmented views of a picture that the relative membership attack looks at.
        reference_copies: Whether that attack is run a second time, with the retrained model after
            the same one-shot unlearning as a further reference.
        requests: Requests that every cell stands for, each of the cell's forget size, of people
            drawn together; they share the pretrained and the retrained model.
        requests_alone: The same where one person asks; None for ``requests``.
        nested: How often what follows a training is done again; None for once.
        sequence: How the people of a cell ask one after the other; None if they do not.
        audit: What is asked of every row beyond its predictions; None for nothing.
        choose: Who is forgotten in a second cell beside every cell, which is compared with it:
            people whom the models of the audit's pool memorise most, or least; "random" for none.
        tuning: How rows with a search space are tuned.
        weights_content: sha256 of the file that ``model.weights`` means; empty if it means none.
        model_source: Hash over the code of ``model.factory``; empty without one.
        pretrained: Models that exist, in place of pretraining; None to pretrain.
        measures: Hash over the code of each measure of plugins, by its key.
        versions: What the stages mean: today's, or those of the day when the sweep was run.
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
    requests: int = 1
    requests_alone: int | None = None
    nested: NestedSpec | None = None
    sequence: SequenceSpec | None = None
    audit: AuditSpec | None = None
    choose: Choose = "random"
    tuning: TuningSpec = field(default_factory=TuningSpec)
    weights_content: str = ""
    model_source: str = ""
    pretrained: Pretrained | None = None
    measures: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[Stage, int] = field(default_factory=lambda: STAGE_VERSION)
    note: str = ""

    def __post_init__(self) -> None:
        assert bool(self.weights_content) == (self.model.weights not in ("random", "imagenet"))
        require(1 <= self.views <= 64, "sweep.views", self.views, "1 to 64")
        require(1 <= self.requests <= 1000, "sweep.requests", self.requests, "1 to 1000")
        alone = 1 if self.requests_alone is None else self.requests_alone
        require(1 <= alone <= 1000, "sweep.requests_alone", alone, "1 to 1000, or null")
        require(bool(self.cells), "sweep", self.name, "a sweep with at least one cell")
        if len(set(self.cells)) != len(self.cells):
            raise InputError("sweep.seeds, sweep.datasets or sweep.forget_sizes repeats a value")
        for rows in self.rows.values():
            for name, times in Counter(row.name for row in rows).items():
                if times > 1:
                    raise InputError(f"{name} stands {times} times in sweep.methods: name it once")
        self._check_held_out()
        if self.sequence is not None:
            if self.nested is not None:
                raise InputError(
                    "sweep.vary is 'nested', but sweep.sequence has people ask one after the "
                    "other, which is done once; leave one of the two out"
                )
            require(
                max(map(self.requests_in, self.cells)) == 1,
                "sweep.requests",
                self.requests,
                "1 where sweep.sequence says how the people of a cell ask one after the other",
            )
            self.sequence.check(cell.num_forget for cell in self.cells)
        self._check_pool()
        least = self.model.image_size
        for name, dataset in self.datasets.items():
            if dataset.crop_size is not None:
                require(
                    least <= dataset.crop_size <= 4096,
                    f"datasets.{name}.crop_size",
                    dataset.crop_size,
                    f"{least} (sweep.model.image_size) to 4096",
                )

    def _check_pool(self) -> None:
        """Refuse a pool whose models would be those that are reported, and choosing without one.

        Raises:
            InputError: Naming the seed, or what is missing.
        """
        pool = 0 if self.audit is None else self.audit.pool
        if self.choose != "random":
            least = max(self.requests_in(cell) * cell.num_forget for cell in self.cells)
            require(
                pool >= least,
                "sweep.audit.pool",
                pool,
                f"{least} or more where sweep.choose={self.choose} chooses so many of it: a seed's "
                "training set holds about 60 % of the pool",
            )
        if self.audit is None or not pool:
            return
        last = POOL_SEED + self.audit.models - 1
        for cell in self.cells:
            for name, seed in (("seeds", cell.seed), ("fixed_seed", cell.fixed_seed)):
                if POOL_SEED <= seed <= last:
                    raise InputError(
                        f"sweep.{name} holds {seed}, but {POOL_SEED} to {last} are those of the "
                        "audit's pool; report other seeds"
                    )

    @cached_property
    def turns(self) -> dict[int, int]:
        """Place of each reported seed among them."""
        return {seed: at for at, seed in enumerate(dict.fromkeys(c.seed for c in self.cells))}

    def requests_in(self, cell: Cell) -> int:
        """How many requests a cell stands for."""
        alone = self.requests if self.requests_alone is None else self.requests_alone
        return alone if cell.num_forget == 1 else self.requests

    def _check_held_out(self) -> None:
        """Refuse a study's seed that is reported.

        Raises:
            InputError: Naming the seed and who reports it.
        """
        if not any(row.objective is not None for rows in self.rows.values() for row in rows):
            return
        known = {
            "sweep.seeds": {cell.seed for cell in self.cells},
            "sweep.fixed_seed": {
                cell.fixed_seed for cell in self.cells if cell.vary not in ("all", "nested")
            },
            "tuning.reserved_seeds": set(self.tuning.reserved_seeds),
        }
        for part in self.tuning.parts if self.tuning.cells == "held_out" else ():
            for seed in part:
                for name, reported in known.items():
                    if seed in reported:
                        raise InputError(
                            f"tuning.seeds holds {seed}, which {name} holds too, but no cell both "
                            "tunes and reports; tune on another seed, or say tuning.cells=own"
                        )
