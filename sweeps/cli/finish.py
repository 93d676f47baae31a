"""The end of every run: table, causes of failures, report, MLflow, and where everything is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from oneshui.errors import InputError
from sweeps.cli.console import say_damage
from sweeps.cli.locks import PARTIAL_LOCK, PUBLISH_LOCK, alone
from sweeps.cli.progress import Bar
from sweeps.cli.written import Written
from sweeps.graph.cells import pictures_of
from sweeps.graph.job import digest
from sweeps.graph.launch import LaunchSpec
from sweeps.graph.plan import Plan, ResultRow, expand
from sweeps.report.failures import Cause, group_failures, smallest_command
from sweeps.schedule.failure import STOPPING, Failure
from sweeps.schedule.scheduler import Scheduler
from sweeps.store import Entry, Store
from sweeps.store.status import scan

if TYPE_CHECKING:
    import pandas as pd

    from sweeps.inference.evidence import Evidence
    from sweeps.report.studies.results import StudyResult
    from sweeps.tracking import Publisher
    from sweeps.tracking.publisher import Status


def found_in(
    spec: LaunchSpec, plan: Plan, entries: Mapping[str, Entry]
) -> tuple[pd.DataFrame, Evidence, pd.DataFrame]:
    """What the finished jobs say: the results, what they are evidence of, and their summary."""
    from sweeps.inference.evidence import Evidence
    from sweeps.report.people import resamples
    from sweeps.report.results import results_frame
    from sweeps.report.summary import summarise

    frame = results_frame(plan, entries)
    people, pictures = resamples(plan, entries), pictures_of(plan.sweep)
    evidence = Evidence.of(frame, people, spec.margin, spec.reference, pictures)
    return frame, evidence, summarise(frame, evidence)


def finish(
    spec: LaunchSpec,
    console: Console,
    plan: Plan,
    store: Store,
    scheduler: Scheduler | None,
    publisher: Publisher,
) -> bool:
    """Write what is not written yet, print the table and say where everything is.

    Returns:
        Whether every job has a result.

    Raises:
        InputError: A job failed for a reason that is the user's to mend.
    """
    from sweeps.report.formats import survival_terminal, terminal
    from sweeps.report.paper import said
    from sweeps.report.sequences import sequence_tables, survival_tables

    output = Path(spec.places.output_dir)
    failures = scheduler.failures() if scheduler else {}
    blocked = scheduler.keys("blocked") if scheduler else []
    stopped = [failure for failure in failures.values() if failure.kind in STOPPING]
    if stopped:
        publisher.close("FAILED")
        raise InputError(stopped[0].message)
    found = scan(plan, store, discard=False)
    entries = found.entries
    if spec.mode == "report":
        say_damage(found.damage, console, "the next run has it")
    num_missing = sum(key not in entries for key in plan.jobs)
    state = Written(
        sweep=plan.sweep.name,
        plan=digest(sorted(plan.jobs)),
        contents=digest(
            {
                "margin": spec.margin,
                "show_faces": spec.show_faces,
                "reference": spec.reference,
                "models": spec.places.tracking_models,
                "entries": {key: entry.content for key, entry in entries.items()},
            }
        ),
        is_whole=not num_missing,
    )
    if spec.mode == "report" and not spec.replace:
        _keep_finished(Written.read(output), state, output)
    frame, evidence, summary = found_in(spec, plan, entries)
    terminal(summary, console)
    _lead(frame, evidence, console)
    survival_terminal(survival_tables(sequence_tables(plan, entries)), console)
    causes = _causes(spec, plan, failures, blocked)
    for cause in causes:
        console.print("\n".join(cause.lines()), soft_wrap=True)
    if num_missing:
        console.print(f"{num_missing} of {len(plan.jobs)} jobs have no result; run again to retry")
    page = output / "report" / "index.html"
    with (
        alone(output / PUBLISH_LOCK, "writes the report", console),
        alone(output / PARTIAL_LOCK, "writes a partial report", console),
    ):
        is_current = _is_current(state, output, publisher, console)
        if spec.mode == "report" or failures or not is_current:
            problems = _publish(
                spec,
                console,
                plan,
                frame,
                summary,
                evidence,
                entries,
                causes,
                blocked,
                publisher,
                bool(num_missing),
            )
            for problem in problems:
                console.print(f"warning: {problem}", soft_wrap=True)
            if not problems:
                state.write(output)
    if spec.mode == "report":
        for line in said(page.parent):
            console.print(line, soft_wrap=True)
    console.print(f"report: {page}", soft_wrap=True)
    for hint in publisher.hints():
        console.print(hint, soft_wrap=True)
    return not num_missing


def _lead(frame: pd.DataFrame, evidence: Evidence, console: Console) -> None:
    """Say of every dataset and forget size which row leads."""
    from sweeps.report.findings import findings

    for finding in findings(frame, evidence):
        console.print(f"{finding.title}: {finding.sentences[0]}", soft_wrap=True)


def _is_current(new: Written, output: Path, publisher: Publisher, console: Console) -> bool:
    """Whether what is there was written from the same results, and is as it was written."""
    there = Written.read(output)
    if there is None or there != new:
        return False
    lost = [*(output / name for name in there.changed(output)), *publisher.lost()]
    for path in lost:
        console.print(f"{path} is not as it was written; it is written again", soft_wrap=True)
    return not lost


def _keep_finished(there: Written | None, new: Written, output: Path) -> None:
    """Refuse to replace a finished report by one of another sweep, or with gaps.

    Raises:
        InputError: Naming the sweep that lies there, and how to insist.
    """
    if there is None or not there.is_whole:
        return
    if there.sweep != new.sweep or (there.plan != new.plan and not new.is_whole):
        what = "another sweep" if there.sweep != new.sweep else "only in part finished"
        raise InputError(
            f"the finished report in {output / 'report'} is of sweep {there.sweep!r}, and what "
            f"this command asks for ({new.sweep!r}) is {what}; say sweep={there.sweep} with the "
            "arguments that it ran with, set output_dir to another folder, or say replace=true"
        )


def _publish(
    spec: LaunchSpec,
    console: Console,
    plan: Plan,
    frame: pd.DataFrame,
    summary: pd.DataFrame,
    evidence: Evidence,
    entries: Mapping[str, Entry],
    causes: Sequence[Cause],
    blocked: Sequence[str],
    publisher: Publisher,
    is_incomplete: bool,
) -> list[str]:
    """Write the report and the MLflow view; what could not be published, one line each."""
    from sweeps.report.page import write_report
    from sweeps.report.results import is_complete

    output = Path(spec.places.output_dir)
    studies: list[StudyResult] = []
    if plan.studies:
        from sweeps.report.studies.results import study_results

        studies = study_results(plan, entries)

    known = (plan, frame, summary, evidence, entries, causes, blocked, output, spec.command)
    write = partial(
        write_report,
        *known,
        studies=studies,
        show_faces=spec.show_faces,
        tracking_uri=spec.places.tracking_uri,
    )
    rows = [row for row in plan.results if is_complete(row, entries)]
    page = _drawn_and_published(write, rows, entries, publisher, console)
    if studies:
        from sweeps.report.studies.results import write_studies

        write_studies(studies, entries, output)
    with Bar(console, "publishing in MLflow") as bar:
        status: Status = "FAILED" if is_incomplete else "FINISHED"
        return publisher.close(status, page, summary, bar, evidence.overall, frame)


def _drawn_and_published(
    write: Callable[[Bar, Callable[[], None]], Path],
    rows: Sequence[ResultRow],
    entries: Mapping[str, Entry],
    publisher: Publisher,
    console: Console,
) -> Path:
    """Write the report, and publish in the background while its figures are drawn."""

    def publish() -> None:
        publisher.start()
        for row in rows:
            publisher.offer(row, entries)

    try:
        with Bar(console, "drawing figures") as bar:
            return write(bar, publish)
    except BaseException:
        publisher.close("KILLED")
        raise


def _causes(
    spec: LaunchSpec, plan: Plan, failures: Mapping[str, Failure], blocked: Sequence[str]
) -> list[Cause]:
    from sweeps.config import load

    def again(key: str) -> str:
        return smallest_command(
            plan,
            key,
            spec.command,
            lambda overrides: expand(load(overrides).sweep),
            [f"output_dir={output / 'again'}", f"store.uri={spec.places.store_uri}"],
        )

    output = Path(spec.places.output_dir)
    return group_failures(plan, failures, blocked, logs=output / "logs", command=again)
