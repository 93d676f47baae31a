"""Where a method's code runs: a process of its own that keeps only what it was handed.

``enclosed`` forks a process, takes from it every file but what it needs, lets it work, and reads
what it leaves. On Linux with Landlock that binds native code too; without, Python's audit events
are all there is, and where a process cannot be forked the method runs in this one. The result says
which it was. What is promised and what is not: docs/security.md.
"""

from oneshui.enclosure.nursery import (
    Enclosed,
    enclosed,
    keep_nursery,
    nursery_kept,
    protection,
)
from oneshui.enclosure.walls import Walls, packages_of

__all__ = [
    "Enclosed",
    "Walls",
    "enclosed",
    "keep_nursery",
    "nursery_kept",
    "packages_of",
    "protection",
]
