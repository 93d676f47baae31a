"""What a command can set: every key with its values, its default and what it is.

All of it is read where it is said once: types and defaults in the configuration's schema,
descriptions in the ``Attributes`` of its classes, else in the comment beside the key in the shipped
files.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from sweeps.composition import CONF, GROUPS, group, shipped
from sweeps.config import OPEN_MAPS, SCHEMA

_FILES: Final = {"": "config.yaml", "cluster.": "cluster/local.yaml", "sweep.": "sweep/full.yaml"}
"""Where the keys below a prefix stand with comments."""
_WORDS: Final = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Any: "any value",
}
_UNSET: Final = object()


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key of the configuration.

    Attributes:
        name: With dots; ``<name>`` stands for one of the user's or of a dataset, stage or machine.
        values: What it may hold, in words.
        defaults: What it holds where a command says nothing, by the shipped sweep; the same under
            the name "" where no sweep says it. Without an entry, the key is absent.
        text: What it is, in a sentence or two.
    """

    name: str
    values: str
    defaults: Mapping[str, str]
    text: str


def keys(sweeps: tuple[str, ...] = ("demo", "full")) -> list[Key]:
    """All keys, in the order of the schema.

    Args:
        sweeps: Whose values to tell of the keys below ``sweep``.
    """
    comments = {
        prefix + name: text
        for prefix, file in _FILES.items()
        for name, text in _comments(CONF / file).items()
    }
    trees = {name: shipped(name) for name in sweeps}
    chosen = [
        Key(
            name=name,
            values=", ".join(group(name)),
            defaults={"": _default_of(name)},
            text=comments[f"defaults.{name}"],
        )
        for name in GROUPS
    ]
    return [*chosen, *_walk(SCHEMA, "", trees, comments)]


def _default_of(name: str) -> str:
    (chosen,) = re.findall(rf"^  - {name}: (\w+)", (CONF / "config.yaml").read_text("utf-8"), re.M)
    return str(chosen)


def _walk(
    kind: type, prefix: str, trees: Mapping[str, Any], comments: Mapping[str, str]
) -> Iterator[Key]:
    hints, said = typing.get_type_hints(kind), _attributes(kind)
    for field in dataclasses.fields(kind):
        if prefix == "datasets.<name>." and field.name == "name":
            continue  # the key itself says it
        # A name that Python keeps for itself has another sign there.
        name, hint = prefix + field.name.removesuffix("_"), hints[field.name]
        inner, is_map = _inner(OPEN_MAPS.get(name, hint))
        text = said.get(field.name) or comments.get(name, "")
        if inner is None or is_map or name in OPEN_MAPS:
            own = _UNSET if field.default is dataclasses.MISSING else field.default
            found = {sweep: _value(tree, name, own) for sweep, tree in trees.items()}
            if not name.startswith("sweep."):
                found = {"": next(iter(found.values()))}
            yield Key(
                name=name,
                values=_words(hint),
                defaults={sweep: value for sweep, value in found.items() if value is not None},
                text=re.sub(r"\bNone\b", "null", text),
            )
        if inner is not None:
            yield from _walk(inner, f"{name}.{'<name>.' if is_map else ''}", trees, comments)


def _inner(hint: Any) -> tuple[type | None, bool]:
    """The class whose fields are keys below this one, and whether a name stands between."""
    parts = [hint, *(part for part in typing.get_args(hint) if _is_union(hint))]
    for part in parts:
        if dataclasses.is_dataclass(part):
            assert isinstance(part, type)
            return part, False
        if typing.get_origin(part) is Mapping and dataclasses.is_dataclass(
            typing.get_args(part)[1]
        ):
            return typing.get_args(part)[1], True
    return None, False


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _words(hint: Any) -> str:
    """A type in words."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if _is_union(hint):
        return " or ".join(_words(part) for part in parts)
    if origin is Literal:
        return ", ".join(map(str, parts))
    if origin is tuple:
        one = _words(parts[0])
        return f"list of {one}" if "," in one else f"list of {_plural(one)}"
    if hint is type(None):
        return "null"
    return "map" if origin is Mapping or dataclasses.is_dataclass(hint) else _WORDS[hint]


def _plural(word: str) -> str:
    return "texts" if word == "text" else f"{word}s"


def _value(tree: Any, name: str, own: object) -> str | None:
    """What a shipped configuration holds, as a command would say it; None where it is absent."""
    for part in name.split("."):
        tree = tree.get(part, _UNSET) if isinstance(tree, Mapping) else _UNSET
    # A sweep, or the schema, fills in what tuning leaves open.
    value = own if tree is _UNSET or (tree is None and own is not _UNSET) else tree
    if value is _UNSET or isinstance(value, dataclasses.Field):
        return None
    return json.dumps(value, ensure_ascii=False).replace('"', "")


def _attributes(kind: type) -> dict[str, str]:
    """What the docstrings of a class and its bases say of its attributes, on one line each."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        _, _, said = inspect.cleandoc(base.__dict__.get("__doc__") or "").partition("Attributes:\n")
        for name, text in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", said, flags=re.MULTILINE):
            found[name] = " ".join(text.split())
    return found


def _comments(file: Path) -> dict[str, str]:
    """The comments beside the keys of a shipped file, by the keys with dots."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"( *(?:- )?)\"?(\w+)\"?:[^#]*(?:# (.*))?", line)
        if match is None:
            continue
        indent, name, comment = len(match[1]), match[2], match[3]
        above = [(at, key) for at, key in above if at < indent]
        above.append((indent, name))
        if comment:
            found[".".join(key for _, key in above)] = comment
    return found
