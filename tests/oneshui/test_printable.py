from __future__ import annotations

import os

import pytest

from oneshui.errors import DataError, InputError
from oneshui.printable import as_cell, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë 李/1.png", "Zoë 李/1.png"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x9b2J", r"\x9b2J"),
        ("gpj.\u202egnp", r"gpj.\u202egnp"),
        ("a\u2028b", r"a\u2028b"),
        (os.fsdecode(b"\xff.png"), r"\udcff.png"),
    ],
)
def test_what_cannot_be_seen_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert as_cell(text) == shown
    assert shown.isprintable()


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_a_cell_is_no_formula(text: str) -> None:
    assert as_cell(text) == f"'{text}"
    assert printable(text) == text


def test_messages_about_data_are_printable() -> None:
    assert str(DataError("/d/\x1b]0;x\x07.png is absent")) == r"/d/\x1b]0;x\x07.png is absent"
    assert str(InputError("one\ntwo")) == "one\ntwo"
