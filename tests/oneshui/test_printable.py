from __future__ import annotations

import pytest

from oneshui.errors import DataError, InputError
from oneshui.printable import cell, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain: ä é 漢字 ± Δ", "plain: ä é 漢字 ± Δ"),
        ("a\u00a0b", "a\u00a0b"),
        ("\x1b]0;owned\x07.jpg", r"\x1b]0;owned\x07.jpg"),
        ("\x9b31mred", r"\x9b31mred"),
        ("two\nlines\r\tand\u2028more", r"two\nlines\r\tand\u2028more"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        ("no utf-8: \udcff", r"no utf-8: \udcff"),
    ],
)
def test_what_steers_a_terminal_is_written_out_and_nothing_else(text: str, shown: str) -> None:
    assert printable(text) == shown
    shown.encode("utf-8")


def test_the_ends_of_lines_can_be_kept() -> None:
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-cmd", "@SUM(A1)", "\t=1", " =1", "＝1", "-1+1"])
def test_a_cell_is_never_a_formula(text: str) -> None:
    assert cell(text).startswith("'")


@pytest.mark.parametrize("text", ["", "-", "-1.5", "+3", "-2e-5", "ssd", "a=b", "n-1", "-inf"])
def test_numbers_and_ordinary_words_stay_as_they_are(text: str) -> None:
    assert cell(text) == text


def test_a_cell_is_printable() -> None:
    assert cell("a\x1b\nb") == r"a\x1b\nb"


def test_messages_about_data_are_printable() -> None:
    assert str(DataError("/d/\x1b]0;x\x07.png is absent")) == r"/d/\x1b]0;x\x07.png is absent"
    assert str(InputError("one\ntwo")) == "one\ntwo"
