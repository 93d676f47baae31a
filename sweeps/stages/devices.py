"""Which device a job computes on: what the command names, as torch finds it on a machine."""

from __future__ import annotations

from oneshui.errors import InputError


def device_of_share(named: str) -> str:
    """What a job computes on that was given a GPU, or a share of one.

    Args:
        named: The kind that the command names; empty for what torch finds.
    """
    from oneshui.accelerator import usual_device

    found = named or usual_device()
    # Ray counts a GPU that torch cannot use: the check before the first job says so.
    return "cuda" if found == "cpu" else found


def count_named(device: str) -> int | None:
    """How many accelerators of a named kind this machine has; None where Ray counts them itself.

    Args:
        device: As the command names it.

    Raises:
        InputError: There is none that torch can use.
    """
    if device == "cpu":
        return 0
    if device in ("auto", "cuda"):
        return None
    import torch

    from oneshui.accelerator import require_usable

    try:
        require_usable(device)
    except InputError as error:
        raise InputError(f"{error}; say device=cpu to compute on processors") from None
    return int(torch.get_device_module(device).device_count())
