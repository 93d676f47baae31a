"""What of a plan is in the store already, and why the rest must run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sweeps.graph.job import Job, Reason, Stage
from sweeps.graph.plan import Plan
from sweeps.store.base import DamagedEntryError, Entry, Store


@dataclass(frozen=True, kw_only=True)
class Scan:
    """The state of a plan in a store.

    Attributes:
        entries: Finished jobs by key.
        reasons: Why each other job must run, by key.
        damage: What was found wrong, one line each.
    """

    entries: Mapping[str, Entry]
    reasons: Mapping[str, Reason]
    damage: tuple[str, ...]

    def counts(self) -> dict[Reason, int]:
        """Jobs that must run, by reason."""
        return dict(Counter(self.reasons.values()))


def scan(
    plan: Plan, store: Store, *, discard: bool, is_thorough: bool = False, to_run: bool = False
) -> Scan:
    """Look every job of the plan up.

    A result counts only if it was computed from the inputs that are in the store now.

    Args:
        plan: The graph.
        store: Where results are.
        discard: Whether to take damaged and outdated entries out of the way.
        is_thorough: Whether to compare the files of entries that the report reads with their
            manifests, too; those of others are compared when a job opens them.
        to_run: Whether jobs that must run will open their inputs: one that an archive has only in
            part must run again then.
    """
    entries: dict[str, Entry] = {}
    reasons: dict[str, Reason] = {}
    damage: list[str] = []
    stored = {stage: _keys(stage, store, damage, discard=discard) for stage in plan.counts()}
    halves = {stage: _by_half(keys) for stage, keys in stored.items()}
    earlier: dict[str, str] = {}
    found = store.find_all(job for job in plan.jobs.values() if job.key in stored[job.stage])
    for key, job in plan.jobs.items():
        entry = found.get(key)
        if is_thorough and job.stage in _REPORTED and isinstance(entry, Entry):
            entry = _compared(entry)
        if isinstance(entry, DamagedEntryError):
            damage.append(str(entry))
            reasons[key] = "damaged"
        elif entry is None:
            reasons[key] = _why_absent(job, stored[job.stage], halves[job.stage], earlier)
        elif _is_outdated(entry, job, entries, reasons):
            reasons[key] = "input changed"
        else:
            entries[key] = entry
            _note_earlier(job, halves[job.stage], earlier)
        if discard and reasons.get(key) in ("damaged", "input changed"):
            store.discard(job.stage, key)
    if to_run:
        _open_inputs(plan, entries, reasons)
    return Scan(entries=entries, reasons=reasons, damage=tuple(damage))


def _keys(stage: Stage, store: Store, damage: list[str], *, discard: bool) -> set[str]:
    try:
        return store.keys(stage)
    except DamagedEntryError as error:
        damage.append(str(error))
        if discard:
            store.discard(error.stage, error.key)
        return set()


def _open_inputs(plan: Plan, entries: dict[str, Entry], reasons: dict[str, Reason]) -> None:
    """Have those run again that were left out in part and that a job which must run needs."""
    for key, job in reversed(list(plan.jobs.items())):
        for needed in job.needs if key in reasons else ():
            if needed in entries and entries[needed].left_out:
                del entries[needed]
                reasons[needed] = "left out"


_REPORTED = frozenset(
    {"split", "evaluate", "score", "sequence", "probe", "lira", "memorisation", "completeness"}
)


def _compared(entry: Entry) -> Entry | DamagedEntryError:
    try:
        for name in entry.files.keys() - entry.left_out:
            entry.file(name)
    except DamagedEntryError as error:
        return error
    return entry


def _why_absent(
    job: Job,
    stored: Collection[str],
    halves: Mapping[str, Sequence[str]],
    earlier: dict[str, str],
) -> Reason:
    """Whether the store has the same job's result under a key that it had before.

    Args:
        job: A job that is not in the store.
        stored: Keys of the stage that are.
        halves: The same by their first halves, which stay when code or files change.
        earlier: By key of a job before this one, the key that it is stored under; added to.
    """
    for version in range(job.version, 0, -1):
        key = job.key_at(version, earlier)
        if key != job.key and key in stored:
            earlier[job.key] = key
            return "version bumped" if version < job.version else "input changed"
    meant = job.key_at(job.version, earlier)[:8]
    if job.editable and meant in halves:
        earlier[job.key] = halves[meant][0]
        return job.editable[0]
    return "new"


def _by_half(keys: Collection[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key in sorted(keys):
        found.setdefault(key[:8], []).append(key)
    return found


def _note_earlier(job: Job, halves: Mapping[str, Sequence[str]], earlier: dict[str, str]) -> None:
    """Remember which results a job's followers may have had before its code or file changed."""
    if job.editable:
        others = [key for key in halves.get(job.key[:8], ()) if key != job.key]
        if others:
            earlier[job.key] = others[0]


PICTURES_ALONE = "pictures"
"""In the value of an index: the hash of its pictures, whatever is said about them."""


def what_counts(job: Job, entry: Entry) -> str:
    """The content of an input, as far as the job looks at it.

    Args:
        job: Whose input it is.
        entry: The input.
    """
    if job.stage == "cache" and PICTURES_ALONE in entry.value:
        # Decoding knows no labels: correcting one need not decode all pictures again.
        return str(entry.value[PICTURES_ALONE])
    return entry.content


def _is_outdated(
    entry: Entry,
    job: Job,
    entries: Mapping[str, Entry],
    reasons: Mapping[str, Reason],
) -> bool:
    """Whether an input has another content than when the entry was made.

    An input that is only absent will be computed again; if it turns out the same, nothing of
    what was made from it is lost.
    """
    for name, key in job.needed.items():
        if key in entries:
            if what_counts(job, entries[key]) != entry.inputs.get(name):
                return True
        elif reasons.get(key) == "input changed":
            return True
    return False


def measured(plan: Plan, entries: Mapping[str, Entry], name: str) -> list[tuple[Job, float]]:
    """What finished jobs of the plan cost.

    Args:
        plan: The graph.
        entries: Finished jobs by key.
        name: Of the cost, for example "seconds".
    """
    return [
        (plan.jobs[key], float(entry.cost[name]))
        for key, entry in entries.items()
        if name in entry.cost
    ]
