"""``mode=list`` and the second half of ``--help``: sweeps, datasets, methods and keys, a line each.

Nothing is said here: sweeps are described by the first comment of their files, methods and datasets
by their docstrings, keys by ``sweeps.cli.keys``.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from oneshui import methods
from oneshui.data import registry
from oneshui.spec import DATA_SEEN, FACES_LAYOUTS
from sweeps.cli.keys import Key, keys
from sweeps.composition import CONF, shipped, sweep_names
from sweeps.graph.launch import Listed

_NARROWEST, _LONGEST = 60, 40


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line: a name and what it stands for."""

    name: str
    text: str


def sweeps() -> list[Entry]:
    """The shipped sweeps, by what the first line of their files says."""
    return [Entry(name=name, text=_first_comment(name)) for name in sweep_names()]


def _first_comment(sweep: str) -> str:
    with (CONF / "sweep" / f"{sweep}.yaml").open(encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()


def datasets() -> list[Entry]:
    """The datasets that a sweep can name: what is drawn, and what the loaders say they read."""
    own = {name: registry.get(name).load for name in registry.names()}
    found = []
    for name, spec in shipped("demo")["datasets"].items():
        drawn = spec.get("generate")
        text = (
            f"Drawn {FACES_LAYOUTS[spec['layout']]} in the layout {spec['layout']}: "
            f"{drawn['identities']} people, {drawn['pictures']} pictures each, {drawn['size']} px."
            if drawn
            else _described(spec["layout"], own)
        )
        found.append(Entry(name=name, text=text))
    return found


def all_methods() -> list[Entry]:
    """The methods, by their docstrings, with what they see when they unlearn."""
    own = {name: methods.get(name) for name in methods.names()}
    return [
        Entry(name=name, text=f"{_described(name, own)} Sees {DATA_SEEN[method.access]}.")
        for name, method in own.items()
    ]


def _described(name: str, among: Mapping[str, Callable[..., Any]]) -> str:
    """The first line of the file's docstring, or of its own where a file holds several."""
    item = among[name]
    is_alone = Counter(one.__module__ for one in among.values())[item.__module__] == 1
    doc = (is_alone and sys.modules[item.__module__].__doc__) or item.__doc__ or ""
    return _plain(inspect.cleandoc(doc).partition("\n")[0])


def all_keys() -> list[Entry]:
    """All keys of the configuration."""
    return [Entry(name=key.name, text=_key_text(key)) for key in keys()]


def first_keys() -> list[Entry]:
    """The keys that stand below no sweep, study, cluster or dataset."""
    below = ("sweep.", "tuning.", "cluster.", "datasets.")
    return [one for one in all_keys() if not one.name.startswith(below)]


def _key_text(key: Key) -> str:
    text, values = _plain(key.text), list(dict.fromkeys(key.defaults.values()))
    shown = ", ".join(f"{value} in {sweep}" for sweep, value in key.defaults.items())
    shown = values[0] if len(values) == 1 else shown
    is_clear = set(values) <= {"null", "[]", "{}"} or len(shown) > _LONGEST
    return text if is_clear else f"{text.removesuffix('.')}; default {shown}"


def _plain(text: str) -> str:
    return text.replace("``", "")


_LISTS: Mapping[Listed, Callable[[], list[Entry]]] = {
    "sweeps": sweeps,
    "datasets": datasets,
    "methods": all_methods,
    "keys": all_keys,
}


def show_list(console: Console, what: Listed | None) -> None:
    """Print one list, or all of them."""
    for title, entries in _LISTS.items():
        if what in (None, title):
            _print(console, title, entries())


def show_help(console: Console) -> None:
    """Print what follows the usage: all lists, of the keys those that every sweep has."""
    for title in ("sweeps", "datasets", "methods"):
        _print(console, title, _LISTS[title]())
    _print(console, "keys (mode=list what=keys has all, those of sweep, tuning, ...)", first_keys())


def _print(console: Console, title: str, entries: list[Entry]) -> None:
    """A title and its entries; no word is broken, and no line is longer than the console."""
    console.print(f"\n{title}", soft_wrap=True)
    column = 2 + max(len(one.name) for one in entries if len(one.name) <= 28) + 2
    for one in entries:
        lines = textwrap.wrap(
            one.text,
            max(console.width, _NARROWEST) - column,
            break_long_words=False,
            break_on_hyphens=False,
        )
        beside = len(one.name) + 4 <= column
        head, rest = (lines[:1], lines[1:]) if beside else ([], lines)
        console.print("".join([f"  {one.name}".ljust(column), *head]).rstrip(), soft_wrap=True)
        for line in rest:
            console.print(" " * column + line, soft_wrap=True)
