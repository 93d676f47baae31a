"""The audits' page of a small sweep that ran here, and what tables say of made-up rows."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.inline_sweep import inline_sweep
from support.result_frames import frame_of, row

from sweeps.config import load
from sweeps.graph.plan import Plan, ResultRow, expand
from sweeps.inference.evidence import Evidence
from sweeps.report import page
from sweeps.report.audits import attacks, likelihood
from sweeps.report.audits.part import Part
from sweeps.report.people import resamples
from sweeps.report.results import Entries, results_frame
from sweeps.report.summary import summarise
from sweeps.store.status import scan

SWEEP = (
    "sweep=smoke",
    "sweep.datasets=[synthetic_tiny]",
    "sweep.forget_sizes=[8]",
    "sweep.methods=[pretrain,retrain,retrain_again,gradient_ascent]",
    "+sweep.rows.retrain_again={method: retrain, reseed: 1}",
    "++sweep.audit={probes: true, pool: 16, models: 8}",
)


@dataclasses.dataclass(frozen=True)
class Audited:
    plan: Plan
    entries: Entries
    folder: Path


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    """The report of a sweep with a likelihood audit, computed here."""
    output = tmp_path_factory.mktemp("audited")
    sweep = inline_sweep(output, *SWEEP)
    assert not sweep.scheduler.failures()
    entries = scan(sweep.plan, sweep.store, discard=False).entries
    return Audited(sweep.plan, entries, written(sweep.plan, entries, output))


def written(plan: Plan, entries: Entries, output: Path) -> Path:
    frame = results_frame(plan, entries)
    evidence = Evidence.of(frame, resamples(plan, entries))
    summary = summarise(frame, evidence)
    found = page.write_report(plan, frame, summary, evidence, entries, (), (), output, ("sweep=x",))
    return found.parent


class Html(HTMLParser):
    """Addresses, anchors and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.links += [known[name] or "" for name in ("href", "src") if name in known]
        self.anchors += [known["id"] or ""] if "id" in known else []

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_main_page_leads_to_the_audits_and_back(audited: Audited) -> None:
    main, own = Html(audited.folder / "index.html"), Html(audited.folder / "audits.html")
    assert "audits.html" in main.links
    assert "index.html" in own.links
    for link in (one for one in (*main.links, *own.links) if one.startswith("audits.html#")):
        assert link.removeprefix("audits.html#") in own.anchors
    parts = [one for one in own.anchors if not one.startswith("figure-")]
    assert {"likelihood", "attacks", "limits"} <= set(parts)


def test_the_page_is_whole_without_a_network(audited: Audited) -> None:
    own = Html(audited.folder / "audits.html")
    for link in own.links:
        if link.startswith(("#", "data:")):
            continue
        assert not link.startswith("http")
        assert (audited.folder / link).is_file(), link


def test_figures_of_audits_stand_on_their_page_alone(audited: Audited) -> None:
    main, own = (Html(audited.folder / f"{name}.html").anchors for name in ("index", "audits"))
    drawn = {path.stem for path in (audited.folder / "figures").glob("*.png")}
    assert {"likelihood_roc-synthetic_tiny", "memorisation-synthetic_tiny"} <= drawn
    # A line through the two forgotten people who are in the pool would say nothing.
    assert not [name for name in drawn if name.startswith("hardness_memorised")]
    there = {one.removeprefix("figure-") for one in own if one.startswith("figure-")}
    here = {one.removeprefix("figure-") for one in main if one.startswith("figure-")}
    assert {"likelihood_roc-synthetic_tiny", "memorisation-synthetic_tiny"} <= there
    assert not here & there
    assert here | there == drawn


def test_every_audited_row_has_its_line_and_no_other(audited: Audited) -> None:
    people = pd.read_csv(audited.folder / "likelihood_people.csv")
    assert people.groupby("method")["identity"].nunique().to_dict() == {
        "pretrain": 16,
        "gradient_ascent": 16,
    }
    curves = pd.read_csv(audited.folder / "likelihood_roc.csv")
    assert set(curves["attack"]) == {"privacy", "efficacy"}
    assert (curves["low"] <= curves["tpr"]).all()
    assert (curves["tpr"] <= curves["high"]).all()
    frame = results_frame(audited.plan, audited.entries)
    known = frame.set_index("method")["lira_auc"]
    assert known["retrain"].isna().all()
    # Cells whose hyperparameters are alike share an audit.
    assert known["gradient_ascent"].nunique() == 1


def test_doing_nothing_forgets_nothing_of_what_was_memorised(audited: Audited) -> None:
    people = pd.read_csv(audited.folder / "likelihood_people.csv")
    nothing = people[people["method"] == "pretrain"]
    other = people[people["method"] == "gradient_ascent"]
    # Memorisation is of the pool, not of a row.
    assert nothing["memorisation"].tolist() == other["memorisation"].tolist()
    assert not np.allclose(nothing["forgetting"], other["forgetting"])


def test_memorisation_is_an_axis_for_the_forgotten_who_are_in_the_pool(audited: Audited) -> None:
    points = pd.read_csv(audited.folder / "hardness_memorised.csv")
    pool = pd.read_csv(audited.folder / "likelihood_people.csv").drop_duplicates("identity")
    by_person = pool.set_index("identity")["memorisation"]
    gaps = pd.read_parquet(audited.folder / "per_identity.parquet")
    expected = gaps[gaps["identity"].isin(by_person.index)]
    assert 0 < len(points) == len(expected)
    assert points["memorisation"].tolist() == pytest.approx(
        by_person.loc[points["identity"]].tolist()
    )
    fits = pd.read_csv(audited.folder / "hardness_memorised_fits.csv").set_index("method")
    own = points[points["method"] == "gradient_ascent"]
    levelled = own[["memorisation", "gap"]] - own.groupby("seed")[
        ["memorisation", "gap"]
    ].transform("mean")
    slope = (levelled["memorisation"] * levelled["gap"]).sum()
    slope /= (levelled["memorisation"] ** 2).sum()
    assert fits.loc["gradient_ascent", "slope"] == pytest.approx(slope)


def test_a_sweep_without_an_audit_still_has_the_attacks(tmp_path: Path) -> None:
    sweep = inline_sweep(tmp_path, *SWEEP[:-1])
    entries = scan(sweep.plan, sweep.store, discard=False).entries
    folder = written(sweep.plan, entries, tmp_path)
    anchors = Html(folder / "audits.html").anchors
    assert "attacks" in anchors
    assert "likelihood" not in anchors
    assert not (folder / "likelihood_roc.csv").exists()


def test_nothing_finished_has_no_page_of_audits(audited: Audited, tmp_path: Path) -> None:
    folder = written(audited.plan, {}, tmp_path)
    assert not (folder / "audits.html").exists()
    assert "audits.html" not in Html(folder / "index.html").links


def attacked(method: str, seed: int, auc: float, **values: Any) -> dict[str, Any]:
    counted = {
        "forget_people": 11,
        "forget_images": 70 + seed,
        "test_people": 40,
        "test_images": 200,
    }
    return row(method, seed, 0.8, **{**counted, "mia_auc": auc, "mia_threshold_auc": auc, **values})


def drawn(seeds: int, methods: tuple[str, ...]) -> pd.DataFrame:
    """Resamples of people that move every row of a seed by itself, by one point."""
    generator = np.random.default_rng(0)
    names = ("mia_auc", "mia_threshold_auc", "rmia_auc", "rmia_tpr")
    parts = [
        pd.DataFrame(
            {
                "dataset": "synthetic",
                "num_forget": 20,
                "seed": seed,
                "method": method,
                "resample": range(200),
                **{name: 0.5 + 0.01 * generator.normal(size=200) for name in names},
            }
        )
        for seed in range(seeds)
        for method in methods
    ]
    return pd.concat(parts, ignore_index=True)


def attack_part(folder: Path) -> Part:
    rows = []
    for seed in range(2):
        rows += [
            attacked("pretrain", seed, 0.7, rmia_tpr=0.2, rmia_fpr=0.05),
            attacked("retrain", seed, 0.5),
            attacked("ssd", seed, 0.43, rmia_tpr=0.1, rmia_fpr=0.05),
            attacked("jit", seed, 0.505),
        ]
    found = attacks.part(frame_of(rows), drawn(2, ("pretrain", "retrain", "ssd", "jit")), folder)
    assert found is not None
    return found


def test_an_attack_says_which_way_it_deviates(tmp_path: Path) -> None:
    (table,) = attack_part(tmp_path).tables
    lines = {line[0]: dict(zip(table.titles, line, strict=True)) for line in table.lines}
    assert lines["pretrain"]["loss, forest"].startswith("70.0 [")
    assert lines["pretrain"]["loss, forest"].endswith(", +20.0 ↑")
    assert lines["ssd"]["loss, forest"].endswith(", -7.0 ↓")
    # Half a point is less than people move it: no arrow.
    assert lines["jit"]["loss, forest"].endswith(", +0.5")
    assert lines["jit"]["relative (RMIA)"] == "-"
    assert lines["ssd"]["RMIA TPR"].startswith("10.0 [")
    assert lines["ssd"]["RMIA TPR"].endswith("at 5 %")
    assert lines["ssd"]["its advantage"].startswith("+7.0")
    assert lines["ssd"]["forget people (images)"] == "11 (70 to 71)"
    written_ = pd.read_csv(tmp_path / "attacks.csv").set_index(["method", "attack"])
    assert written_.loc[("ssd", "mia_auc"), "forget_images"] == 70
    assert written_.loc[("ssd", "mia_auc"), "deviation"] == pytest.approx(-0.07)
    assert (tmp_path / "attackers.csv").is_file()


def lira(row_: ResultRow, auc: float | None, **values: Any) -> dict[str, Any]:
    """A row of a plan with what an audit said of it, nothing if ``auc`` is None."""
    found = (
        {}
        if auc is None
        else {
            "lira_auc": auc,
            "lira_auc_low": auc - 0.1,
            "lira_auc_high": auc + 0.1,
            "lira_auc_by_chance": 0.6,
            "lira_shift": -0.125,
            "lira_shift_low": -0.25,
            "lira_shift_high": -0.03125,
            "lira_people": 16.0,
            "lira_models": 8.0,
        }
    )
    name, seed = row_.row.name, row_.cell.seed
    return row(
        name, seed, 0.8, job_key=row_.score_key, role=str(row_.row.role), **{**found, **values}
    )


METHODS = ("scrub", "ssd", "jit", "delete", "salun")


@pytest.fixture(scope="module")
def planned() -> dict[str, tuple[ResultRow, ...]]:
    """Rows of a sweep that was not run, by name, each of two seeds."""
    names = ",".join(("pretrain", "retrain", *METHODS))
    rows = expand(
        load([*SWEEP[:3], f"sweep.methods=[{names}]", SWEEP[-1], "sweep.seeds=[0,1]"]).sweep
    ).results
    return {
        name: tuple(one for one in rows if one.row.name == name)
        for name in dict.fromkeys(one.row.name for one in rows)
    }


def said(
    audited: Audited,
    planned: dict[str, tuple[ResultRow, ...]],
    folder: Path,
    *lines: dict[str, Any],
) -> Part:
    plan = dataclasses.replace(
        audited.plan,
        results=(*audited.plan.results, *(one for rows in planned.values() for one in rows)),
    )
    found = likelihood.part(plan, audited.entries, frame_of(list(lines)), folder)
    assert found is not None
    return found


def test_the_likelihood_audit_says_who_is_told_and_which_way(
    audited: Audited, planned: dict[str, tuple[ResultRow, ...]], tmp_path: Path
) -> None:
    known = {"lira_shift": 0.5, "lira_shift_low": 0.25, "lira_shift_high": 0.75}
    found = said(
        audited,
        planned,
        tmp_path,
        lira(planned["pretrain"][0], 0.9, **known),
        lira(planned["scrub"][0], 0.8),
        # The mean is on one side of 0, and its interval on neither.
        lira(planned["salun"][0], 0.8, lira_shift_high=0.0),
        # Above guessing, and not above what few models find in nothing.
        lira(planned["ssd"][0], 0.7, lira_auc_by_chance=0.7),
        lira(planned["jit"][0], 0.3),
        lira(planned["delete"][0], None),
        lira(planned["retrain"][0], None),
    )
    assert found.sentences == (
        "synthetic, 16 people and 8 models: told from strangers are people unlearned by pretrain "
        "(still known), scrub (forgotten too much), salun (which way is not shown). Below "
        "guessing, where the attack fails: jit. Not shown either way: ssd. Not audited, because a "
        "job of the audit is not done or has failed: delete.",
    )
    (table,) = found.tables
    lines = {line[0]: dict(zip(table.titles, line, strict=True)) for line in table.lines}
    assert set(lines) == {"pretrain", "scrub", "salun", "ssd", "jit"}
    assert lines["ssd"]["AUC (by chance)"] == "70.0 [60.0, 80.0] (70.0)"
    assert lines["pretrain"]["shift"] == "+0.50 [+0.25, +0.75]"
    assert likelihood.part(audited.plan, {}, frame_of([]), tmp_path) is None


def test_an_audit_that_rows_share_counts_once(
    audited: Audited, planned: dict[str, tuple[ResultRow, ...]], tmp_path: Path
) -> None:
    first, second = planned["ssd"]
    assert first.lira_key == second.lira_key
    other = dataclasses.replace(second, lira_key="another", score_key="other")
    rows = {**planned, "ssd": (first, second, other)}
    found = said(
        audited,
        rows,
        tmp_path,
        *(lira(one, auc) for one, auc in ((first, 0.75), (second, 0.75), (other, 0.55))),
    )
    ((line,),) = (table.lines for table in found.tables)
    assert line[1].startswith("65.0 [55.0, 75.0]")
    assert line[-1] == "2"
    assert "unlearned by ssd" in found.sentences[0]
    # Where nothing of a dataset is audited, that is what is said.
    (sentence,) = said(audited, planned, tmp_path, lira(first, None)).sentences
    assert sentence.startswith("synthetic: not audited, because a job")
    half = said(audited, rows, tmp_path, lira(first, 0.75), lira(other, None))
    assert half.sentences[0].endswith("not done or has failed: ssd (in 1 of 2 cells).")


def test_where_no_audit_is_done_the_page_says_so(
    audited: Audited, planned: dict[str, tuple[ResultRow, ...]], tmp_path: Path
) -> None:
    plan = dataclasses.replace(audited.plan, results=planned["ssd"])
    found = likelihood.part(plan, {}, frame_of([lira(planned["ssd"][0], None)]), tmp_path)
    assert found is not None
    assert not found.tables
    assert not found.files
    (sentence,) = found.sentences
    assert sentence.endswith("is not done or has failed: ssd.")
