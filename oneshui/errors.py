"""The errors that oneshui raises on purpose.

    OneshuiError
    +-- InputError          what the user gave cannot be used; one sentence with the remedy
    |   +-- DataError       a dataset on disk is absent, incomplete or damaged
    +-- DataAccessError     code reached for data that its phase must not see
    +-- NumericalError      a computation left the finite numbers
    +-- MethodError         a method failed, or ended, in a process of its own
    +-- NurseryLostError    the process that such processes are forked from is gone

The command line turns an InputError into exit code 2 without a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from oneshui.printable import printable


class OneshuiError(Exception):
    """Base of every error that oneshui raises on purpose."""


class InputError(OneshuiError, ValueError):
    """What the user gave cannot be used; the message names it and says what to do."""


class DataError(InputError):
    """A dataset on disk is absent, incomplete or damaged; the message names file and line.

    Files and cells have the names that strangers gave them, so it is always printable.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class DataAccessError(OneshuiError, PermissionError):
    """Code reached for data that its phase must not see."""


class NumericalError(OneshuiError, ArithmeticError):
    """A computation produced NaN or infinity where finite numbers are required."""


class MethodError(OneshuiError):
    """A method failed, or ended, in a process of its own."""


class NurseryLostError(OneshuiError):
    """The process that clean ones are forked from has been ended by somebody."""


ON_PURPOSE = ("InputError", "DataError", "DataAccessError", "NumericalError")
"""Names of those that mean the same whichever process raises them."""


_LISTED = 100
"""So many names are still a sentence; timm has more than a thousand."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that nobody registered: it names the nearest, and a few dozen known.

    Args:
        kind: What the name was meant to be, for example "method".
        name: What was given.
        known: The names that exist.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    listed = f" (known: {', '.join(names)})" if len(names) <= _LISTED else ""
    return InputError(f"unknown {kind} {name!r}{hint}{listed}")
