"""How a run describes itself in its output folder.

``sweep.yaml`` is the configuration, from which the same is run again. ``plan.json`` is what was
planned: from it the jobs are found again without method, plugin or file of configuration, so
that whoever has the folder can read it, and whatever has become of the code since.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import typing
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml
from omegaconf import OmegaConf
from pydantic import TypeAdapter

from oneshui.data import registry
from oneshui.errors import InputError
from oneshui.origin import versions
from oneshui.spec import Task, Walk
from sweeps.command import PASSING, lasting, override_key, without_secrets
from sweeps.graph.job import digest
from sweeps.graph.launch import LaunchSpec
from sweeps.graph.spec import Cell, Row, SweepSpec
from sweeps.store.aside import make_room
from sweeps.store.base import SEAL

SWEEP, PLAN = "sweep.yaml", "plan.json"
SETTINGS = ("data_dir", "store", "tracking", "report")
"""Keys of the configuration that change nothing of what is computed, but how it is read."""

_FORMAT = 1
_HEAD = "# What this sweep was begun with. To run it again: oneshui sweep=PATH, with this file's.\n"
_ENGINE = ("ray", "optuna", "mlflow", "hydra-core", "omegaconf", "pydantic")
_FOLDER = re.compile(r"(?:^|(?<=[=,\['\"]))~?/(?:[^,\[\]{}'\"]*/)?")
"""The folder before the name of a file, by itself or within an override."""
_INTERPOLATION = re.compile(r"(\\*)\$\{")


@dataclass(frozen=True, kw_only=True)
class Described:
    """What a folder says of the sweep in it.

    Attributes:
        sweep: Equal to the one that was planned, versions of stages included.
        command: The overrides of then that say what is computed, and where.
        settings: What the configuration held under ``SETTINGS``.
    """

    sweep: SweepSpec
    command: tuple[str, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """What is known of a dataset's layout, for where its loader is not."""

    folder: str
    task: Task | None
    num_images: int
    walk: Walk
    is_installed: bool
    credit: str
    source: str


@dataclass(frozen=True, kw_only=True)
class _CellRows(Cell):
    """A cell and the places of its rows among all."""

    rows: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class _Document:
    format: Literal[1]
    command: tuple[str, ...]
    settings: Mapping[str, Any]
    layouts: Mapping[str, _Layout]
    cells: tuple[_CellRows, ...]
    rows: tuple[Row, ...]
    sweep: Mapping[str, Any]


_APART = ("cells", "rows")
"""Fields of a sweep that stand by themselves: the same rows are many cells'."""


def write(spec: LaunchSpec, output: Path) -> None:
    """Describe a run in its output folder; each file is there whole, or as it was.

    Args:
        spec: The command.
        output: The folder.
    """
    _replace(output / SWEEP, _sweep_text(spec))
    _replace(output / PLAN, _plan_text(spec))


def _replace(path: Path, text: str) -> None:
    # A run that has nothing to do changes nothing.
    with contextlib.suppress(OSError):
        if path.read_bytes() == text.encode():
            return
    make_room(path)
    new = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _sweep_text(spec: LaunchSpec) -> str:
    said = {key: value for key, value in spec.configuration.items() if key not in PASSING}
    document = {
        "configuration": _each_text(said, lambda text: _literal(without_secrets(text))),
        "plugins": [{"name": one.item, "sources": f"plugins/{one.hash}"} for one in spec.plugins],
        "versions": versions(*_ENGINE),
        "weights": spec.sweep.weights_content or None,
    }
    return _HEAD + OmegaConf.to_yaml(OmegaConf.create(document))


def literal(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a folder as OmegaConf gives them back.

    The folder may be a stranger's: what is a reference could read our environment, and where a
    report is copied to is for the command to say.
    """
    own = {
        key: {name: it for name, it in value.items() if (key, name) != ("report", "copy_to")}
        for key, value in settings.items()
        if isinstance(value, Mapping)
    }
    found: dict[str, Any] = _each_text({**settings, **own}, _literal)
    return found


def _literal(text: str) -> str:
    """The text as OmegaConf gives it back: what looks like a reference is none."""
    return _INTERPOLATION.sub(lambda found: rf"{found[1]}{found[1]}\${{", text)


def _each_text(node: Any, change: Callable[[str], str]) -> Any:
    match node:
        case str():
            return change(node)
        case Mapping():
            return {key: _each_text(value, change) for key, value in node.items()}
        case list():
            return [_each_text(value, change) for value in node]
    return node


def _plan_text(spec: LaunchSpec) -> str:
    sweep = spec.sweep
    places: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    cells = []
    for cell in sweep.cells:
        own = []
        for row in map(dataclasses.asdict, sweep.rows[cell]):
            text = json.dumps(row)
            if text not in places:
                places[text] = len(rows)
                rows.append(row)
            own.append(places[text])
        cells.append({**dataclasses.asdict(cell), "rows": own})
    layouts = {one.layout: registry.get(one.layout) for one in sweep.datasets.values()}
    document = {
        "format": _FORMAT,
        "command": [without_secrets(word) for word in lasting(spec.command)],
        "settings": {
            key: _each_text(spec.configuration[key], without_secrets)
            for key in SETTINGS
            if key in spec.configuration
        },
        "layouts": {
            name: dataclasses.asdict(
                _Layout(
                    folder=layout.folder,
                    task=layout.task,
                    num_images=layout.num_images,
                    walk=layout.walk,
                    is_installed=layout.installed is not None,
                    credit=layout.credit,
                    source=layout.source,
                )
            )
            for name, layout in layouts.items()
        },
        "cells": cells,
        "rows": rows,
        "sweep": _fields(sweep),
    }
    return _sealed(document)


def _fields(sweep: SweepSpec) -> dict[str, Any]:
    values = {f.name: getattr(sweep, f.name) for f in dataclasses.fields(SweepSpec)}
    return {
        name: TypeAdapter(Any).dump_python(value, mode="json")
        for name, value in values.items()
        if name not in _APART
    }


def elsewhere(output: Path) -> dict[str, bytes]:
    """Both files without the places and addresses of this machine, for a folder that moves.

    Raises:
        InputError: They are not there, or cannot be read.
    """
    read(output)
    tree: Any = OmegaConf.to_container(OmegaConf.load(output / SWEEP))
    _forget_places(tree["configuration"])
    document = json.loads((output / PLAN).read_bytes())
    document.pop(SEAL)
    _forget_places(document["settings"])
    own = [word for word in document["command"] if override_key(word).split(".")[0] not in _PLACES]
    document["command"] = [
        word if override_key(word).startswith(_ROWS) else _named(word) for word in own
    ]
    document["sweep"] = _named_files(document["sweep"])
    rows = tree["configuration"]["sweep"].get("rows")
    tree = _named(tree)
    tree["configuration"]["sweep"] |= {} if rows is None else {"rows": rows}
    return {
        SWEEP: (_HEAD + OmegaConf.to_yaml(OmegaConf.create(tree))).encode(),
        PLAN: _sealed(document).encode(),
    }


_PLACES: Mapping[str, Any] = {
    "data_dir": "data",
    "output_dir": None,
    "store": {"uri": None},
    "tracking": {"uri": None},
}
"""Keys that say where things are on one machine, and what they are anywhere."""


_ROWS = "sweep.rows"
"""Hyperparameters are in the keys of jobs, whatever they say."""


def _named(node: Any) -> Any:
    """The same without the folders of files in it."""
    return _each_text(node, lambda text: _FOLDER.sub("", text))


def _named_files(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """A sweep whose files, which are in keys by their contents, are named without their folders."""
    model = {**sweep["model"], "weights": _named(sweep["model"]["weights"])}
    given = sweep["pretrained"]
    if given is not None:
        # One folder of all files, so that they stay apart.
        folder = _FOLDER.match(given["path"])
        start = len(folder.group()) if folder else 0
        contents = {name[start:]: it for name, it in given["contents"].items()}
        given = {**given, "path": given["path"][start:], "contents": contents}
    return {**sweep, "model": model, "pretrained": given}


def _forget_places(configuration: dict[str, Any]) -> None:
    for key, value in _PLACES.items():
        if key in configuration:
            said = configuration[key]
            configuration[key] = said | value if isinstance(value, dict) else value


def _sealed(document: Mapping[str, Any]) -> str:
    return json.dumps({**document, SEAL: digest(document)}, indent=1, ensure_ascii=False) + "\n"


def read(output: Path) -> Described:
    """What a run that wrote into the folder said of itself.

    Raises:
        InputError: It said nothing, or what is there is not as it was written.
    """
    path = output / PLAN
    try:
        document = json.loads(path.read_bytes())
        is_whole = document.pop(SEAL) == digest(document)
    except FileNotFoundError:
        raise InputError(
            f"{output} holds no {PLAN}, in which a sweep describes itself: say which sweep is "
            "meant, as in sweep=demo, or run it there again, which computes nothing twice"
        ) from None
    except _NOT_OURS:
        raise _refused(path, "cannot be read") from None
    if not is_whole:
        raise _refused(path, "has changed since it was written")
    try:
        found = _validated(_Document, document)
        if not found.settings.keys() <= set(SETTINGS):
            raise LookupError
        return Described(sweep=_sweep(found), command=found.command, settings=found.settings)
    except (InputError, *_NOT_OURS):
        raise _refused(path, "was written by another version of oneshui") from None


_NOT_OURS = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


def _refused(path: Path, what: str) -> InputError:
    return InputError(f"{path} {what}: say which sweep is meant, with the arguments that it had")


def _validated(kind: Any, value: Any) -> Any:
    # As JSON: in Python, strictness asks for tuples and enums.
    return TypeAdapter(kind).validate_json(json.dumps(value), strict=True, extra="forbid")


def _sweep(document: _Document) -> SweepSpec:
    for name, layout in document.layouts.items():
        registry.recall(_recalled(name, layout))
    hints = typing.get_type_hints(SweepSpec)
    cells = {
        Cell(**{f.name: getattr(one, f.name) for f in dataclasses.fields(Cell)}): one.rows
        for one in document.cells
    }
    return SweepSpec(
        cells=tuple(cells),
        rows={cell: tuple(document.rows[it] for it in own) for cell, own in cells.items()},
        **{name: _validated(hints[name], value) for name, value in document.sweep.items()},
    )


def _recalled(name: str, layout: _Layout) -> registry.Dataset:
    def absent(*_: Any, **__: Any) -> NoReturn:
        raise InputError(
            f"pictures in the layout {name!r} cannot be read: the code that does is not here"
        )

    return registry.Dataset(
        name=name,
        folder=layout.folder,
        task=layout.task,
        num_images=layout.num_images,
        walk=layout.walk,
        load=absent,
        installed=absent if layout.is_installed else None,
        credit=layout.credit,
        source=layout.source,
    )


def configuration(path: Path) -> dict[str, Any] | None:
    """The configuration in a ``sweep.yaml`` of ours; None if it is a sweep in the shipped format.

    Raises:
        InputError: It is not there or is neither.
    """
    try:
        tree: Any = OmegaConf.to_container(OmegaConf.load(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from None
    except (yaml.YAMLError, ValueError):
        raise InputError(f"{path} cannot be read: it is no YAML") from None
    if not isinstance(tree, dict):
        raise InputError(f"{path} is no configuration: it holds no keys")
    if "configuration" not in tree:
        return None
    if not isinstance(tree["configuration"], dict):
        raise InputError(f"{path} is not as oneshui wrote it: its configuration is no map")
    return tree["configuration"]
