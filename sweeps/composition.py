"""The configuration of a command: Hydra composes the files that it chooses, then come its changes.

With ``sweeps.overrides`` the only importer of hydra, with ``sweeps.described`` of omegaconf.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from oneshui.errors import InputError, unknown_name
from sweeps import described
from sweeps.overrides import Change, apply, parse

CONF = Path(__file__).parent / "conf"
GROUPS = ("sweep", "cluster", "scale")
"""Folders of files of which a command chooses one."""


def sweep_names() -> list[str]:
    """Names of the sweeps that are shipped."""
    return group("sweep")


def group(name: str) -> list[str]:
    """Names of the shipped files of which a command chooses one."""
    return sorted(path.stem for path in (CONF / name).glob("*.yaml"))


def shipped(sweep: str) -> dict[str, Any]:
    """The configuration of a shipped sweep, before a command changes any of it."""
    return _shipped({"sweep": sweep})


def composed_of(
    overrides: Sequence[str], settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The files that a command chooses, with its changes.

    A map in a change replaces the one that was there; Hydra itself would mix the two.

    Args:
        overrides: The command.
        settings: Values in place of those of the files, below those of the command.
    """
    chosen: dict[str, str] = {}
    changes: list[Change] = []
    for override in overrides:
        key, _, name = override.lstrip("+").partition("=")
        if key not in GROUPS:
            changes.append(parse(override))
        elif name in group(key) or (key in _OWN_FILES and name.endswith(".yaml")):
            chosen[key] = name
        else:
            raise unknown_name(key, name, group(key))
    tree = _filled(_base(chosen), settings or {})
    known = _keys(tree)
    _make_room_for_factory(changes, tree)
    for change in changes:
        if not apply(change, tree):
            raise unknown_key(change.key, known)
    try:
        composed = OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(
            f"{error.full_key or 'a value'} refers to something that is not there; where ${{...}} "
            "is meant as it stands, write \\${...}"
        ) from None
    assert isinstance(composed, dict)
    require_finite(composed)
    return {str(key): value for key, value in composed.items()}


def _make_room_for_factory(changes: Sequence[Change], tree: dict[str, Any]) -> None:
    """A network of the user's own has neither the options nor the weights of the sweep's."""
    if any(change.key == "sweep.model.factory" and change.value for change in changes):
        tree["sweep"]["model"] |= {"options": {}, "weights": "random"}


_OWN_FILES = ("sweep", "cluster")
"""Groups of which a command may choose a file of the user's, by its path."""


def _base(chosen: Mapping[str, str]) -> dict[str, Any]:
    """What a command begins with: shipped files, files of the user's, or one that says it all."""
    files = {key: Path(name).expanduser() for key, name in chosen.items() if _is_path(key, name)}
    own = {key: described.configuration(path) for key, path in files.items()}
    shipped = {key: name for key, name in chosen.items() if key not in files}
    whole = own.pop("sweep", None)
    for key, tree in own.items():
        if tree is not None:
            raise InputError(f"{files[key]} describes a run: it is no file for {key}=")
    if whole is None:
        return _shipped(shipped, files)
    if "scale" in chosen:
        raise InputError(
            f"scale={chosen['scale']} is for shipped sweeps: {files['sweep']} says everything of "
            "its sweep; leave scale out"
        )
    files.pop("sweep")
    said = {key: value for key, value in whole.items() if key == "sweep" or key not in chosen}
    return _filled(_shipped(shipped, files), said)


def _is_path(key: str, name: str) -> bool:
    return key in _OWN_FILES and name not in group(key)


def _filled(tree: dict[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """What was said, with today's values of keys that nobody knew then."""
    return tree | {
        key: {**tree[key], **value}
        if isinstance(value, dict) and isinstance(tree.get(key), dict) and key not in _WHOLE
        else value
        for key, value in said.items()
    }


_WHOLE = ("sweep", "datasets")
"""Maps that a described run says whole."""


def _shipped(chosen: Mapping[str, str], files: Mapping[str, Path] | None = None) -> dict[str, Any]:
    """Compose shipped files, and files of the user's in the same format.

    Raises:
        InputError: A file of the user's refers to one that is not there.
    """
    names = dict(chosen)
    for key, path in (files or {}).items():
        # Under a name that no shipped file has.
        names[key] = f"{path.stem}.yaml of the user"
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            for key, path in (files or {}).items():
                node = OmegaConf.load(path)
                ConfigStore.instance().store(names[key], node, group=key)
            config = compose("config", overrides=[f"{key}='{name}'" for key, name in names.items()])
    except HydraException as error:
        if not files:
            raise
        listed = ", ".join(map(str, files.values()))
        raise InputError(f"{listed}: {str(error).splitlines()[0]}") from None
    tree: Any = OmegaConf.to_container(config)
    return {str(key): value for key, value in tree.items()}


def require_finite(node: Any, key: str = "") -> None:
    """Refuse infinity and what is no number, wherever it stands.

    Raises:
        InputError: Naming the first key.
    """
    children = node.items() if isinstance(node, Mapping) else enumerate(node)
    for name, child in children:
        where = f"{key}.{name}".strip(".")
        if isinstance(child, Mapping | list):
            require_finite(child, where)
        elif isinstance(child, int | float) and not abs(child) <= sys.float_info.max:
            shown = child if isinstance(child, float) else "too large"
            raise InputError(f"{where} is {shown}, but numbers must be finite")


def unknown_key(key: str, known: Sequence[str]) -> InputError:
    """The error for a key that does not exist, with the nearest that does."""
    return InputError(f"unknown configuration key {key!r}{meant(key, known)}")


def meant(key: str, known: Sequence[str]) -> str:
    """Which key was meant, perhaps: a near one, or one that stands elsewhere by the same name."""
    parent = key.rpartition(".")[0]
    beside = [one for one in known if one.rpartition(".")[0] == parent]
    moved = dict.fromkeys(f"{parent}.{one.rpartition('.')[2]}".strip(".") for one in known)
    for names, cutoff in ((beside, 0.6), (list(moved), 0.8), (known, 0.6)):
        near = difflib.get_close_matches(key, names, n=1, cutoff=cutoff)
        if near and near[0] != key:
            return f"; did you mean {near[0]!r}?"
    return ""


def known_keys() -> list[str]:
    """All keys of the configuration as it is shipped."""
    return _keys(_shipped({}))


def _keys(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, Mapping):
        return [prefix]
    return [
        key for name, child in node.items() for key in _keys(child, f"{prefix}.{name}".strip("."))
    ] + [prefix]


def published_rows(names: Sequence[str]) -> list[dict[str, Any]]:
    """Lines of the shipped tables of hyperparameters, which say whether they were published.

    Raises:
        InputError: Nothing is shipped by such a name, or a number is not finite.
    """
    rows: list[dict[str, Any]] = []
    for name in names:
        if name not in group("hparams"):
            raise unknown_name("sweep.hparams", name, group("hparams"))
        loaded: Any = OmegaConf.to_container(OmegaConf.load(CONF / "hparams" / f"{name}.yaml"))
        require_finite(loaded, f"hparams.{name}")
        rows += [{**row, "published": loaded.get("published", False)} for row in loaded["rows"]]
    return rows
