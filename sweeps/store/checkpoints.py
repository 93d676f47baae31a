"""What a training has reached, so that a worker that dies costs an epoch at most.

A checkpoint is tensors and a record that holds a sha256 over both. One that cannot be trusted is as
good as none: the training starts again. On disk it is a safetensors file and ``latest.json``, which
names it and is replaced last; in a bucket it is one object.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sweeps.store.objects import Bucket, StoreUnreachableError

if TYPE_CHECKING:
    import torch

    from oneshui.training.train import TrainingState

LATEST = "latest.json"
logger = logging.getLogger("oneshui.worker")


class _Place(Protocol):
    """Where the checkpoint of one job is."""

    def write(self, name: str, record: bytes, data: bytes) -> None: ...

    def read(self) -> tuple[dict[str, Any], bytes]: ...

    def clear(self) -> None: ...


class Checkpoint:
    """The checkpoint of one job; its lease keeps others away from it.

    Attributes:
        folder: Where it is, if that is a folder.
    """

    def __init__(self, place: Path | _Place, inputs: Mapping[str, str] | None = None) -> None:
        """Name the place; nothing is made before something is saved.

        Args:
            place: Or a folder.
            inputs: Content of each input of the job; what was reached from others is dropped.
        """
        self.folder = place if isinstance(place, Path) else None
        self._place = _Folder(place) if isinstance(place, Path) else place
        self._inputs = dict(inputs or {})

    def make_folder(self) -> Path | None:
        """Make its folder, if it is in one, so that it can be handed to another process."""
        if isinstance(self._place, _Folder):
            self._place.make()
        return self.folder

    def save(self, progress: TrainingState) -> None:
        """Replace what was saved before.

        Raises:
            OSError: The disk is full or cannot be written; what was saved before stays.
        """
        from safetensors.torch import save

        data = save(dict(progress.tensors))
        name = f"{progress.epoch}.safetensors"
        document: dict[str, Any] = {"file": name, "epoch": progress.epoch}
        document |= {"history": list(progress.history), "inputs": self._inputs}
        document["sha256"] = _digest(document, data)
        self._place.write(name, json.dumps(document).encode(), data)

    def load(self) -> TrainingState | None:
        """What was saved last, or None if there is nothing that can be trusted.

        Raises:
            StoreUnreachableError: Whether there is something cannot be found out.
        """
        from safetensors.torch import load

        from oneshui.training.train import TrainingState

        try:
            document, data = self._place.read()
            expected = _digest(document, data)
        except FileNotFoundError:
            return None
        except StoreUnreachableError:
            raise
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            logger.warning("checkpoint in %s cannot be read (%s)", self._place, error)
            return None
        if document.get("sha256") != expected:
            logger.warning("checkpoint in %s is damaged; the job starts again", self._place)
            return None
        if document["inputs"] != self._inputs:
            logger.warning("checkpoint in %s is of other inputs; the job starts again", self._place)
            return None
        return TrainingState(
            epoch=document["epoch"], history=tuple(document["history"]), tensors=load(data)
        )

    def clear(self) -> None:
        """Remove it: the job's result is published."""
        self._place.clear()


class PacedCheckpoint:
    """A checkpoint that is not saved oftener than every so many seconds, from now on."""

    def __init__(self, checkpoint: Checkpoint, seconds: float) -> None:
        """Begin to count the seconds."""
        self._checkpoint, self._seconds = checkpoint, seconds
        self._saved = time.monotonic()

    def offer(self, take_down: Callable[[], TrainingState]) -> None:
        """Save what is taken down, if it is time.

        Raises:
            OSError: The disk is full or cannot be written; what was saved before stays.
        """
        if time.monotonic() - self._saved >= self._seconds:
            self._checkpoint.save(take_down())
            self._saved = time.monotonic()


class PacedPrepareCheckpoint:
    """The checkpoint of a preparation, ``oneshui.requests.PrepareCheckpoint``."""

    def __init__(self, checkpoint: Checkpoint, seconds: float) -> None:
        """Keep what is offered in the checkpoint, but not oftener than that."""
        self._checkpoint, self._paced = checkpoint, PacedCheckpoint(checkpoint, seconds)
        self._count = 0

    def load(self) -> Mapping[str, torch.Tensor] | None:
        """What was kept last, or None."""
        progress = self._checkpoint.load()
        if progress is None:
            return None
        self._count = progress.epoch
        return progress.tensors

    def offer(self, take_down: Callable[[], Mapping[str, torch.Tensor]]) -> None:
        """Keep what is taken down, if it is time, as ``PacedCheckpoint`` does."""
        from oneshui.training.train import TrainingState

        def progress() -> TrainingState:
            self._count += 1
            return TrainingState(epoch=self._count, history=(), tensors=take_down())

        self._paced.offer(progress)


class _Folder:
    """A checkpoint in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __str__(self) -> str:
        return str(self._folder)

    def make(self) -> None:
        if not self._folder.is_dir():
            self._folder.unlink(missing_ok=True)
        self._folder.mkdir(exist_ok=True)

    def write(self, name: str, record: bytes, data: bytes) -> None:
        self.make()
        try:
            self._replace(name, record, data)
        except IsADirectoryError:
            # Something else stands where a file of ours belongs.
            self.clear()
            self.make()
            self._replace(name, record, data)

    def _replace(self, name: str, record: bytes, data: bytes) -> None:
        _write(self._folder / name, data)
        _write(self._folder / LATEST, record)
        for path in self._folder.glob("*.safetensors"):
            if path.name != name:
                path.unlink()

    def read(self) -> tuple[dict[str, Any], bytes]:
        document: dict[str, Any] = json.loads((self._folder / LATEST).read_bytes())
        return document, (self._folder / document["file"]).read_bytes()

    def clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


class CheckpointObject:
    """A checkpoint as an object: the record in its first line, then the tensors."""

    def __init__(self, bucket: Bucket, name: str) -> None:
        """Name the object."""
        self._bucket, self._name = bucket, name

    def __str__(self) -> str:
        return f"{self._bucket.uri}/{self._name}"

    def write(self, name: str, record: bytes, data: bytes) -> None:  # noqa: ARG002
        """Replace the object; a service that does not answer costs the checkpoint, not the job."""
        try:
            self._bucket.put(self._name, record + b"\n" + data)
        except StoreUnreachableError as error:
            logger.warning("no checkpoint is kept of this epoch: %s", error)

    def read(self) -> tuple[dict[str, Any], bytes]:
        """Record and tensors.

        Raises:
            FileNotFoundError: There is none.
        """
        found = self._bucket.get(self._name)
        if found is None:
            raise FileNotFoundError(self._name)
        record, _, data = found[0].partition(b"\n")
        document: dict[str, Any] = json.loads(record)
        return document, data

    def clear(self) -> None:
        """Remove the object; what cannot be removed is swept one day."""
        try:
            self._bucket.remove([self._name])
        except StoreUnreachableError as error:
            logger.warning("the checkpoint %s stays: %s", self, error)


def _digest(document: Mapping[str, Any], data: bytes) -> str:
    """sha256 over the tensors and what is said about them, hexadecimal."""
    about = json.dumps([document[name] for name in ("file", "epoch", "history", "inputs")])
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
