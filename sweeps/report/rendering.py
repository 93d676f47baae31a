"""Templates filled in: HTML is escaped, Markdown is not, LaTeX has marks of its own."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from oneshui.printable import printable


def render(template: str, **values: Any) -> str:
    """A file of the folder ``templates``, filled in.

    Raises:
        jinja2.UndefinedError: It names what is not among the values.
    """
    return _environment(template.split(".", 1)[1]).get_template(template).render(**values)


@functools.lru_cache
def _environment(kind: str) -> Environment:
    """That of files of one kind, such as "tex.j2", which compiles each of them once."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=kind != "html.j2",
        finalize=_printable,
    )
    if kind == "tex.j2":
        environment = environment.overlay(
            variable_start_string="<<",
            variable_end_string=">>",
            block_start_string="<%",
            block_end_string="%>",
        )
    environment.filters["sets"] = _sets
    environment.filters["in_cell"] = _in_cell
    return environment


def _printable(value: Any) -> Any:
    """The value without what would steer a viewer; Markup stays Markup."""
    return type(value)(printable(value, keep="\n\t")) if isinstance(value, str) else value


def _in_cell(text: str) -> str:
    """Markdown that stays within a cell of a table, within marks of code or without."""
    return text.replace("|", r"\|").replace("`", "'").replace("<", "&lt;")


def _sets(text: str) -> Markup:
    """Escaped text with the index of D_f and D_r set low."""
    return Markup(re.sub(r"\bD_([fr])\b", r"D<sub>\1</sub>", str(escape(text))))
