"""Numbers as people say them, for the terminal."""

from __future__ import annotations

import math

from rich.text import Text

from sweeps.schedule.remaining import Left

_UNITS = ((86400.0, "days", 36 * 3600), (3600.0, "h", 90 * 60), (60.0, "min", 90))
"""Seconds of a unit, its name, and from how many seconds on it is used."""


def duration(seconds: float) -> str:
    """Seconds as people say them: 8s, 2m05s, 1h02m, 3d04h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 48 * 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def eta(left: Left) -> str:
    """A range as long as the time that is left is uncertain: "4 to 7 min"."""
    if not left.is_known:
        return "unknown yet"
    return between(left.seconds / left.factor, left.seconds * left.factor)


def between(low: float, high: float) -> str:
    """Two spans of seconds in one unit, no more exact than is of use."""
    for seconds, name, least in _UNITS:
        if high >= least:
            # Halves of hours and days, while there are few of them.
            step = 1.0 if name == "min" or high / seconds >= 5 else 0.5
            return _range(low / seconds / step, high / seconds / step, step, name)
    return _range(low / 5, high / 5, 5.0, "s")


def _range(low: float, high: float, step: float, unit: str) -> str:
    first, last = round(low) * step, math.ceil(high - 0.5) * step
    if last <= 0:
        return f"under {step:g} {unit}"
    if first <= 0:
        return f"under {last:g} {unit}"
    return f"about {last:g} {unit}" if first >= last else f"{first:g} to {last:g} {unit}"


def rough(seconds: float) -> str:
    """A span of time that is known about: 40 s, 12 min, 7.4 h, 3 days, 25 years."""
    for unit, name, least in ((365.25 * 86400, "years", 730 * 86400), *_UNITS):
        if seconds >= least:
            value = seconds / unit
            return f"{value:.1f} {name}" if value < 9.95 else f"{value:,.0f} {name}"
    return f"{seconds:.0f} s"


def size(count: float) -> str:
    """Bytes as people say them: 3 kB, 40 MB, 1.5 GB."""
    place = min(4, int(math.log(max(count, 1), 1000) + 1e-9))
    value, unit = count / 1000**place, ("bytes", "kB", "MB", "GB", "TB")[place]
    return f"{value:.1f} {unit}" if value < 10 and place else f"{value:,.0f} {unit}"


def bar(share: float, width: int, *, plain: bool = False) -> Text:
    """A bar that is told without colours, too.

    Args:
        share: That is done.
        width: In columns.
        plain: Whether the terminal knows ASCII alone.
    """
    done = min(width, max(0, math.floor(share * width + 1e-9)))
    full, empty = ("#", ".") if plain else ("━", "┄")
    return Text.assemble((full * done, "green"), empty * (width - done))


def several(count: int, what: str) -> str:
    """A number of things: 1 worker, 2 workers."""
    return f"{count} {what}{'' if count == 1 else 's'}"
