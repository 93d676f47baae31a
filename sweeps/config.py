"""From the command line to one checked value: what was composed, validated whole.

With ``sweeps.described`` the only importer of pydantic.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, TypeAdapter, ValidationError

from oneshui import plugins
from oneshui.errors import InputError, unknown_name
from oneshui.metrics.registry import further_measures
from oneshui.spec import Access, ModelSpec, Precision, Role, TrainingSpec, require
from sweeps import described
from sweeps.command import PASSING, lasting, override_key
from sweeps.composition import (
    composed_of,
    known_keys,
    meant,
    published_rows,
    require_finite,
    unknown_key,
)
from sweeps.graph.artifacts import Without
from sweeps.graph.audits import AuditSpec, Choose
from sweeps.graph.held_out import study_cells
from sweeps.graph.launch import ArchiveSpec, ClusterSpec, Device, LaunchSpec, Listed, Mode, Places
from sweeps.graph.orders import SequenceSpec
from sweeps.graph.spec import (
    Cell,
    DatasetSpec,
    NestedSpec,
    Preprocessing,
    Pretrained,
    Profile,
    Saw,
    SeedLevel,
    SweepSpec,
    TuningObjective,
    TuningSpec,
)
from sweeps.launcher_file import as_planned, with_machines
from sweeps.overrides import parse
from sweeps.rows import RowSpec, rows_by_cell
from sweeps.store.base import sha256

_READING = ("report", "status", "ui", "why", "plan", "export", "diff", "store")
"""Modes that can ask a folder which sweep is meant."""

_ABOUT_NO_SWEEP = (*PASSING, "plugins", "output_dir", "cluster", "device", *described.SETTINGS)
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
    copy_to: str | None

    def __post_init__(self) -> None:
        require(0 < self.margin < 1, "report.margin", self.margin, "a fraction of ToW above 0")


@dataclass(frozen=True, kw_only=True)
class _Sweep:
    """The part of the configuration that the file of a sweep fills.

    Attributes:
        name: Of the sweep; the output folder is called so.
        note: A line of yours, which stands in plan, report and MLflow, and changes no result.
        datasets: Which of the configuration's datasets.
        forget_sizes: People in a request; null for ``forget_sizes_of``, or every dataset's own.
        forget_sizes_of: The same by dataset, of those that the sweep has.
        seeds: Each is a cell of its own on every dataset and forget size.
        methods: Rows of the table in their order: methods, or names of ``sweep.rows``.
        hparams: Files of published hyperparameters in ``sweeps/conf/hparams``.
        rows: Hyperparameters by row, ``method`` among them where the row has another name;
            ``tune: false`` leaves a row alone, ``tune_on: sequence`` tunes it on people who ask
            one after the other, ``space`` gives it ranges of its own,
            ``truth_in_view: true`` says that retrained models were looked at, ``only`` maps the
            datasets where the row is to their forget sizes.
        defaults: Hyperparameters by method, below those of a row.
        preprocessing: ``corrected`` resizes with antialiasing, ``reference`` as the authors do.
        vary: What the seeds vary; ``fixed_seed`` is the rest.
        fixed_seed: The seed of all that ``sweep.vary`` leaves alone.
        nested: With ``vary: nested`` every seed is a training, and is unlearned and evaluated so
            often; null is twice each.
        views: Of every picture, for the relative membership attack.
        reference_copies: Whether that attack is run again with the retrained model after the same
            unlearning.
        requests: Of so many people each that a seed stands for; they share their trainings.
        requests_alone: The same where one person asks; null for ``sweep.requests``.
        sequence: How the people of a request ask one after the other; null where all ask at once.
        audit: What is asked of every row beyond its predictions; null for nothing.
        choose: ``memorised`` or ``forgettable`` adds a cell beside every cell in which those of the
            audit's pool are forgotten whom its models memorise most or least, to compare with.
        profile: ``tuned``, ``paper`` or ``reference``, where the command's says nothing.
        tuning: What the sweep says of tuning, below the command's ``tuning``.
        model: The network.
        training: The recipe of pretraining and retraining.
        pretrained: File of a model that exists, in place of pretraining; {dataset}, {num_forget}
            and {seed} in its path stand for a cell's.
        pretrained_saw: What that was trained on: ``split`` is each cell's training pictures without
            its support set, ``all`` every picture of the dataset.
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
    nested: NestedSpec | None = None
    views: int = 2
    reference_copies: bool = False
    requests: int = 1
    requests_alone: int | None = None
    forget_sizes_of: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    sequence: SequenceSpec | None = None
    audit: AuditSpec | None = None
    choose: Choose = "random"
    profile: Profile = "paper"
    tuning: Mapping[str, Any] = field(default_factory=dict)
    model: ModelSpec
    training: TrainingSpec
    note: str | None = None
    pretrained: str | None = None
    pretrained_saw: Saw | None = None


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
    mode: Mode
    row: str | None
    run: bool
    what: Listed | None
    replace: bool
    plugins: tuple[str, ...]
    to: str | None
    without: tuple[Without, ...]
    other: str | None
    from_: Annotated[tuple[str, ...], Field(alias="from")]
    prune: Literal["unreachable"] | None
    keep: tuple[str, ...]
    yes: bool
    data_dir: str
    output_dir: str | None
    store: _Uri
    tracking: _Tracking
    report: _Report
    profile: Profile | None
    device: Device
    precision: Precision | None
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
    folder = _folder_asked(overrides)
    if folder is None:
        composed = composed_of(overrides)
        # Before any name is looked up.
        loaded = plugins.load(_plugin_items(composed))
        config = _config(composed)
        return _launch(config, composed, _sweep(config, composed), overrides, loaded)
    if _last(overrides, "mode") == "plan":
        return load([f"sweep={_described(folder)}", *overrides])
    there = described.read(folder)
    composed = composed_of(overrides, described.literal(there.settings))
    config, items = _config(composed), _plugin_items(composed)
    # Reading runs nobody's code: a stranger's folder names none, the command alone does.
    loaded = plugins.load(items) if items or config.run else ()
    return _launch(config, composed, there.sweep, _continued(there, overrides), loaded)


def _folder_asked(overrides: Sequence[str]) -> Path | None:
    """The folder that says which sweep is meant, where the command does not; None where it does."""
    tops = {override_key(one).partition(".")[0] for one in overrides}
    if "output_dir" not in tops or not tops <= set(_ABOUT_NO_SWEEP):
        return None
    folder = _last(overrides, "output_dir")
    return Path(folder) if folder and _last(overrides, "mode") in _READING else None


def _last(overrides: Sequence[str], key: str) -> Any:
    """What a command sets a key to; None if it says nothing of it."""
    said = [parse(one).value for one in overrides if override_key(one) == key]
    return said[-1] if said else None


def _described(folder: Path) -> Path:
    if not (folder / described.SWEEP).exists():
        raise InputError(
            f"{folder} holds no {described.SWEEP}, in which a sweep describes itself: say which "
            "sweep is meant, as in sweep=demo"
        )
    return folder / described.SWEEP


def _continued(there: described.Described, overrides: Sequence[str]) -> list[str]:
    """The command that goes on with a sweep that described itself, and asks what is asked now."""
    place = _last(there.command, "output_dir") or _default_output(there.sweep.name)
    is_same = Path(place).absolute() == Path(_last(overrides, "output_dir")).absolute()
    typed = [one for one in overrides if not (is_same and override_key(one) == "output_dir")]
    said = {override_key(one) for one in lasting(typed)}
    return [*(one for one in there.command if override_key(one) not in said), *typed]


def _default_output(sweep: str) -> str:
    return f"runs/{sweep}"


def _config(composed: Mapping[str, Any]) -> _Config:
    config = _checked(_Config, {**composed, "datasets": _named(composed["datasets"])})
    if re.search(r"://\S*\s.*@", config.tracking.uri or ""):
        # It would tell where the password ends, which is hidden from all that is written.
        raise InputError("tracking.uri holds a space before its @; write %20 in its place")
    _require_address("tracking.uri", config.tracking.uri)
    _require_address("store.uri", config.store.uri)
    return config


def _launch(
    config: _Config,
    composed: Mapping[str, Any],
    sweep: SweepSpec,
    command: Sequence[str],
    loaded: tuple[plugins.Plugin, ...] = (),
) -> LaunchSpec:
    output_dir = str(Path(config.output_dir or _default_output(sweep.name)).absolute())
    return LaunchSpec(
        mode=config.mode,
        sweep=sweep,
        cluster=_cluster(config),
        places=Places(
            data_dir=config.data_dir,
            output_dir=output_dir,
            store_uri=config.store.uri or str(Path(output_dir) / "store"),
            tracking_uri=config.tracking.uri or "",
            tracking_models=config.tracking.models,
            copy_to=config.report.copy_to,
        ),
        command=tuple(command),
        configuration=composed,
        row=config.row or "",
        run_again=config.run,
        archive=ArchiveSpec(
            to=config.to or "",
            without=config.without,
            other=config.other or "",
            sweeps=config.from_,
            prune=config.prune,
            keep=config.keep,
            yes=config.yes,
        ),
        what=config.what,
        replace=config.replace,
        margin=config.report.margin,
        show_faces=config.report.show_faces,
        reference=_reference(config.report.reference, sweep),
        plugins=loaded,
        device=_device(config),
    )


def _device(config: _Config) -> Device:
    """What jobs compute on, if what they are given fits it.

    Raises:
        InputError: Naming what does not.
    """
    device, cluster = config.device, config.cluster
    given = {"cluster.gpus_per_worker": cluster.gpus_per_worker}
    given |= {f"cluster.stages.{stage}.gpus": it.gpus for stage, it in cluster.stages.items()}
    if device == "cpu":
        for key, share in given.items():
            if share:
                raise InputError(
                    f"{key} is {share:g}, but device is 'cpu', where jobs use no GPU: leave one of "
                    "the two out"
                )
    elif device != "auto" and cluster.gpus_per_worker == 0:
        raise InputError(
            f"cluster.gpus_per_worker is 0, but device is {device!r}, of which jobs need a share: "
            "leave one of the two out"
        )
    return device


def _cluster(config: _Config) -> ClusterSpec:
    # The other modes start no machine, and the file is where machines are started.
    if config.mode not in ("run", "plan"):
        return config.cluster
    return with_machines(as_planned(config.cluster) if config.mode == "plan" else config.cluster)


def _plugin_items(composed: Mapping[str, Any]) -> list[str]:
    """What is asked for as a plugin; the module of the network's factory is one, too."""
    items = composed.get("plugins", [])
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise InputError(
            f"plugins is {items!r}, but it must be a list of files, folders and modules, as in "
            "plugins=[my_method.py]"
        )
    node: Any = composed
    for name in ("sweep", "model", "factory"):
        node = node.get(name) if isinstance(node, Mapping) else None
    item = node.rpartition(":")[0] if isinstance(node, str) else ""
    known = {plugins.module_of(one) for one in items}
    return [*items, item] if item and plugins.module_of(item) not in known else items


def _reference(name: str | None, sweep: SweepSpec) -> str:
    """The row of choice, which must be one that has a ToW."""
    # The yardstick itself has none, being compared with itself.
    known = {row.name for rows in sweep.rows.values() for row in rows if row.role != Role.RETRAIN}
    if name is not None and name not in known:
        raise unknown_name("row in report.reference", name, known)
    return name or ""


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


def checked_options(kind: type[T], value: Mapping[str, Any], where: str = "") -> T:
    """As the configuration is checked: the options of another command, by the fields of a class.

    Raises:
        InputError: One sentence that names the first key or value that is wrong.
    """
    require_finite(value, where)
    known = [f"{where}.{one.name}".strip(".") for one in dataclasses.fields(kind)]  # type: ignore[arg-type]
    return _checked(kind, value, where, known)


def _checked(
    kind: type[T], value: Mapping[str, Any], where: str = "", known: Sequence[str] = ()
) -> T:
    """The value as what it is meant to be.

    Args:
        kind: A dataclass.
        value: Its fields, as they were composed.
        where: Their place in the configuration, for messages.
        known: All keys that there are; the configuration's if none are given.

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
            raise unknown_key(key, known or [*known_keys(), *_OPTIONAL]) from None
        if first["type"].startswith("missing"):
            parent, _, last = key.rpartition(".")
            if last.isdigit():
                raise InputError(
                    f"{parent} is {first['input']!r}: it holds too few values"
                ) from None
            if known:
                raise InputError(f"{key} is not set: say {key}=...") from None
            hint = meant(parent, known_keys())
            raise InputError(f"{parent or 'the configuration'} has no {last}{hint}") from None
        reason = first["msg"][0].lower() + first["msg"][1:]
        raise InputError(f"{key} is {first['input']!r}: {reason}") from None


_OPTIONAL = tuple(
    f"sweep.{part}.{name.name}"
    for part, kind in (("audit", AuditSpec), ("sequence", SequenceSpec), ("nested", NestedSpec))
    for name in fields(kind)
)
"""Keys below those that are null as they are shipped."""


def _sweep(config: _Config, composed: Mapping[str, Any]) -> SweepSpec:
    sweep = config.sweep
    for name in sweep.datasets:
        if name not in config.datasets:
            raise unknown_name("dataset", name, config.datasets)
    for name in sweep.forget_sizes_of:
        if name not in config.datasets:
            raise unknown_name("dataset in sweep.forget_sizes_of", name, config.datasets)
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
        for size in (
            sweep.forget_sizes
            or sweep.forget_sizes_of.get(name)
            or config.datasets[name].forget_sizes
        )
        for seed in sweep.seeds
    )
    if any(cell.num_forget < 1 for cell in cells):
        raise InputError("sweep.forget_sizes holds a value below 1: forget sizes are 1 or more")
    tuning, rows = _tuning(config)
    as_reference = rows.as_reference
    model = dataclasses.replace(
        sweep.model,
        factory=plugins.reference(sweep.model.factory),
        precision=config.precision or sweep.model.precision,
    )
    found = SweepSpec(
        name=sweep.name,
        note=sweep.note or "",
        datasets={
            name: _as_authors(config.datasets[name]) if as_reference else config.datasets[name]
            for name in sweep.datasets
        },
        cells=cells,
        rows=rows_by_cell(rows, cells),
        tuning=tuning,
        model=model,
        model_source=plugins.source_behind(model.factory) if model.factory else "",
        weights_content=_content(sweep.model),
        measures=further_measures(),
        preprocessing="reference" if as_reference else sweep.preprocessing,
        views=sweep.views,
        reference_copies=sweep.reference_copies,
        requests=sweep.requests,
        requests_alone=sweep.requests_alone,
        nested=_nested(sweep),
        sequence=sweep.sequence,
        audit=sweep.audit,
        choose=sweep.choose,
        training={
            name: _checked(
                TrainingSpec,
                {**composed["sweep"]["training"], **config.datasets[name].training},
                f"datasets.{name}.training",
            )
            for name in sweep.datasets
        },
    )
    return dataclasses.replace(found, pretrained=_pretrained(sweep, found))


def _nested(sweep: _Sweep) -> NestedSpec | None:
    if sweep.vary != "nested":
        if sweep.nested is not None:
            raise InputError(
                f"sweep.nested says how often seeds are nested, but sweep.vary is {sweep.vary!r}: "
                "set it to nested, or leave sweep.nested out"
            )
        return None
    return sweep.nested or NestedSpec()


def _as_authors(dataset: DatasetSpec) -> DatasetSpec:
    return dataclasses.replace(dataset, walk=dataset.walk or "reference")


def _pretrained(said: _Sweep, sweep: SweepSpec) -> Pretrained | None:
    """The models that stand in for pretrained ones, one for each cell that needs one.

    Raises:
        InputError: Nothing says what they saw, or a file cannot be read.
    """
    path, saw = said.pretrained, said.pretrained_saw
    if path is None:
        if saw is not None:
            raise InputError("sweep.pretrained_saw is about the file of sweep.pretrained: name it")
        return None
    if saw is None:
        raise InputError(
            "sweep.pretrained needs sweep.pretrained_saw, because a support picture that was "
            "trained on is none: say 'split' if the model was trained on each cell's own training "
            "pictures without its support set, 'all' if on pictures of the whole dataset, or "
            "'unknown'"
        )
    given = Pretrained(path=path, saw=saw)
    cells = dict.fromkeys(sweep.cells)
    for cell in sweep.cells:
        if any(row.objective is not None for row in sweep.rows[cell]):
            cells |= dict.fromkeys(study_cells(sweep, cell))
    try:
        files = {cell: given.file(cell) for cell in cells}
    except (KeyError, IndexError, ValueError, AttributeError):
        raise InputError(
            f"sweep.pretrained is {path!r}, but {{dataset}}, {{num_forget}} and {{seed}} alone may "
            "stand in braces"
        ) from None
    given.check(cells)
    contents = {
        file: _sha256(file, "sweep.pretrained", f"a model's weights for {cell.title}")
        for cell, file in files.items()
    }
    return dataclasses.replace(given, contents=contents)


def _sha256(file: str | Path, key: str, what: str) -> str:
    try:
        return sha256(Path(file))
    except OSError as error:
        raise InputError(
            f"{key} {file} cannot be read ({error.strerror}); set it to a file of {what} that is "
            "there"
        ) from None


def _content(model: ModelSpec) -> str:
    """sha256 of the file of the starting weights: they count by what is in them."""
    if model.named_weights is not None:
        return model.named_weights.sha256
    file = model.weights_file
    if file is None:
        return ""
    return _sha256(
        file, "sweep.model.weights", "the network's weights, or to 'random' or 'imagenet',"
    )


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
        table=published_rows(sweep.hparams),
        needs_published=bool(sweep.hparams),
        objectives=tuning.objectives if profile == "tuned" else (),
        tuned=given.rows,
        access=[Access(name) for name in given.access],
        as_reference=profile == "reference",
        datasets=tuple(config.datasets),
        people_per_step=None if sweep.sequence is None else sweep.sequence.finest,
    )
    return tuning, rows
