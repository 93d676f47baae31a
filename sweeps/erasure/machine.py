"""This process made ready to compute, as a worker of a sweep is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from oneshui import plugins
from oneshui.enclosure import nursery_kept
from sweeps.stages.run import import_all, limit_threads


@contextlib.contextmanager
def ready(
    threads: int, device: str | None, items: Sequence[str] = (), factory: str = ""
) -> Iterator[str]:
    """Inside the block methods can be run behind walls; the device is the block's.

    Args:
        threads: Of torch: results depend on their number.
        device: Torch's name of it; None for the GPU, if there is one that is used unasked.
        items: Plugins, as ``oneshui.plugins.load`` takes them.
        factory: What makes the network, if that is the user's own code; empty if it is not.

    Raises:
        InputError: The device cannot be used, or a plugin cannot be loaded.
    """
    limit_threads(threads)
    import_all()
    made_by = factory.rpartition(":")[0]
    known = {plugins.module_of(item) for item in items}
    loaded = plugins.load(
        [*items, made_by] if made_by and plugins.module_of(made_by) not in known else items
    )
    for plugin in loaded:
        plugins.import_behind(plugin.module)
    # Before anybody asks for the GPU, whose state no fork survives.
    with nursery_kept():
        from oneshui.accelerator import require_usable, usual_device

        found = device or usual_device()
        require_usable(found)
        yield found
