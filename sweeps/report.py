"""The report of a sweep: result files, tables, figures and one self-contained HTML page.

Written from the plan and the store alone. Must not import torch, Ray or MLflow.
"""

from __future__ import annotations

import base64
import contextlib
import platform
import re
import shlex
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from oneshui.spec import DATA_SEEN, Access
from sweeps import analyses, figures, tables
from sweeps.engine import Failure
from sweeps.plan import Plan, index_job
from sweeps.spec import Cell
from sweeps.store import Entry

PACKAGES = (
    "oneshui",
    "torch",
    "torchvision",
    "timm",
    "scikit-learn",
    "numpy",
    "pandas",
    "ray",
    "mlflow",
)
LEFTOVER_SECONDS = 3600.0
_TEMPLATES = Path(__file__).parent / "templates"
_CAPTIONS = {
    "forgetting_utility": (
        "One point per seed. A good method moves from the pretrained model to the left, into the "
        "cloud of retrained models, without moving down."
    ),
    "tow": (
        "Points are seeds, bars and figures are means. What does not get to the right of the "
        "dashed line is no better than doing nothing; what reaches the grey band cannot be told "
        "from retraining with another seed."
    ),
    "loss_mia": (
        "How well an attacker who sees losses tells forget images from test images. Retraining "
        "gives about 50%; clearly less is a trace of the request as well."
    ),
}


@dataclass(frozen=True, kw_only=True)
class _Finding:
    title: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Figure:
    name: str
    alt: str
    caption: str
    data: str


@dataclass(frozen=True, kw_only=True)
class _Trouble:
    label: str
    kind: str
    message: str
    log: str
    has_log: bool


@dataclass(frozen=True, kw_only=True)
class _Method:
    name: str
    method: str
    seen: str
    hyperparameters: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Dataset:
    name: str
    origin: str
    forget_sizes: str
    seeds: str
    size: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class _Split:
    cell: Cell
    images: str
    fingerprint: str


def write_report(
    plan: Plan,
    frame: pd.DataFrame,
    entries: Mapping[str, Entry],
    failures: Mapping[str, Failure],
    blocked: Sequence[str],
    output_dir: Path,
    command: Sequence[str],
) -> Path:
    """Write ``<output_dir>/report`` whole, or leave the one that is there as it is.

    Args:
        plan: The sweep's graph.
        frame: From ``results_frame``.
        entries: Finished jobs by key.
        failures: Jobs that failed for good, by key.
        blocked: Keys of jobs that did not run because of those.
        output_dir: Folder of the sweep.
        command: The user's overrides.

    Returns:
        Path of ``index.html``.

    Raises:
        OSError: The folder cannot be written.
    """
    summary = tables.summarise(frame)
    target = output_dir / "report"
    with _replacing(target) as folder:
        frame.to_parquet(folder / "results.parquet", index=False)
        frame.to_csv(folder / "results.csv", index=False)
        summary.to_csv(folder / "summary.csv", index=False)
        (folder / "summary.md").write_text(tables.markdown(summary), encoding="utf-8")
        (folder / "summary.tex").write_text(tables.latex(summary), encoding="utf-8")
        analyses.write(plan, entries, folder)
        drawn = figures.draw(frame, summary, folder / "figures")
        page = _page(
            sweep=plan.sweep,
            blocks=tables.blocks(summary),
            columns=tables.COLUMNS,
            legend=tables.LEGEND,
            reference_note=tables.REFERENCE_NOTE,
            findings=_findings(frame),
            figures=[_figure(path) for path in drawn if path.suffix == ".png"],
            num_finished=int(frame["tow"].notna().sum()),
            num_results=len(frame),
            troubles=_troubles(plan, failures, output_dir),
            blocked=[plan.jobs[key].label for key in blocked],
            is_generated=any(d.generate is not None for d in plan.sweep.datasets.values()),
            datasets=_datasets(plan, entries),
            splits=_splits(plan, entries),
            methods=_methods(plan),
            again=_again(command),
            commit=git_commit(),
            versions=_versions(),
            date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
        (folder / "index.html").write_text(page, encoding="utf-8")
    return target / "index.html"


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A folder beside the target that takes its place at the end, if nothing was raised."""
    for leftover in target.parent.glob(f".{target.name}-*"):
        if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
            shutil.rmtree(leftover, ignore_errors=True)
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


def _page(**values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sets"] = _sets
    return environment.get_template("report.html.j2").render(**values)


def _sets(text: str) -> Markup:
    """Escaped text with the index of D_f and D_r set low."""
    return Markup(re.sub(r"\bD_([fr])\b", r"D<sub>\1</sub>", str(escape(text))))


def _findings(frame: pd.DataFrame) -> list[_Finding]:
    """What the ToW column says, seed by seed against doing nothing."""
    findings = []
    for (dataset, num_forget), rows in frame.groupby(["dataset", "num_forget"], sort=False):
        tow = 100 * rows.pivot(index="seed", columns="method", values="tow")
        access = rows.drop_duplicates("method").set_index("method")["access"]
        names = [m for m in access.index if access[m] != Access.FULL and m != "pretrain"]
        if "pretrain" not in tow or tow["pretrain"].isna().all():
            continue
        gains = tow[names].sub(tow["pretrain"], axis=0).dropna(axis="columns", how="all")
        sentences = [f"Doing nothing (pretrain) has a mean ToW of {tow['pretrain'].mean():.1f}%."]
        if len(gains.columns):
            sentences += _gain_sentences(gains)
        floors = [m for m in access.index if tables.is_retrained_again(m)]
        sentences += [
            f"The noise floor, retraining with another seed ({m}), is at {tow[m].mean():.1f}%."
            for m in floors
            if tow[m].notna().any()
        ]
        title = tables.request_title(str(dataset), int(str(num_forget)))
        findings.append(_Finding(title=title, sentences=tuple(sentences)))
    return findings


def _gain_sentences(gains: pd.DataFrame) -> list[str]:
    """Which rows beat doing nothing: ToW in percent minus pretrain's, seeds by methods."""
    means = gains.mean()
    best = str(means.idxmax())
    known = gains[best].dropna()
    sentences = ["No one-shot row is better than that on average."]
    if means[best] > 0:
        sentences = [
            f"The largest gain over it among the one-shot rows is that of {best}: "
            f"{means[best]:+.1f} points, ahead with {int((known > 0).sum())} of {len(known)} "
            f"{'seed' if len(known) == 1 else 'seeds'}."
        ]
    worse = [str(method) for method, gain in means.items() if gain < 0]
    if worse:
        sentences.append(f"Worse than doing nothing on average: {', '.join(worse)}.")
    return sentences


def _figure(path: Path) -> _Figure:
    kind = path.stem.split("-", 1)[0]
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return _Figure(
        name=path.stem, alt=path.stem.replace("_", " "), caption=_CAPTIONS[kind], data=data
    )


def _troubles(plan: Plan, failures: Mapping[str, Failure], output_dir: Path) -> list[_Trouble]:
    return [
        _Trouble(
            label=plan.jobs[key].label,
            kind=failure.kind,
            message=failure.message,
            log=f"logs/{key}.log",
            has_log=(output_dir / "logs" / f"{key}.log").is_file(),
        )
        for key, failure in failures.items()
    ]


def _datasets(plan: Plan, entries: Mapping[str, Entry]) -> list[_Dataset]:
    found = []
    for spec in plan.sweep.datasets.values():
        entry = entries.get(index_job(spec).key)
        cells = [cell for cell in plan.sweep.cells if cell.dataset == spec.name]
        found.append(
            _Dataset(
                name=spec.name,
                origin="generated faces" if spec.generate else f"layout {spec.layout}",
                forget_sizes=_listed(cell.num_forget for cell in cells),
                seeds=_listed(cell.seed for cell in cells),
                size="{num_images} images of {num_identities} identities".format(**entry.value)
                if entry
                else "-",
                fingerprint=str(entry.value["fingerprint"]) if entry else "-",
            )
        )
    return found


def _listed(values: Iterable[int]) -> str:
    return ", ".join(map(str, dict.fromkeys(values)))


def _splits(plan: Plan, entries: Mapping[str, Entry]) -> list[_Split]:
    """The finished splits, one per cell."""
    found: dict[Cell, _Split] = {}
    for row in plan.results:
        entry = entries.get(plan.jobs[row.evaluate_key].inputs["split"])
        if entry is not None:
            images = entry.value["num_images"]
            found[row.cell] = _Split(
                cell=row.cell,
                images=", ".join(f"{count} {name}" for name, count in images.items()),
                fingerprint=str(entry.value["fingerprint"]),
            )
    return list(found.values())


def _methods(plan: Plan) -> list[_Method]:
    """Rows with their hyperparameters; with those of each forget size where they differ."""
    variants: dict[str, dict[str, list[str]]] = {}
    rows = {}
    for result in plan.results:
        row, cell = result.row, result.cell
        rows[row.name] = row
        text = ", ".join(f"{k} = {v}" for k, v in row.hyperparameters.items()) or "none"
        cells = variants.setdefault(row.name, {}).setdefault(text, [])
        name = f"{cell.dataset} n{cell.num_forget}"
        if name not in cells:
            cells.append(name)
    return [
        _Method(
            name=row.name,
            method=row.method,
            seen=DATA_SEEN[row.access],
            hyperparameters=tuple(
                f"{', '.join(cells)}: {text}" if len(variants[row.name]) > 1 else text
                for text, cells in variants[row.name].items()
            ),
        )
        for row in rows.values()
    ]


def _again(command: Sequence[str]) -> str:
    """The command that goes on with the sweep, as a shell needs it."""
    return shlex.join(["python", "launch.py", *(c for c in command if not c.startswith("mode="))])


def git_commit() -> str | None:
    """Commit of the checkout that this file belongs to, if it is one; says so if it was changed."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != root:
            return None
        commit = git("rev-parse", "HEAD")
        return f"{commit} with uncommitted changes" if git("status", "--porcelain") else commit
    except (OSError, subprocess.SubprocessError):
        return None


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions
