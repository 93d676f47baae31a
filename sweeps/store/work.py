"""Folders of jobs whose results are not published yet."""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.graph.job import Job
from sweeps.store.manifests import manifest

if TYPE_CHECKING:
    from sweeps.store import Entry

STALE_WORK_SECONDS = 7 * 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Work:
    """A job's private folder until it is published.

    Attributes:
        job: What is worked on.
        folder: For its files.
        adopt: How its store takes the folder with the manifest that names its files.
    """

    job: Job
    folder: Path
    adopt: Callable[[Job, Path, Mapping[str, Any]], Entry]

    def publish(
        self, value: Mapping[str, Any], inputs: Mapping[str, str], cost: Mapping[str, Any]
    ) -> Entry:
        """Make folder and value the job's entry, all or nothing; the first to publish wins."""
        document = manifest(self.job, self.folder, value, inputs, cost)
        return self.adopt(self.job, self.folder, document)


@dataclass(frozen=True)
class WorkFolders:
    """The folders of a store that are this machine's own.

    Attributes:
        root: What contains them.
    """

    root: Path

    @contextlib.contextmanager
    def one(
        self, job: Job, adopt: Callable[[Job, Path, Mapping[str, Any]], Entry]
    ) -> Iterator[Work]:
        """A private folder for the job's files, removed at the end."""
        folder = self.root / f"{job.stage}-{job.key}-{uuid.uuid4().hex[:8]}"
        folder.mkdir()
        try:
            yield Work(job=job, folder=folder, adopt=adopt)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def unfinished(self, job: Job) -> Path:
        """See ``Store.unfinished``; the job's lease keeps others away from it."""
        return self.root / f"{job.stage}-{job.key}"

    def sweep(self) -> None:
        """Remove what a crash left behind long ago."""
        for folder in self.root.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - folder.stat().st_mtime > STALE_WORK_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
