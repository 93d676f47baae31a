"""Text that others wrote, as in file names and cells: harmless where it is printed or opened."""

from __future__ import annotations

import re
import unicodedata

_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")
_NUMBER = re.compile(r"[+\-](?:\d*\.?\d*(?:[eE][+\-]?\d+)?|inf|nan)")


def printable(text: str, *, keep: str = "") -> str:
    r"""The text with all that would steer a terminal or break a line written out, as in ``\x1b``.

    Control and format characters, line separators and what no encoding knows are written out;
    letters, signs and spaces of every language stay.

    Args:
        text: As somebody else wrote it.
        keep: Characters to leave alone, for example the ends of lines.
    """
    if text.isprintable():
        return text
    return "".join(
        c
        if c.isprintable() or c in keep or unicodedata.category(c) == "Zs"
        else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def cell(text: str) -> str:
    """The text as a cell of a table that spreadsheets open: printable, and never a formula.

    Args:
        text: As somebody else wrote it; numbers with a sign stay as they are.
    """
    shown = printable(text)
    if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        return f"'{shown}"
    return shown
