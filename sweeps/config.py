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

from oneshui import methods
from oneshui.data.synthetic import FacesSpec
from oneshui.errors import InputError, unknown_name
from oneshui.methods.base import prepare_hyperparameters
from oneshui.spec import ModelSpec, TrainingSpec
from sweeps.spec import (
    Cell,
    ClusterSpec,
    DatasetSpec,
    LaunchSpec,
    Layout,
    Places,
    Preprocessing,
    Row,
    SeedLevel,
    SweepSpec,
)

CONF = Path(__file__).parent / "conf"
_FORBID: dict[str, Any] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, kw_only=True)
class _Uri:
    __pydantic_config__: ClassVar[Any] = _FORBID
    uri: str | None


@dataclass(frozen=True, kw_only=True)
class _Dataset:
    __pydantic_config__: ClassVar[Any] = _FORBID
    layout: Layout
    forget_sizes: tuple[int, ...]
    generate: FacesSpec | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""


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
    model: ModelSpec
    training: TrainingSpec


@dataclass(frozen=True, kw_only=True)
class _Config:
    __pydantic_config__: ClassVar[Any] = _FORBID
    mode: Literal["run", "plan", "report", "ui", "why"]
    row: str | None
    data_dir: str
    output_dir: str | None
    store: _Uri
    tracking: _Uri
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
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("config", overrides=list(overrides))
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
    table = _hparams(sweep.hparams)
    return SweepSpec(
        name=sweep.name,
        datasets={
            name: DatasetSpec(
                name=name,
                layout=config.datasets[name].layout,
                generate=config.datasets[name].generate,
                path=config.datasets[name].path,
            )
            for name in sweep.datasets
        },
        cells=cells,
        rows={
            cell: tuple(_row(sweep, name, cell, table) for name in sweep.methods) for cell in cells
        },
        model=sweep.model,
        preprocessing=sweep.preprocessing,
        views=sweep.views,
        reference_copies=sweep.reference_copies,
        training={
            name: _training(composed["sweep"]["training"], config.datasets[name].training, name)
            for name in sweep.datasets
        },
    )


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


def _row(sweep: _Sweep, name: str, cell: Cell, table: list[dict[str, Any]]) -> Row:
    own = dict(sweep.rows.get(name) or {})
    method = own.pop("method", name)
    if name not in sweep.rows and name not in methods.names():
        raise unknown_name("method", name, {*methods.names(), *sweep.rows})
    if not isinstance(method, str):
        raise InputError(f"sweep.rows.{name}.method is {method!r}, but it must be a method's name")
    values = {**sweep.defaults.get(method, {}), **own}
    published = _published(method, cell, table)
    if sweep.hparams and published is None and not values:
        raise _unpublished(method, cell, table)
    if name != method:
        published = {**(published or {}), **(_published(name, cell, table) or {})}
    try:
        built = methods.build(method, {**(published or {}), **values})
    except InputError as error:
        raise InputError(f"sweep.rows.{name}: {error}") from None
    cls = methods.get(method)
    return Row(
        name=name,
        method=method,
        access=cls.access,
        hyperparameters=methods.hyperparameters(built),
        prepare=prepare_hyperparameters(built) if hasattr(cls, "prepare") else None,
    )


def _published(name: str, cell: Cell, table: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The table's values of a method, or of a row of its own, for this cell; None if none."""
    if _needs_no_values(name):
        return {}
    wanted = (cell.dataset, cell.num_forget, name)
    for row in table:
        if (row["dataset"], row["num_forget"], row["method"]) == wanted:
            return {k: v for k, v in row.items() if k not in ("dataset", "num_forget", "method")}
    return None


def _needs_no_values(name: str) -> bool:
    """Whether a method has nothing that could be tuned, so needs no published values."""
    return name in methods.names() and not methods.get(name).search_space


def _unpublished(method: str, cell: Cell, table: list[dict[str, Any]]) -> InputError:
    found = [row for row in table if (row["dataset"], row["method"]) == (cell.dataset, method)]
    known = ", ".join(str(row["num_forget"]) for row in found) or "none"
    return InputError(
        f"{method} has no published hyperparameters for {cell.dataset} with forget size "
        f"{cell.num_forget} (known sizes: {known}); give them as +sweep.rows.{method}.NAME=VALUE"
    )
