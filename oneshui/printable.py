"""Names that strangers chose, made safe to show: in a terminal, in a log, in a spreadsheet."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with escapes for all that cannot be seen.

    That is what a terminal obeys, what turns the direction of writing, what ends a line, and the
    bytes of a file name that are no UTF-8.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def as_cell(text: str) -> str:
    """As ``printable``, and no formula for a spreadsheet that it is pasted into."""
    shown = printable(text)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@")) else shown
