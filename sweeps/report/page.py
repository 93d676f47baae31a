"""The report of a sweep: result files, tables, figures and one self-contained HTML page.

Written from the plan and the store alone. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import shutil
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd

from oneshui.origin import git_commit, versions
from oneshui.spec import DATA_SEEN
from sweeps.command import lasting, shell_line, without_secrets
from sweeps.graph.artifacts import PER_IDENTITY
from sweeps.graph.plan import Plan
from sweeps.inference.comparisons import PairedTest
from sweeps.inference.evidence import Evidence
from sweeps.report import analyses, formats, levels, paper, provenance, sequences, tables
from sweeps.report.audits import memorisation
from sweeps.report.audits import page as audits
from sweeps.report.cards import cards
from sweeps.report.failures import Cause
from sweeps.report.figures import catalogue
from sweeps.report.figures.style import DPI, Material
from sweeps.report.grid import Grid, grid_of
from sweeps.report.overview import overview
from sweeps.report.rendering import render
from sweeps.report.saturation import saturation
from sweeps.report.sequences import sequence_findings, survival_tables
from sweeps.report.sheets import write_csv
from sweeps.report.studies.leaks import LEAK_NOTE, leak_cost_lines
from sweeps.report.studies.results import StudyResult, write_study_tables
from sweeps.report.studies.words import study_lines, study_sentences
from sweeps.report.tracing import packed, traces
from sweeps.store import Entry
from sweeps.store.aside import make_room

LEFTOVER_SECONDS = 3600.0
WIDEST_BESIDE = 7.5
"""Inches: wider figures stand by themselves."""
LEAST_PIXELS, MOST_PIXELS = 76, 130
"""Of one inch of a figure, as the page shows it: its letters are legible, and not shouted."""
_TEST_COLUMNS = [field.name for field in dataclasses.fields(PairedTest)]


@dataclass(frozen=True, kw_only=True)
class _Figure:
    name: str
    alt: str
    caption: str
    data: str
    is_wide: bool
    is_drawn: bool
    least: int
    most: int


def write_report(
    plan: Plan,
    frame: pd.DataFrame,
    summary: pd.DataFrame,
    evidence: Evidence,
    entries: Mapping[str, Entry],
    causes: Sequence[Cause],
    blocked: Sequence[str],
    output_dir: Path,
    command: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
    meanwhile: Callable[[], None] | None = None,
    studies: Sequence[StudyResult] = (),
    show_faces: bool = False,
    tracking_uri: str = "",
    partial: str = "",
) -> Path:
    """Write ``<output_dir>/report`` whole, or leave the one that is there as it is.

    Args:
        plan: The sweep's graph.
        frame: From ``results_frame``.
        summary: From ``summarise``, of the same frame.
        evidence: What was tested about it.
        entries: Finished jobs by key.
        causes: Why jobs failed for good.
        blocked: Keys of jobs that did not run because of those.
        output_dir: Folder of the sweep.
        command: The user's overrides.
        progress: Called with the number of drawn figures and of all.
        meanwhile: Called when only the figures are left, which other processes draw.
        studies: What tuning found, from ``study_results``.
        show_faces: Whether pictures of real people are shown.
        tracking_uri: MLflow's server; anything else is looked at by mode=ui.
        partial: What is said of a sweep that still runs; empty for a final report.

    Returns:
        Path of ``index.html``.

    Raises:
        InputError: The table that a person filled with published numbers cannot be read.
        OSError: The folder cannot be written.
    """
    target = output_dir / "report"
    with replacing(target) as folder:
        said = (
            *filter(None, [partial, plan.sweep.note]),
            *tables.notes(summary, evidence),
            *tables.protection_notes(frame),
            *tables.fixed_notes(plan.sweep.cells[0].vary),
            *levels.nested_notes(plan.sweep),
            *tables.pretrained_notes(plan.sweep.pretrained),
        )
        frame.to_parquet(folder / "results.parquet", index=False)
        write_csv(frame, folder / "results.csv")
        summary.to_parquet(folder / "summary.parquet", index=False)
        write_csv(summary, folder / "summary.csv")
        compared = pd.DataFrame(map(dataclasses.asdict, evidence.tests), columns=_TEST_COLUMNS)
        write_csv(compared, folder / "comparisons.csv")
        write_csv(evidence.overall, folder / "overall.csv")
        in_turn = sequences.sequence_tables(plan, entries)
        sequences.write(in_turn, folder)
        survival = survival_tables(in_turn)
        text = formats.markdown(summary, said, survival)
        (folder / "summary.md").write_text(text, encoding="utf-8")
        text = formats.latex(summary, said, survival)
        (folder / "summary.tex").write_text(text, encoding="utf-8")
        by_level = levels.spreads(plan, entries)
        if plan.sweep.nested is not None:
            write_csv(by_level, folder / "spreads.csv")
        comparison = paper.update(target / paper.FILE, folder, summary)
        found = analyses.write(plan, entries, folder) | in_turn
        found |= memorisation.write(plan, entries, found[PER_IDENTITY], folder)
        leak_cost = write_study_tables(studies, frame, folder)
        audited = audits.parts_of(plan, entries, frame, evidence.people, folder)
        material = Material(
            plan=plan,
            entries=entries,
            frame=frame,
            summary=summary,
            margin=evidence.margin,
            people=evidence.people,
            tables=found,
            studies=tuple(studies),
            show_faces=show_faces,
        )
        if meanwhile is not None:
            meanwhile()
        drawn = catalogue.draw(material, folder / "figures", progress)
        figures = [_figure(path) for path in drawn if path.suffix == ".png"]
        of_audits = {kind for part in audited for kind in part.figures}
        audits.write(plan, audited, figures, folder, partial)
        colours = {name: look.colour for name, look in material.looks.items() if look.is_own}
        compared_with = evidence.reference or "nothing"
        grid = grid_of(summary, colours, compared_with, said)
        shown_cards, across = cards(frame, evidence)
        page = render(
            "report.html.j2",
            sweep=plan.sweep,
            cards=shown_cards,
            **around(grid, colours, evidence, said),
            tuning=plan.sweep.tuning,
            studies=study_lines(studies),
            studies_said=study_sentences(studies),
            leak_cost=list(leak_cost_lines(leak_cost)),
            leak_note=LEAK_NOTE,
            findings=[
                *across,
                *saturation(plan.sweep, frame),
                *sequence_findings(in_turn),
            ],
            survival=survival,
            paper=paper.lines(comparison),
            audits=audited,
            figures=[one for one in figures if audits.kind_of(one.name) not in of_audits],
            spreads=levels.spread_lines(by_level),
            real=[name for name, it in plan.sweep.datasets.items() if it.generate is None],
            show_faces=show_faces,
            num_finished=int(frame["tow"].notna().sum()),
            num_results=len(frame),
            groups=causes,
            num_failed=sum(cause.count for cause in causes),
            blocked=[plan.jobs[key].label for key in blocked],
            is_generated=any(d.generate is not None for d in plan.sweep.datasets.values()),
            datasets=provenance.datasets(plan, entries),
            splits=provenance.splits(plan, entries),
            methods=provenance.methods(plan, entries),
            again=provenance.again(command),
            mlflow=_mlflow(tracking_uri, command),
            traces=packed(traces(plan, entries, tables.titles(), output_dir / "logs")),
            commit=git_commit(),
            versions=versions("ray", "mlflow"),
            config=_config(plan),
            partial=partial,
        )
        (folder / "index.html").write_text(page, encoding="utf-8")
    return target / "index.html"


def around(
    grid: Grid, colours: Mapping[str, str], evidence: Evidence, said: Sequence[str]
) -> dict[str, Any]:
    """What a page's template is told of its table, and of what stands around that."""
    return {
        "colours": defaultdict(str, colours),
        "grid": grid,
        "overview": overview(grid),
        "seen": [(str(access), seen) for access, seen in DATA_SEEN.items()],
        "overforgets": tables.OVERFORGETS,
        "tuning_note": tables.TUNING_NOTE if grid.is_tuned else "",
        "legend": tables.LEGEND,
        "rank_note": tables.RANK_NOTE,
        "reference_note": tables.REFERENCE_NOTE,
        "truth_note": tables.TRUTH_NOTE,
        "notes": said,
        "compared": tables.comparison_tables(evidence),
        "overall": tables.overall_lines(evidence.overall),
        "overall_note": tables.OVERALL_NOTE,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _mlflow(tracking_uri: str, command: Sequence[str]) -> str:
    """The address of MLflow's server, or the command that starts one."""
    if urlsplit(tracking_uri).scheme in ("http", "https"):
        return without_secrets(tracking_uri)
    return shell_line([*lasting(command), "mode=ui"])


def _config(plan: Plan) -> str:
    """Network and training as JSON, for whoever wants all of it."""
    sweep = plan.sweep
    return json.dumps(
        {
            "model": sweep.model.to_json(),
            "training": {k: v.to_json() for k, v in sweep.training.items()},
            "preprocessing": sweep.preprocessing,
            "views": sweep.views,
            "reference_copies": sweep.reference_copies,
        },
        indent=1,
    )


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A folder beside the target that takes its place at the end, if nothing was raised."""
    for leftover in target.parent.glob(f".{target.name}-*"):
        if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
            shutil.rmtree(leftover, ignore_errors=True)
    make_room(target, for_folder=True)
    mark = uuid.uuid4().hex[:8]
    new, old = (target.with_name(f".{target.name}-{which}-{mark}") for which in ("new", "old"))
    new.mkdir(parents=True)
    try:
        yield new
        had_one = target.exists()
        if had_one:
            target.rename(old)
        try:
            new.rename(target)
        except OSError:
            if had_one:
                old.rename(target)
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _figure(path: Path) -> _Figure:
    kind = catalogue.KINDS[audits.kind_of(path.stem)]
    content = path.read_bytes()
    # A PNG says its width in pixels right behind its mark.
    inches = int.from_bytes(content[16:20], "big") / DPI
    return _Figure(
        name=path.stem,
        alt=f"{kind.alt}: {path.stem}",
        caption=kind.caption,
        data=base64.b64encode(content).decode("ascii"),
        is_wide=inches > WIDEST_BESIDE,
        is_drawn=not kind.has_pictures,
        least=round(inches * LEAST_PIXELS),
        most=round(inches * MOST_PIXELS),
    )
