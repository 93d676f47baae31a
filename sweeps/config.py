"""From the command line to one checked value: Hydra composes, pydantic validates, whole.

The only importer of hydra, omegaconf and pydantic.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from oneshui.errors import InputError, unknown_name
from oneshui.spec import Access, FacesSpec, ModelSpec, TrainingSpec
from sweeps.graph.job import Stage
from sweeps.graph.spec import (
    Cell,
    ClusterSpec,
    DatasetSpec,
    LaunchSpec,
    Objective,
    Places,
    Preprocessing,
    Profile,
    Sampler,
    SeedLevel,
    StageResources,
    SweepSpec,
    TuningSpec,
)
from sweeps.rows import RowSpec, rows_of

CONF = Path(__file__).parent / "conf"
_FORBID: dict[str, Any] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, kw_only=True)
class _Uri:
    __pydantic_config__: ClassVar[Any] = _FORBID
    uri: str | None


@dataclass(frozen=True, kw_only=True)
class _Dataset:
    __pydantic_config__: ClassVar[Any] = _FORBID
    layout: str
    forget_sizes: tuple[int, ...]
    generate: FacesSpec | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    crop_size: int | None = None
    path: str = ""
    resources: Mapping[Stage, StageResources] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Sweep:
    __pydantic_config__: ClassVar[Any] = _FORBID
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
    profile: Profile = "paper"
    tuning: Mapping[str, Any] = field(default_factory=dict)
    model: ModelSpec
    training: TrainingSpec


@dataclass(frozen=True, kw_only=True)
class _Tuning:
    __pydantic_config__: ClassVar[Any] = _FORBID
    objective: Objective | None
    i_know: bool
    points: int | None
    batch: int | None
    seeds: tuple[int, ...] | None
    sampler: Sampler | None
    requests: int | None
    carried: int | None
    reveal: bool | None
    rows: tuple[str, ...] | None
    access: tuple[Literal["support", "prepared", "full"], ...] | None


@dataclass(frozen=True, kw_only=True)
class _Config:
    __pydantic_config__: ClassVar[Any] = _FORBID
    mode: Literal["run", "plan", "report", "ui", "why"]
    row: str | None
    data_dir: str
    output_dir: str | None
    store: _Uri
    tracking: _Uri
    profile: Profile | None
    tuning: _Tuning
    datasets: Mapping[str, _Dataset]
    sweep: _Sweep
    cluster: ClusterSpec


def load(overrides: Sequence[str]) -> LaunchSpec:
    """Compose and check the configuration of one command.

    Args:
        overrides: Hydra overrides, for example ``["sweep=smoke", "sweep.seeds=[0]"]``.

    Raises:
        InputError: One sentence that names the key or value and the nearest valid one.
    """
    composed = _compose(overrides)
    config = _validate(composed)
    output_dir = str(Path(config.output_dir or f"runs/{config.sweep.name}").absolute())
    return LaunchSpec(
        mode=config.mode,
        sweep=_sweep(config, composed),
        cluster=config.cluster,
        places=Places(
            data_dir=config.data_dir,
            output_dir=output_dir,
            store_uri=config.store.uri or str(Path(output_dir) / "store"),
            tracking_uri=config.tracking.uri or "",
        ),
        command=tuple(overrides),
        row=config.row or "",
    )


_OPEN_MAP = re.compile(r"(cluster\.(stages|machines)|datasets\.[^.=]+\.resources)[.=]")


def sweep_names() -> list[str]:
    """Names of the sweeps that are shipped."""
    return _group("sweep")


def _group(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def _compose(overrides: Sequence[str]) -> dict[str, Any]:
    for override in overrides:
        key, equals, value = override.lstrip("+~").partition("=")
        if not equals and not override.startswith("~"):
            raise InputError(f"{override!r} is not of the form key=value, for example sweep=smoke")
        if key in ("sweep", "cluster", "scale") and value not in _group(key):
            raise unknown_name(key, value, _group(key))
    # Hydra takes no new keys without a sign, and these maps consist of nothing else.
    signed = [f"++{override}" if _OPEN_MAP.match(override) else override for override in overrides]
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("config", overrides=signed)
            composed = OmegaConf.to_container(config, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(_explain(error, overrides)) from None
    assert isinstance(composed, dict)
    return {str(key): value for key, value in composed.items()}


def _explain(error: Exception, overrides: Sequence[str]) -> str:
    """One sentence for Hydra's several lines, with the nearest key for an unknown one."""
    found = re.search(r"Could not override '([^']+)'", str(error))
    if found:
        key = found.group(1)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            known = _keys(OmegaConf.to_container(compose("config")))
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"unknown configuration key {key!r}{hint} (new keys in sweep.rows need a +)"
    text = " ".join(str(error).split())
    return f"the overrides {' '.join(overrides)} cannot be used: {text}"


def _keys(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, Mapping):
        return [prefix]
    return [
        key for name, child in node.items() for key in _keys(child, f"{prefix}.{name}".strip("."))
    ] + [prefix]


def _validate(composed: Mapping[str, Any]) -> _Config:
    try:
        return TypeAdapter(_Config).validate_json(json.dumps(composed), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, InputError):
            raise InputError(f"{key}: {cause}") from None
        if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            raise InputError(f"unknown configuration key {key!r}") from None
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
        datasets={
            name: DatasetSpec(
                name=name,
                layout=config.datasets[name].layout,
                generate=config.datasets[name].generate,
                crop_size=config.datasets[name].crop_size,
                path=config.datasets[name].path,
                resources=config.datasets[name].resources,
            )
            for name in sweep.datasets
        },
        cells=cells,
        rows={cell: rows_of(rows, cell) for cell in cells},
        tuning=tuning,
        model=sweep.model,
        preprocessing=sweep.preprocessing,
        views=sweep.views,
        reference_copies=sweep.reference_copies,
        training={
            name: _training(composed["sweep"]["training"], config.datasets[name].training, name)
            for name in sweep.datasets
        },
    )


def _tuning(config: _Config) -> tuple[TuningSpec, RowSpec]:
    sweep, given = config.sweep, config.tuning
    asked = {name: value for name, value in vars(given).items() if value is not None}
    objective = asked.pop("objective", None)
    merged = {**sweep.tuning, **asked}
    i_know = asked["i_know"] or sweep.tuning.get("i_know", False)
    merged.pop("i_know")
    chosen = {name: merged.pop(name) for name in ("rows", "access") if name in merged}
    if objective is not None:
        merged["objectives"] = [objective]
    merged.setdefault("seeds", sweep.seeds[:1])
    try:
        tuning = TypeAdapter(TuningSpec).validate_json(
            json.dumps(merged), strict=True, extra="forbid"
        )
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        key = ".".join(["tuning", *(str(part) for part in first["loc"])])
        raise InputError(str(cause) if cause else f"{key}: {first['msg']}") from None
    profile = config.profile or sweep.profile
    if profile == "tuned" and "oracle" in tuning.objectives and not i_know:
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
        tuned=chosen.get("rows"),
        access=[Access(name) for name in chosen.get("access", Access)],
    )
    return tuning, rows


def _training(recipe: Mapping[str, Any], own: Mapping[str, Any], dataset: str) -> TrainingSpec:
    try:
        return TypeAdapter(TrainingSpec).validate_json(
            json.dumps({**recipe, **own}), strict=True, extra="forbid"
        )
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"datasets.{dataset}.training.{key}: {first['msg']}") from None


def _hparams(names: Sequence[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in names:
        if name not in _group("hparams"):
            raise unknown_name("sweep.hparams", name, _group("hparams"))
        loaded: Any = OmegaConf.to_container(OmegaConf.load(CONF / "hparams" / f"{name}.yaml"))
        rows += loaded["rows"]
    return rows
