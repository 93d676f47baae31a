"""The arguments ``key=value`` of a command: values in Hydra's syntax, faults in our own words."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from oneshui.errors import InputError
from sweeps.command import quoted

_ARGUMENT = re.compile(r"(\+\+?|~)?([^=]*)(?:=(.*))?", re.DOTALL)
_NAME = r"[^\s.=@\[\]{}'\"]+"
_KEY = re.compile(rf"{_NAME}(\.{_NAME})*")
_TEXT = re.compile(
    r"row|data_dir|output_dir|(store|tracking)\.uri|sweep\.model\.(weights|factory)"
    r"|sweep\.(pretrained|note)|datasets\.[^.]+\.path"
    r"|kit|weights|photos|data|out"
)
"""Keys of paths and addresses: what cannot be read as a value stands for itself."""
_BRACKETS = {"]": "[", "}": "{", ")": "("}


@dataclass(frozen=True, kw_only=True)
class Change:
    """What one argument does to the configuration.

    Attributes:
        key: With dots.
        value: What it is from now on; a map replaces the one that was there.
        is_deletion: Whether the key goes instead.
    """

    key: str
    value: Any
    is_deletion: bool


def parse(argument: str) -> Change:
    """Read one argument.

    Raises:
        InputError: One sentence that names the argument and says how to quote it.
    """
    found = _ARGUMENT.fullmatch(argument)
    assert found is not None
    sign, key, text = found.groups()
    is_deletion = sign == "~"
    if text is None and not is_deletion:
        raise InputError(
            f"{argument!r} is not of the form key=value, for example sweep=smoke; an argument with "
            "spaces stands in quotes as a whole"
        )
    if not _KEY.fullmatch(key):
        raise InputError(f"{key!r} in the argument {quoted(argument)} is no key, as sweep.seeds is")
    return Change(
        key=key, value=None if is_deletion else _value(key, text), is_deletion=is_deletion
    )


def _value(key: str, text: str) -> Any:
    parsed: Override | None = None
    # ValueError: a number of thousands of digits.
    try:
        parsed = OverridesParser.create().parse_override(f"value={text}")
        value = None if parsed.is_sweep_override() else parsed.value()
    except (HydraException, ValueError):
        value = None
    if _TEXT.fullmatch(key):
        is_null = text.strip() == "null"
        path = text if not isinstance(value, str) else value
        return None if is_null else os.path.expanduser(path)  # noqa: PTH111
    if parsed is None:
        raise _unreadable(key, text)
    if parsed.is_sweep_override():
        raise InputError(
            f"the argument {quoted(f'{key}={text}')} gives several values, and a command runs one "
            f"sweep: give a list, as in {quoted(f'{key}=[{text}]')}"
        )
    return value


def _unreadable(key: str, text: str) -> InputError:
    if _unbalanced(text):
        reason = (
            "its brackets or quotes do not match; if the shell has split it, put the whole "
            "argument into single quotes"
        )
        example = "[1, 2]" if text.startswith("[") else "{a: 1, b: [2, 3]}"
    elif text[:1] in ("[", "{"):
        reason = "words with other signs than letters, digits and /-+.$%*@?| stand in double quotes"
        example = '["two, words", 3]' if text.startswith("[") else '{a: "two, words"}'
    else:
        reason = "quote its value"
        inner = text.replace("\\", "\\\\").replace('"', '\\"')
        example = f'"{inner}"'
    return InputError(
        f"the argument {quoted(f'{key}={text}')} cannot be read: {reason}, as in "
        f"{quoted(f'{key}={example}')}"
    )


def _unbalanced(text: str) -> bool:
    """Whether brackets or double quotes are left open."""
    outside = re.sub(r'"(\\.|[^"\\])*"', "", text)
    opened: list[str] = []
    for sign in outside:
        if sign in _BRACKETS.values():
            opened.append(sign)
        elif sign in _BRACKETS and (not opened or opened.pop() != _BRACKETS[sign]):
            return True
    return bool(opened) or '"' in outside


def apply(change: Change, tree: dict[str, Any]) -> bool:
    """Change a configuration in place; whether it could: False if what shall go is not there.

    Raises:
        InputError: The key goes through something that is no map.
    """
    *path, last = change.key.split(".")
    node = tree
    for depth, name in enumerate(path, 1):
        child = node.get(name)
        if child is None and not change.is_deletion:
            child = node[name] = {}
        if not isinstance(child, dict):
            if change.is_deletion:
                return False
            raise InputError(
                f"{change.key} cannot be set, because {'.'.join(path[:depth])} is {child!r} and no "
                "map: give that as a whole"
            )
        node = child
    if change.is_deletion:
        return node.pop(last, node) is not node
    node[last] = change.value
    return True
