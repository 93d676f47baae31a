"""From the command line to one checked value: Hydra composes, pydantic validates, whole.

With ``sweeps.overrides`` the only importer of hydra, and alone of omegaconf and pydantic.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from oneshui.errors import InputError, unknown_name
from oneshui.spec import Access, ModelSpec, Role, TrainingSpec, require
from sweeps.graph.orders import SequenceSpec
from sweeps.graph.spec import (
    Cell,
    ClusterSpec,
    DatasetSpec,
    LaunchSpec,
    Listed,
    Places,
    Preprocessing,
    Profile,
    SeedLevel,
    SweepSpec,
    TuningObjective,
    TuningSpec,
)
from sweeps.overrides import Change, apply, parse
from sweeps.rows import RowSpec, rows_of
from sweeps.store.base import sha256

CONF = Path(__file__).parent / "conf"
GROUPS = ("sweep", "cluster", "scale")
"""Folders of files of which a command chooses one."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class _Uri:
    uri: str | None


@dataclass(frozen=True, kw_only=True)
class _Tracking(_Uri):
    models: bool


@dataclass(frozen=True, kw_only=True)
class _Report:
    margin: float
    show_faces: bool
    reference: str | None

    def __post_init__(self) -> None:
        require(0 < self.margin < 1, "report.margin", self.margin, "a fraction of ToW above 0")


@dataclass(frozen=True, kw_only=True)
class _Sweep:
    """The part of the configuration that the file of a sweep fills.

    Attributes:
        name: Of the sweep; the output folder is called so.
        datasets: Which of the configuration's datasets.
        forget_sizes: People in a request; null for every dataset's own.
        seeds: Each is a cell of its own on every dataset and forget size.
        methods: Rows of the table in their order: methods, or names of ``sweep.rows``.
        hparams: Files of published hyperparameters in ``sweeps/conf/hparams``.
        rows: Hyperparameters by row, ``method`` among them where the row has another name;
            ``tune: false`` leaves a row alone, ``tune_on: sequence`` tunes it on people who ask
            one after the other, ``space`` gives it ranges of its own,
            ``truth_in_view: true`` says that retrained models were looked at.
        defaults: Hyperparameters by method, below those of a row.
        preprocessing: ``corrected`` resizes with antialiasing, ``reference`` as the authors do.
        vary: What the seeds vary; ``fixed_seed`` is the rest.
        fixed_seed: The seed of all that ``sweep.vary`` leaves alone.
        views: Of every picture, for the relative membership attack.
        reference_copies: Whether that attack is run again with the retrained model after the same
            unlearning.
        requests: Of so many people each that a seed stands for; they share their trainings.
        sequence: How the people of a request ask one after the other; null where all ask at once.
        profile: ``tuned`` or ``paper``, where the command's ``profile`` says nothing.
        tuning: What the sweep says of tuning, below the command's ``tuning``.
        model: The network.
        training: The recipe of pretraining and retraining.
    """

    name: str
    datasets: tuple[str, ...]
    forget_sizes: tuple[int, ...] | None
    seeds: tuple[int, ...]
    methods: tuple[str, ...]
    hparams: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Any] | None]
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    preprocessing: Preprocessing = "corrected"
    vary: SeedLevel = "all"
    fixed_seed: int = 0
    views: int = 2
    reference_copies: bool = False
    requests: int = 1
    sequence: SequenceSpec | None = None
    profile: Profile = "paper"
    tuning: Mapping[str, Any] = field(default_factory=dict)
    model: ModelSpec
    training: TrainingSpec


@dataclass(frozen=True, kw_only=True)
class _Tuning(TuningSpec):
    """What a command may say beside the spec."""

    objective: TuningObjective | None = None
    i_know: bool = False
    rows: tuple[str, ...] | None = None
    access: tuple[Literal["support", "prepared", "full"], ...] = ("support", "prepared", "full")

    def spec(self) -> TuningSpec:
        values = {one.name: getattr(self, one.name) for one in dataclasses.fields(TuningSpec)}
        if self.objective is not None:
            values["objectives"] = (self.objective,)
        return TuningSpec(**values)


@dataclass(frozen=True, kw_only=True)
class _Config:
    mode: Literal["run", "plan", "status", "report", "ui", "why", "list"]
    row: str | None
    what: Listed | None
    replace: bool
    data_dir: str
    output_dir: str | None
    store: _Uri
    tracking: _Tracking
    report: _Report
    profile: Profile | None
    tuning: Mapping[str, Any]
    datasets: Mapping[str, DatasetSpec]
    sweep: _Sweep
    cluster: ClusterSpec


SCHEMA = _Config
OPEN_MAPS: Mapping[str, type] = {"tuning": _Tuning}
"""Maps whose keys are checked when what the sweep says is known too, and by what."""


def _require_address(key: str, uri: str | None) -> None:
    try:
        urlsplit(uri or "")
    except ValueError:
        # Without the reason, which may hold a part of a password.
        raise InputError(
            f"{key} is no address; write brackets in a name or password as %5B and %5D"
        ) from None


def load(overrides: Sequence[str]) -> LaunchSpec:
    """Compose and check the configuration of one command.

    Args:
        overrides: Hydra overrides, for example ``["sweep=smoke", "sweep.seeds=[0]"]``.

    Raises:
        InputError: One sentence that names the key or value and the nearest valid one.
    """
    composed = _compose(overrides)
    config = _checked(_Config, {**composed, "datasets": _named(composed["datasets"])})
    if re.search(r"://\S*\s.*@", config.tracking.uri or ""):
        # It would tell where the password ends, which is hidden from all that is written.
        raise InputError("tracking.uri holds a space before its @; write %20 in its place")
    _require_address("tracking.uri", config.tracking.uri)
    _require_address("store.uri", config.store.uri)
    output_dir = str(Path(config.output_dir or f"runs/{config.sweep.name}").absolute())
    sweep = _sweep(config, composed)
    return LaunchSpec(
        mode=config.mode,
        sweep=sweep,
        cluster=config.cluster,
        places=Places(
            data_dir=config.data_dir,
            output_dir=output_dir,
            store_uri=config.store.uri or str(Path(output_dir) / "store"),
            tracking_uri=config.tracking.uri or "",
            tracking_models=config.tracking.models,
        ),
        command=tuple(overrides),
        row=config.row or "",
        what=config.what,
        replace=config.replace,
        margin=config.report.margin,
        show_faces=config.report.show_faces,
        reference=_reference(config.report.reference, sweep),
    )


def _reference(name: str | None, sweep: SweepSpec) -> str:
    """The row of choice, which must be one that has a ToW."""
    # The yardstick itself has none, being compared with itself.
    known = {row.name for rows in sweep.rows.values() for row in rows if row.role != Role.RETRAIN}
    if name is not None and name not in known:
        raise unknown_name("row in report.reference", name, known)
    return name or ""


def sweep_names() -> list[str]:
    """Names of the sweeps that are shipped."""
    return group("sweep")


def group(name: str) -> list[str]:
    """Names of the shipped files of which a command chooses one."""
    return sorted(path.stem for path in (CONF / name).glob("*.yaml"))


def shipped(sweep: str) -> dict[str, Any]:
    """The configuration of a shipped sweep, before a command changes any of it."""
    return _shipped({"sweep": sweep})


def _compose(overrides: Sequence[str]) -> dict[str, Any]:
    """The shipped files that a command chooses, with its changes.

    A map in a change replaces the one that was there; Hydra itself would mix the two.
    """
    chosen: dict[str, str] = {}
    changes: list[Change] = []
    for override in overrides:
        key, _, name = override.lstrip("+").partition("=")
        if key not in GROUPS:
            changes.append(parse(override))
        elif name in group(key):
            chosen[key] = name
        else:
            raise unknown_name(key, name, group(key))
    tree = _shipped(chosen)
    known = _keys(tree)
    for change in changes:
        if not apply(change, tree):
            raise _unknown_key(change.key, known)
    try:
        composed = OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(
            f"{error.full_key or 'a value'} refers to something that is not there; where ${{...}} "
            "is meant as it stands, write \\${...}"
        ) from None
    assert isinstance(composed, dict)
    _require_finite(composed)
    return {str(key): value for key, value in composed.items()}


def _shipped(chosen: Mapping[str, str]) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[f"{key}={name}" for key, name in chosen.items()])
    tree: Any = OmegaConf.to_container(config)
    return {str(key): value for key, value in tree.items()}


def _require_finite(node: Any, key: str = "") -> None:
    """Refuse infinity and what is no number, wherever it stands.

    Raises:
        InputError: Naming the first key.
    """
    children = node.items() if isinstance(node, Mapping) else enumerate(node)
    for name, child in children:
        where = f"{key}.{name}".strip(".")
        if isinstance(child, Mapping | list):
            _require_finite(child, where)
        elif isinstance(child, int | float) and not abs(child) <= sys.float_info.max:
            shown = child if isinstance(child, float) else "too large"
            raise InputError(f"{where} is {shown}, but numbers must be finite")


def _unknown_key(key: str, known: Sequence[str]) -> InputError:
    """The error for a key that does not exist, with the nearest that does."""
    return InputError(f"unknown configuration key {key!r}{_meant(key, known)}")


def _meant(key: str, known: Sequence[str]) -> str:
    """Which key was meant, perhaps: a near one, or one that stands elsewhere by the same name."""
    parent = key.rpartition(".")[0]
    beside = [one for one in known if one.rpartition(".")[0] == parent]
    moved = dict.fromkeys(f"{parent}.{one.rpartition('.')[2]}".strip(".") for one in known)
    for names, cutoff in ((beside, 0.6), (list(moved), 0.8), (known, 0.6)):
        near = difflib.get_close_matches(key, names, n=1, cutoff=cutoff)
        if near and near[0] != key:
            return f"; did you mean {near[0]!r}?"
    return ""


def _keys(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, Mapping):
        return [prefix]
    return [
        key for name, child in node.items() for key in _keys(child, f"{prefix}.{name}".strip("."))
    ] + [prefix]


def _named(datasets: Any) -> Any:
    """The datasets with their keys as names."""
    if not isinstance(datasets, Mapping):
        return datasets
    for name, dataset in datasets.items():
        if isinstance(dataset, Mapping) and "name" in dataset:
            raise InputError(f"datasets.{name}.name cannot be set: {name} is the name")
    return {
        name: {**dataset, "name": name} if isinstance(dataset, Mapping) else dataset
        for name, dataset in datasets.items()
    }


def _checked(kind: type[T], value: Mapping[str, Any], where: str = "") -> T:
    """The value as what it is meant to be.

    Args:
        kind: A dataclass.
        value: Its fields, as they were composed.
        where: Their place in the configuration, for messages.

    Raises:
        InputError: One sentence that names the first key or value that is wrong.
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(value), strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join([*filter(None, [where]), *(str(part) for part in first["loc"])])
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, InputError):
            named = not key or str(cause).startswith(f"{key}.")
            raise InputError(str(cause) if named else f"{key}: {cause}") from None
        if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            raise _unknown_key(key, _keys(_shipped({}))) from None
        if first["type"].startswith("missing"):
            parent, _, last = key.rpartition(".")
            hint = _meant(parent, _keys(_shipped({})))
            raise InputError(f"{parent or 'the configuration'} has no {last}{hint}") from None
        reason = first["msg"][0].lower() + first["msg"][1:]
        raise InputError(f"{key} is {first['input']!r}: {reason}") from None


def _sweep(config: _Config, composed: Mapping[str, Any]) -> SweepSpec:
    sweep = config.sweep
    for name in sweep.datasets:
        if name not in config.datasets:
            raise unknown_name("dataset", name, config.datasets)
    for key, values in (
        ("datasets", sweep.datasets),
        ("seeds", sweep.seeds),
        ("methods", sweep.methods),
    ):
        if not values:
            raise InputError(f"sweep.{key} is empty: name at least one")
    if any(seed < 0 for seed in sweep.seeds):
        raise InputError(f"sweep.seeds is {list(sweep.seeds)}: seeds must be 0 or more")
    cells = tuple(
        Cell(
            dataset=name,
            num_forget=size,
            seed=seed,
            vary=sweep.vary,
            fixed_seed=sweep.fixed_seed,
        )
        for name in sweep.datasets
        for size in (sweep.forget_sizes or config.datasets[name].forget_sizes)
        for seed in sweep.seeds
    )
    if any(cell.num_forget < 1 for cell in cells):
        raise InputError("sweep.forget_sizes holds a value below 1: forget sizes are 1 or more")
    tuning, rows = _tuning(config)
    return SweepSpec(
        name=sweep.name,
        datasets={name: config.datasets[name] for name in sweep.datasets},
        cells=cells,
        rows={cell: rows_of(rows, cell) for cell in cells},
        tuning=tuning,
        model=sweep.model,
        weights_content=_content(sweep.model),
        preprocessing=sweep.preprocessing,
        views=sweep.views,
        reference_copies=sweep.reference_copies,
        requests=sweep.requests,
        sequence=sweep.sequence,
        training={
            name: _checked(
                TrainingSpec,
                {**composed["sweep"]["training"], **config.datasets[name].training},
                f"datasets.{name}.training",
            )
            for name in sweep.datasets
        },
    )


def _content(model: ModelSpec) -> str:
    """sha256 of the file of the starting weights: they count by what is in them."""
    if model.named_weights is not None:
        return model.named_weights.sha256
    file = model.weights_file
    if file is None:
        return ""
    try:
        return sha256(file)
    except OSError as error:
        raise InputError(
            f"sweep.model.weights {file} cannot be read ({error.strerror}); set it to a file of "
            "timm's weights that is there, or to 'random' or 'imagenet'"
        ) from None


def _tuning(config: _Config) -> tuple[TuningSpec, RowSpec]:
    sweep = config.sweep
    asked = {name: value for name, value in config.tuning.items() if value is not None}
    said = dict(sweep.tuning)
    if asked.get("cells") == "own":
        # What the sweep says of held-out cells is about others than those that are asked for.
        said = {n: v for n, v in said.items() if n not in ("seeds", "studies", "reserved_seeds")}
    given = _checked(_Tuning, {**said, **asked}, "tuning")
    tuning = given.spec()
    profile = config.profile or sweep.profile
    if profile == "tuned" and "oracle" in tuning.objectives and not given.i_know:
        raise InputError(
            "tuning.objective=oracle looks at the retrained model, which nobody has who needs to "
            "unlearn; to measure what that is worth, say tuning.i_know=true as well"
        )
    rows = RowSpec(
        methods=sweep.methods,
        rows=sweep.rows,
        defaults=sweep.defaults,
        table=_hparams(sweep.hparams),
        needs_published=bool(sweep.hparams),
        objectives=tuning.objectives if profile == "tuned" else (),
        tuned=given.rows,
        access=[Access(name) for name in given.access],
        people_per_step=None if sweep.sequence is None else sweep.sequence.finest,
    )
    return tuning, rows


def _hparams(names: Sequence[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in names:
        if name not in group("hparams"):
            raise unknown_name("sweep.hparams", name, group("hparams"))
        loaded: Any = OmegaConf.to_container(OmegaConf.load(CONF / "hparams" / f"{name}.yaml"))
        _require_finite(loaded, f"hparams.{name}")
        rows += [{**row, "published": loaded.get("published", False)} for row in loaded["rows"]]
    return rows
