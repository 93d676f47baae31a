from __future__ import annotations

import io

import pytest
from rich.table import Table
from rich.text import Text

from sweeps.cli.console import PrintableConsole

EVIL = "\x1b]0;owned\x07 \u202eexe.gpj"


@pytest.mark.parametrize("wrap", [str, Text])
def test_what_others_wrote_steers_no_terminal(wrap: type[str] | type[Text]) -> None:
    table = Table("head", EVIL)
    table.add_row(wrap(EVIL), EVIL)
    shown = io.StringIO()
    console = PrintableConsole(file=shown, width=200, markup=False, highlight=False)
    console.print(wrap(EVIL), EVIL, soft_wrap=True)
    console.print(table)
    text = shown.getvalue()
    assert text.replace("\n", "").isprintable()
    assert text.count("exe.gpj") == 2
    assert r"\x1b]0;owned" in text


def test_rich_s_own_signs_pass() -> None:
    shown = io.StringIO()
    console = PrintableConsole(
        file=shown, force_terminal=True, color_system="standard", markup=False, highlight=False
    )
    console.print(Text("red", style="red"), "\x1b[0m")
    console.clear()
    assert shown.getvalue() == "\x1b[31mred\x1b[0m \\x1b[0m\n\x1b[2J\x1b[H"
