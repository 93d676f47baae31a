"""What a training has reached, on disk, so that a worker that dies costs an epoch at most.

A checkpoint is a safetensors file and ``latest.json``, which names it with a sha256 over
both and is replaced last. One that cannot be trusted is as good as none: the training starts again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oneshui.training import Progress

LATEST = "latest.json"
logger = logging.getLogger("oneshui.worker")


class Checkpoint:
    """The checkpoint of one job; its lease keeps others away from it."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made when something is saved."""
        self._folder = folder

    def save(self, progress: Progress) -> None:
        """Replace what was saved before.

        Raises:
            OSError: The disk is full or cannot be written; what was saved before stays.
        """
        from safetensors.torch import save

        self._folder.mkdir(exist_ok=True)
        data = save(dict(progress.tensors))
        name = f"{progress.epoch}.safetensors"
        _write(self._folder / name, data)
        document = {"file": name, "epoch": progress.epoch, "history": list(progress.history)}
        document["sha256"] = _digest(document, data)
        _write(self._folder / LATEST, json.dumps(document).encode())
        for path in self._folder.glob("*.safetensors"):
            if path.name != name:
                path.unlink()

    def load(self) -> Progress | None:
        """What was saved last, or None if there is nothing that can be trusted."""
        from safetensors.torch import load

        from oneshui.training import Progress

        try:
            document: dict[str, Any] = json.loads((self._folder / LATEST).read_bytes())
            data = (self._folder / document["file"]).read_bytes()
            expected = _digest(document, data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("checkpoint in %s cannot be read (%s)", self._folder, error)
            return None
        if document.get("sha256") != expected:
            logger.warning("checkpoint in %s is damaged; training starts again", self._folder)
            return None
        return Progress(
            epoch=document["epoch"], history=tuple(document["history"]), tensors=load(data)
        )

    def clear(self) -> None:
        """Remove it: the job's result is published."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _digest(document: Mapping[str, Any], data: bytes) -> str:
    """sha256 over the tensors and what is said about them, hexadecimal."""
    about = json.dumps([document[name] for name in ("file", "epoch", "history")])
    return hashlib.sha256(about.encode() + data).hexdigest()


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
