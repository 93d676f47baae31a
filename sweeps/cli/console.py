"""Where the command prints: file names and other people's words steer no terminal through it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from typing_extensions import override

from oneshui.printable import printable


class PrintableConsole(Console):
    """Writes out whatever in a text would steer the terminal; what rich itself sends passes."""

    @override
    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The segments of what is printed."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text, keep="\n"), style, control)


def say(console: Console, text: str, first: str = "", *, is_command: bool = False) -> None:
    """Print a line; on a terminal it is folded between words, elsewhere it stays one line.

    Args:
        console: Where.
        text: What.
        first: What stands before it; further lines are indented as far.
        is_command: Whether a shell must take it as it stands, folded too.
    """
    lines = [text]
    if console.is_terminal:
        room = max(20, console.width - len(first) - 2 * is_command)
        lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    end = " \\" if is_command else ""
    for number, line in enumerate(lines):
        before = " " * len(first) if number else first
        after = end if number < len(lines) - 1 else ""
        console.print(f"{before}{line}{after}", soft_wrap=True, highlight=False)


def say_damage(lines: Iterable[str], console: Console, who: str) -> None:
    """Name what was found damaged, and who has it computed again."""
    for line in lines:
        console.print(f"{line}; {who} computed again", soft_wrap=True)
