"""MUFAC's eight classes of ages. Imports nothing."""

from __future__ import annotations

from typing import Final

#: The letters by which MUFAC's files call the classes 0 to 7.
LETTERS: Final = "abcdefgh"
#: First and last year of every class.
YEARS: Final = ((0, 6), (7, 12), (13, 19), (20, 30), (31, 45), (46, 55), (56, 66), (67, 80))
