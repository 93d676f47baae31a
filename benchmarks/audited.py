"""What audits cost a report: ``mode=report`` of 5,000 jobs with all audits on, and without any.

    python benchmarks/audited.py [--seeds 13]

Makes up two stores of about equally many finished jobs (``benchmarks/review.py``; their numbers
mean nothing), one of a sweep without audits and one with probes, a pool of 64 people and 32 models
and a cell of memorised people beside every cell, and has the real command write the report and the
MLflow view of both, in turns. The last line is one JSON object. The bar: at most 1.3 times as long,
within 1 GiB.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pandas as pd

from benchmarks.review import LIMIT_BYTES, MadeUp, measured, overrides, parquet
from oneshui.metrics.resampling import NUM_RESAMPLES, RESAMPLED
from sweeps.config import load
from sweeps.graph import artifacts
from sweeps.graph.job import Job
from sweeps.graph.plan import Plan, expand
from sweeps.report.audits.hiding import LESSONS, TIMES
from sweeps.report.measures import CATALOGUE

BAR, ROUNDS = 1.3, 2
POOL, MODELS = 64, 32
OF_LIKENESS = ("zrf", "rf_js", "activation_forget", "activation_test", "same_forget", "same_test")
AUDITS = (f"++sweep.audit={{pool: {POOL}, models: {MODELS}}}", "sweep.choose=memorised")


class Audited(MadeUp):
    """Finished jobs of audits too, and resamples of people in every score."""

    def _value(self, job: Job) -> Mapping[str, Any]:
        match job.stage:
            case "lira":
                return {
                    name: float(self._random.uniform(0.4, 0.9))
                    for name in CATALOGUE
                    if name.startswith("lira_")
                } | {"lira_people": POOL, "lira_models": MODELS}
            case "completeness":
                return {
                    name: float(self._random.uniform())
                    for name in CATALOGUE
                    if name.startswith("completeness") or name in OF_LIKENESS
                }
            case "memorisation":
                return {"people": POOL, "models": MODELS, "mean": 0.5}
            case "probe":
                return self._probe(self._sizes[job.inputs["split"]])
        return super()._value(job)

    def _probe(self, people: int) -> Mapping[str, Any]:
        def rates() -> dict[str, list[float]]:
            names = ("first", "accepted")
            return {name: self._random.uniform(size=people).round(3).tolist() for name in names}

        curves = {
            lesson: np.sort(self._random.uniform(0.5, 0.9, len(TIMES))).tolist()
            for lesson in LESSONS
        }
        return {
            "times": list(TIMES),
            "curves": curves,
            "heights": self._random.uniform(size=NUM_RESAMPLES).round(4).tolist(),
            "support_score": 0.6,
            "forgotten": rates(),
            "retained": rates(),
            "strangers": people,
        }

    def _files(self, job: Job) -> Mapping[str, bytes]:
        match job.stage:
            case "lira":
                return {
                    artifacts.LIKELIHOOD: parquet(self._people()),
                    artifacts.LIKELIHOOD_ROC: parquet(_curves()),
                }
            case "completeness":
                people = self._sizes[self._plan.jobs[job.inputs["pretrained"]].inputs["split"]]
                drawn = {"completeness": self._random.uniform(size=people)}
                table = pd.DataFrame({"identity": np.arange(people), "images": 7, **drawn})
                return {artifacts.COMPLETENESS: parquet(table)}
            case "memorisation":
                known = self._people()[["identity", "memorisation"]]
                return {artifacts.MEMORISATION: parquet(known)}
            case "score":
                drawn = self._random.uniform(0.4, 0.6, (NUM_RESAMPLES, len(RESAMPLED)))
                table = pd.DataFrame(drawn, columns=list(RESAMPLED))
                return {**super()._files(job), artifacts.PEOPLE: parquet(table)}
        return super()._files(job)

    def _people(self) -> pd.DataFrame:
        numbers = ("memorisation", "forgetting", "privacy_auc", "efficacy_auc")
        drawn = {name: self._random.uniform(size=POOL) for name in numbers}
        return pd.DataFrame({"identity": np.arange(POOL), "images": 7, **drawn})


def _curves() -> pd.DataFrame:
    rates = np.unique(np.geomspace(10, POOL * MODELS // 2, 60).round()) / (POOL * MODELS // 2)
    curve = pd.DataFrame({"fpr": rates, "tpr": rates**0.8, "low": rates, "high": rates**0.6})
    return pd.concat([curve.assign(attack=name) for name in ("privacy", "efficacy")])


def seeds_for(jobs: int) -> int:
    """The number of seeds with which all audits make up about so many jobs."""
    sizes = {seeds: len(plan_of(seeds, AUDITS).jobs) for seeds in range(1, 14)}
    return min(sizes, key=lambda seeds: abs(sizes[seeds] - jobs))


def plan_of(seeds: int, audits: tuple[str, ...]) -> Plan:
    """The graph of the grid of ``benchmarks/review.py``."""
    return expand(load([*overrides(seeds), *audits]).sweep)


def main() -> int:
    """Generate, measure in turns, print."""
    seeds = int(sys.argv[sys.argv.index("--seeds") + 1]) if "--seeds" in sys.argv else 13
    plain = plan_of(seeds, ())
    fewer = seeds_for(len(plain.jobs))
    plans = {"plain": (plain, [*overrides(seeds)])}
    plans["audited"] = (plan_of(fewer, AUDITS), [*overrides(fewer), *AUDITS])
    best = dict.fromkeys(plans, math.inf)
    most = dict.fromkeys(plans, 0)
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(ROUNDS):
            for name, (plan, command) in plans.items():
                output = Path(scratch) / f"{name}{turn}"
                Audited(plan, output / "store").fill()
                report = [sys.executable, "launch.py", *command]
                report += [f"output_dir={output}", "mode=report"]
                seconds, used, peak, _ = measured(report)
                best[name] = min(best[name], seconds)
                most[name] = max(most[name], sum(peak))
                print(
                    f"{name}: {len(plan.jobs)} jobs, {len(plan.results)} rows, {seconds:.1f} s "
                    f"({used:.1f} s of processors), {sum(peak) / 2**20:.0f} MiB at most"
                )
                page = output / "report" / "audits.html"
                print(f"  audits' page: {page.stat().st_size / 2**20:.1f} MiB")
    ratio = best["audited"] / best["plain"]
    ok = ratio <= BAR and most["audited"] <= LIMIT_BYTES
    result = {
        "benchmark": "audited",
        "ratio": round(ratio, 2),
        "bar": BAR,
        "ok": ok,
        **{f"jobs_{name}": len(plan.jobs) for name, (plan, _) in plans.items()},
        **{f"rows_{name}": len(plan.results) for name, (plan, _) in plans.items()},
        **{f"seconds_{name}": round(seconds, 1) for name, seconds in best.items()},
        "peak_mib": math.ceil(most["audited"] / 2**20),
        "limit_mib": LIMIT_BYTES // 2**20,
    }
    print(json.dumps(result))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
