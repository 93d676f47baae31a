"""Figures of the run itself: time and memory by stage, and what ran where and when.

Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sweeps.graph.job import STAGES, Stage, stage_title
from sweeps.report.figures.style import COLOURS, SMALL, Drawing, Material, set_title
from sweeps.store import Entry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_WORKERS = 64
STAGE_COLOURS: dict[Stage, str] = {
    "index": "#999999",
    "cache": "#bbbbbb",
    "split": "#dddddd",
    "weights": "#eeeeee",
    "pretrain": "#000000",
    "retrain": "#4d4d4d",
    "prepare": COLOURS[5],
    "unlearn": COLOURS[1],
    "evaluate": COLOURS[4],
    "score": COLOURS[2],
}
_OTHER = COLOURS[3]


@dataclass(frozen=True, kw_only=True)
class _Span:
    worker: str
    stage: Stage
    start: float
    seconds: float


def cost(material: Material) -> Iterator[Drawing]:
    """Seconds and peak memory by stage, over all finished jobs."""
    stages = [s for s in STAGES if any(e.stage == s for e in material.entries.values())]
    if stages:
        entries = list(material.entries.values())
        yield Drawing(
            name="by_stage", make=partial(_cost, entries, stages, material.plan.sweep.name)
        )


def _cost(entries: Sequence[Entry], stages: Sequence[Stage], sweep: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 1.4 + 0.34 * len(stages)), layout="constrained")
    time, memory = figure.subplots(1, 2, sharey=True)
    for y, stage in enumerate(stages):
        own = [entry.cost for entry in entries if entry.stage == stage]
        seconds = [float(c["seconds"]) for c in own if "seconds" in c]
        peaks = [float(c["peak_bytes"]) / 2**30 for c in own if c.get("peak_bytes")]
        colour = STAGE_COLOURS.get(stage, _OTHER)
        edge = {"edgecolor": "#333333", "linewidth": 0.6, "height": 0.64}
        time.barh(y, sum(seconds), color=colour, **edge)
        mean = sum(seconds) / len(seconds) if seconds else 0.0
        label = f" {len(own)} × {_short(mean)} s"
        time.annotate(label, (sum(seconds), y), va="center", fontsize=SMALL)
        if peaks:
            memory.barh(y, max(peaks), color=colour, **edge)
            memory.annotate(f" {max(peaks):.2g}", (max(peaks), y), va="center", fontsize=SMALL)
    time.margins(x=0.28)
    memory.margins(x=0.2)
    time.set_xlabel("seconds, all jobs together")
    memory.set_xlabel("peak memory of one job (GiB)")
    time.set_yticks(range(len(stages)), [stage_title(stage) for stage in stages])
    time.set_ylim(len(stages) - 0.5, -0.5)
    set_title(figure, f"Cost by stage: {sweep}")
    return figure


def _short(seconds: float) -> str:
    """Two digits where they say something, and never an exponent."""
    return f"{seconds:.0f}" if seconds >= 9.95 else f"{seconds:.2g}"


def timeline(material: Material) -> Iterator[Drawing]:
    """What ran where and when, of the jobs that say so."""
    spans = [
        _Span(
            worker=str(entry.cost["worker"]),
            stage=entry.stage,
            start=float(entry.cost["started"]),
            seconds=float(entry.cost["seconds"]),
        )
        for entry in material.entries.values()
        if {"started", "worker", "seconds"} <= entry.cost.keys()
    ]
    if spans:
        yield Drawing(name="workers", make=partial(_timeline, spans, material.plan.sweep.name))


def _timeline(spans: Sequence[_Span], sweep: str) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    begin = min(span.start for span in spans)
    length = max(span.start + span.seconds for span in spans) - begin
    unit, scale = ("minutes", 60.0) if length > 300 else ("seconds", 1.0)
    if length > 3 * 3600:
        unit, scale = "hours", 3600.0
    workers = sorted({span.worker for span in spans}, key=lambda name: _first_start(spans, name))
    shown = workers[:MOST_WORKERS]
    figure = Figure(figsize=(7.2, 1.7 + 0.3 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    for y, worker in enumerate(shown):
        own = [span for span in spans if span.worker == worker]
        for stage in dict.fromkeys(span.stage for span in own):
            bars = [
                ((span.start - begin) / scale, span.seconds / scale)
                for span in own
                if span.stage == stage
            ]
            axes.broken_barh(
                bars,
                (y - 0.36, 0.72),
                facecolors=STAGE_COLOURS.get(stage, _OTHER),
                edgecolors="white",
                linewidths=0.2,
            )
    axes.set_yticks(range(len(shown)), shown, fontsize=SMALL)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(0, max(length / scale, 1e-3))
    axes.set_xlabel(f"{unit} since the first job began")
    stages = [stage for stage in STAGES if any(span.stage == stage for span in spans)]
    handles = [Patch(color=STAGE_COLOURS.get(s, _OTHER), label=stage_title(s)) for s in stages]
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
    left_out = (
        f", {len(workers) - len(shown)} workers left out" if len(workers) > len(shown) else ""
    )
    set_title(figure, f"What ran where and when: {sweep}{left_out}")
    return figure


def _first_start(spans: Sequence[_Span], worker: str) -> float:
    return min(span.start for span in spans if span.worker == worker)
