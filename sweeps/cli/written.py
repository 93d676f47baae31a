"""What the report and our other views were written from, and whether they are as they were."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from sweeps.graph.job import digest
from sweeps.store.aside import set_aside
from sweeps.store.base import SEAL, sha256

REPORT = "report"
_STATE = Path(REPORT) / ".state"


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a report was written from.

    Attributes:
        sweep: Name of the sweep.
        plan: Digest of the keys of its jobs.
        contents: Digest of the results.
        is_whole: Whether no result was missing.
        files: sha256 of what was written, by name in the output folder: the report but for the
            table that a person fills, the studies, the links. Other content of the same results
            is no other report, so these are not compared.
    """

    sweep: str
    plan: str
    contents: str
    is_whole: bool
    files: Mapping[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    def read(cls, output: Path) -> Written | None:
        """That of the report which is there; None if there is none, or it does not say."""
        try:
            document = json.loads((output / _STATE).read_bytes())
            seal = document.pop(SEAL)
            return cls(**document) if seal == digest(document) else None
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return None

    def write(self, output: Path) -> None:
        """Note it, with the files as they are now."""
        files = {str(path.relative_to(output)): sha256(path) for path in _files(output)}
        document = asdict(replace(self, files=files))
        text = json.dumps({**document, SEAL: digest(document)})
        (output / _STATE).write_text(text + "\n", encoding="utf-8")

    def changed(self, output: Path) -> list[str]:
        """The files that are no longer as they were written."""
        return [name for name in self.files if not self.is_as_written(output, name)]

    def is_as_written(self, output: Path, name: str) -> bool:
        """Whether that holds for one of them, or nothing is known about it."""
        try:
            return name not in self.files or sha256(output / name) == self.files[name]
        except OSError:
            return False


def _files(output: Path) -> Iterator[Path]:
    from sweeps.report.paper import FILE
    from sweeps.report.studies.results import JOURNAL
    from sweeps.tracking.publisher import NOTE

    for path in sorted((output / REPORT).rglob("*")):
        if path.is_file() and path.name != FILE and path != output / _STATE:
            yield path
    for name in (JOURNAL, NOTE):
        if (output / name).is_file():
            yield output / name


def journal_set_aside(output: Path) -> Path | None:
    """Move a journal away that is not as it was written, or none; its new name, if it was."""
    from sweeps.report.studies.results import JOURNAL

    there, journal = Written.read(output), output / JOURNAL
    is_known = there is None or there.is_as_written(output, JOURNAL)
    return set_aside(journal) if journal.exists() and not (journal.is_file() and is_known) else None
