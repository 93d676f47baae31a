"""What comes back from an enclosed process, none of which is trusted: numbers, tensors, errors.

Nothing is unpickled: a report is JSON, tensors are safetensors, and both are in files that this
side opened, so that no link can stand in their place.
"""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from oneshui import errors
from oneshui.errors import DataAccessError, MethodError

if TYPE_CHECKING:
    import torch

_MOST_TEXT = 20_000
_KNOWN: Mapping[str, type[Exception]] = {
    **{name: getattr(errors, name) for name in errors.ON_PURPOSE},
    "MemoryError": MemoryError,
}


def write_result(tensors: Mapping[str, torch.Tensor], value: Any, into: tuple[int, int]) -> None:
    """In the enclosed process: leave what was computed in the two files, tensors first."""
    from safetensors.torch import save

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    _write(into[0], save(whole))
    _write(into[1], json.dumps({"value": value}).encode())


def write_error(error: BaseException, into: int) -> None:
    """In the enclosed process: leave type, message and traceback of what went wrong."""
    text = "".join(traceback.format_exception(error))[-_MOST_TEXT:]
    found = {
        "type": type(error).__name__,
        "message": str(error)[:_MOST_TEXT],
        "traceback": text,
        "is_ending": not isinstance(error, Exception),
        "is_refusal": isinstance(error, PermissionError),
    }
    _write(into, json.dumps({"error": found}).encode())


def _write(number: int, data: bytes) -> None:
    with open(number, "wb", closefd=False) as stream:
        stream.write(data)


def read_result(
    method: str, status: int, tensors: IO[bytes], report: IO[bytes]
) -> tuple[dict[str, torch.Tensor], Any]:
    """What the process left.

    Args:
        method: Whose code it ran.
        status: How it ended, as ``os.waitpid`` says.
        tensors: The file of tensors.
        report: The file of the report.

    Raises:
        MethodError: The method raised an error, of which this one has name and message; or it
            ended the process, or damaged what was to be left.
        OneshuiError, MemoryError: The method raised it.
    """
    report.seek(0)
    tensors.seek(0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGKILL:
            raise MemoryError(f"the process of method {method} was killed, as if memory ran out")
        raise MethodError(
            f"method {method} ended its process by {signal.Signals(number).name} instead of "
            "returning"
        )
    try:
        document = json.loads(report.read())
        error = document.get("error")
        value = document.get("value")
        raised = None if error is None else _rebuilt(method, error)
    except (ValueError, AttributeError, KeyError, TypeError):
        code = os.waitstatus_to_exitcode(status)
        raise MethodError(
            f"method {method} ended its process with status {code} instead of returning"
        ) from None
    if raised is not None:
        raise raised
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(tensors.read()), value
    except SafetensorError as problem:
        raise MethodError(f"method {method} damaged its result: {problem}") from None


def _rebuilt(method: str, error: Mapping[str, Any]) -> Exception:
    name, message = str(error["type"]), str(error["message"])
    if error["is_ending"]:
        found: Exception = MethodError(
            f"method {method} raised {name}({message}) instead of returning"
        )
    elif name in _KNOWN:
        found = _KNOWN[name](message)
    elif error["is_refusal"]:
        found = DataAccessError(
            f"method {method} was refused what it reached for ({message}): when it runs it has "
            "what it was handed and nothing else; declare Access.FULL if it needs more"
        )
    else:
        # Under its own name, because that is what a person looks for.
        found = type(name, (MethodError,), {})(message)
    found.add_note(f"in the process of method {method}:\n{error['traceback']}")
    return found
