"""The report: complete, self-contained, honest about failures, and never half-written."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import os
import re
import subprocess
import time
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from oneshui.errors import InputError
from oneshui.origin import git_commit
from oneshui.spec import DATA_SEEN
from sweeps.config import load
from sweeps.graph.cells import index_job
from sweeps.graph.plan import Plan, expand
from sweeps.inference.evidence import Evidence
from sweeps.report import page, provenance
from sweeps.report.failures import group_failures, smallest_command
from sweeps.report.figures import catalogue
from sweeps.report.page import write_report
from sweeps.report.results import COLUMNS, results_frame
from sweeps.report.summary import summarise
from sweeps.report.tracing import row_id
from sweeps.schedule.failure import Failure
from sweeps.store import Entry

COMMAND = [
    "sweep=smoke",
    "sweep.datasets=[synthetic_tiny]",
    "sweep.methods=[pretrain,retrain,ssd]",
    "mode=report",
]
SCORES = ("retain_score", "forget_score", "test_score", "val_score", "support_score")
STEERING = "\x1b[31m\u202e"
EVIL = "<script>alert('x')</script> & \"more\""


@pytest.fixture(scope="module")
def plan() -> Plan:
    return expand(load(COMMAND[:3]).sweep)


def entry(plan: Plan, key: str, value: Mapping[str, Any]) -> Entry:
    return Entry(
        stage=plan.jobs[key].stage,
        key=key,
        folder=Path("/nowhere"),
        files={},
        value=value,
        content=key * 4,
        inputs={},
        cost={"seconds": 2.0, "method_seconds": 1.5},
    )


def finished(plan: Plan, unfinished: str = "") -> dict[str, Entry]:
    """Entries of all rows but those of one method in seed 1."""
    values: dict[str, Mapping[str, Any]] = {}
    for dataset in plan.sweep.datasets.values():
        values[index_job(dataset).key] = {
            "fingerprint": "f1" * 32,
            "num_images": 300,
            "num_identities": 60,
        }
    for row in plan.results:
        split = plan.jobs[row.evaluate_key].inputs["split"]
        values[split] = {"fingerprint": f"split-{row.cell.seed}", "num_images": {"forget": 16}}
        if (row.row.name, row.cell.seed) != (unfinished, 1):
            level = {"pretrain": 0.75, "retrain": 1.0, "ssd": 0.8}[row.row.name]
            scores = dict.fromkeys(SCORES, 0.7)
            values[row.score_key] = {**scores, "tow": level, "mia_auc": 0.6, "mia_acc": 0.4}
            values |= {key: {} for key in (row.model_key, row.prepare_key) if key is not None}
    return {key: entry(plan, key, value) for key, value in values.items()}


def write(
    plan: Plan,
    output: Path,
    entries: Mapping[str, Entry],
    failures: Mapping[str, Failure] | None = None,
    blocked: tuple[str, ...] = (),
) -> Path:
    frame = results_frame(plan, entries)
    causes = group_failures(
        plan,
        failures or {},
        blocked,
        logs=output / "logs",
        command=lambda key: smallest_command(
            plan, key, COMMAND, lambda overrides: expand(load(overrides).sweep)
        ),
    )
    evidence = Evidence.of(frame)
    summary = summarise(frame, evidence)
    return page.write_report(
        plan, frame, summary, evidence, entries, causes, blocked, output, COMMAND
    )


@pytest.fixture(scope="module")
def whole(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Report of a sweep in which one row failed."""
    output = tmp_path_factory.mktemp("output")
    row = next(r for r in plan.results if (r.row.name, r.cell.seed) == ("ssd", 1))
    (output / "logs").mkdir()
    (output / "logs" / f"{row.model_key}.log").touch()
    failures = {row.model_key: Failure(kind="numerical", message=EVIL + STEERING)}
    blocked = (row.evaluate_key, row.score_key)
    return write(plan, output, finished(plan, "ssd"), failures, blocked)


class Page(HTMLParser):
    """Addresses, tags and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "action")]

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script":
            self.scripts.append(data)
        else:
            self.text += data


def test_results_are_the_frame_with_its_types(plan: Plan, whole: Path) -> None:
    read = pd.read_parquet(whole.parent / "results.parquet")
    frame = results_frame(plan, finished(plan, "ssd"))
    assert tuple(read.columns) == COLUMNS
    pd.testing.assert_frame_equal(read, frame)
    assert read["tow"].isna().sum() == 1
    assert read["rmia_auc"].isna().all()
    assert read["rmia_auc"].dtype == "float64"
    text = pd.read_csv(whole.parent / "results.csv")
    assert text["tow"].tolist()[:3] == [0.75, 1.0, 0.8]


def test_every_file_of_the_contract_is_there(whole: Path) -> None:
    names = {str(p.relative_to(whole.parent)) for p in whole.parent.rglob("*") if p.is_file()}
    drawn = {
        f"figures/{kind}-synthetic_tiny-n4.{suffix}"
        for kind in ("forgetting_utility", "tow", "loss_mia")
        for suffix in ("png", "pdf")
    } | {f"figures/cost-by_stage.{suffix}" for suffix in ("png", "pdf")}
    files = {
        "paper_numbers.csv",
        "comparisons.csv",
        "overall.csv",
        "per_identity.parquet",
        "hardness.csv",
        "hardness_fits.csv",
        "retain_drop.csv",
        "retain_drop_fits.csv",
        "index.html",
        "audits.html",
        "attacks.csv",
        "attackers.csv",
        *(f"results.{s}" for s in ("parquet", "csv")),
    }
    assert names == drawn | files | {
        f"summary.{suffix}" for suffix in ("csv", "parquet", "md", "tex")
    }
    assert {path.name for path in whole.parent.parent.iterdir()} == {"logs", "report"}


def test_page_needs_nothing_from_elsewhere(whole: Path) -> None:
    page = Page(whole)
    assert not {"link", "iframe", "object", "embed"} & set(page.tags)
    assert not re.search(r"@import|url\(|<script[^>]* src", whole.read_text(encoding="utf-8"))
    local = [a for a in page.addresses if not a.startswith(("data:image/png;base64,", "#"))]
    assert not [a for a in local if re.match(r"[a-z]+:|//", a)]
    assert all((whole.parent / a.partition("#")[0]).is_file() for a in local)
    assert sum(a.startswith("data:") for a in page.addresses) == 4


def test_page_says_what_was_compared(plan: Plan, whole: Path) -> None:
    page = Page(whole)
    text = " ".join(page.text.split())
    for row in plan.sweep.rows[plan.sweep.cells[0]]:
        assert row.name in text
        assert DATA_SEEN[row.access].replace("_", "") in text
        for name, value in row.hyperparameters.items():
            assert f"{name} = {value}" in text
    for said in (
        "300 images of 60 identities",
        "f1" * 32,
        "split-0",
        "split-1",
        "python launch.py sweep=smoke 'sweep.datasets=[synthetic_tiny]' "
        "'sweep.methods=[pretrain,retrain,ssd]'",
        "5 of 6 results",
        "mean ToW of 75.0%",
        "ssd leads: +5.0 points of ToW over doing nothing, which is not beyond the noise (1 "
        "one-shot row competed over 1 seed).",
    ):
        assert said in text
    assert "sweep.methods=[pretrain,retrain,ssd]' mode=report" not in text


def test_page_says_plainly_that_labels_are_hidden(whole: Path) -> None:
    text = " ".join(Page(whole).text.split())
    assert "These faces are generated." in text
    hidden = "Attractive Young Chubby Double_Chin High_Cheekbones Bags_Under_Eyes Pointy_Nose"
    assert all(name in text for name in hidden.split())


def test_page_says_nothing_of_hidden_labels_for_photographs(tmp_path: Path) -> None:
    photographs = expand(load(["sweep=full", "sweep.methods=[pretrain,retrain]"]).sweep)
    page = write(photographs, tmp_path, {})
    text = Page(page).text
    assert "generated" not in text
    assert "0 of 36 results" in text
    assert "None yet: no result is finished." in text


def test_page_names_failures_with_log_and_command(plan: Plan, whole: Path) -> None:
    row = next(r for r in plan.results if (r.row.name, r.cell.seed) == ("ssd", 1))
    page = Page(whole)
    assert plan.jobs[row.model_key].label in page.text
    assert f"logs/{row.model_key}.log" in page.text
    assert f"../logs/{row.model_key}.log" in page.addresses
    assert plan.jobs[row.score_key].label in page.text
    assert "1 failed" in page.text
    assert "2 blocked" in page.text
    assert "1 job: " in " ".join(page.text.split())
    assert "python launch.py sweep=smoke" in page.text
    assert "'sweep.forget_sizes=[4]' 'sweep.seeds=[1]' 'sweep.methods=[ssd]'" in page.text


def test_numbers_that_a_person_filled_in_survive_and_are_compared(
    plan: Plan, tmp_path: Path
) -> None:
    page = write(plan, tmp_path, finished(plan))
    table = page.parent / "paper_numbers.csv"
    assert pd.read_csv(table)["paper_mean"].isna().all()
    assert "not filled" in page.read_text(encoding="utf-8")
    text = table.read_text().replace("ssd,tow,,,,2.0,", "ssd,tow,81.5,0.4,,2.0,Table 9", 1)
    table.write_text(text)
    page = write(plan, tmp_path, finished(plan))
    assert table.read_text() == text
    (line,) = pd.read_csv(page.parent / "paper_comparison.csv").to_dict("records")
    assert (line["ours_mean"], line["n"]) == (pytest.approx(80), 2)
    assert line["difference"] == pytest.approx(-1.5)
    text = page.read_text(encoding="utf-8")
    assert "ssd tow: reproduced; paper 81.5, ours 80.0 (n=2), -1.5" in text
    assert "1 reproduced, 0 not, 0 undecided, 0 not run" in Page(page).text


def test_a_note_stands_on_the_page_as_it_was_written(plan: Plan, tmp_path: Path) -> None:
    noted = dataclasses.replace(plan, sweep=dataclasses.replace(plan.sweep, note=EVIL))
    page = write(noted, tmp_path, finished(noted))
    assert EVIL in Page(page).text
    assert EVIL not in page.read_text(encoding="utf-8")


def test_nested_seeds_show_each_level_s_spread(tmp_path: Path) -> None:
    nested = expand(load([*COMMAND[:3], "sweep.vary=nested"]).sweep)
    entries = finished(nested)
    for row in nested.results:
        for number, one in enumerate(row.replicates):
            value = entries[row.score_key].value
            own = {**value, "mia_auc": 0.6 + 0.01 * number} if number else value
            entries[one.score_key] = entry(nested, one.score_key, own)
            entries |= {key: entry(nested, key, {}) for key in one.model_keys}
    page = write(nested, tmp_path, entries)
    spreads = pd.read_csv(page.parent / "spreads.csv").set_index(["method", "measure"])
    found = spreads.to_dict("index")["ssd", "mia_auc"]
    # 0.60 and 0.61, 0.62 and 0.63, alike in both trainings.
    assert found["evaluation_std"] == pytest.approx(0.01 / 2**0.5)
    assert found["unlearning_std"] == pytest.approx((0.02**2 / 2 - 0.01**2 / 4) ** 0.5)
    assert found["training_std"] == 0
    assert "<td>61.50</td><td>0.00</td><td>1.32</td><td>0.71</td>" in page.read_text()
    text = " ".join(Page(page).text.split())
    assert "every interval and test, is of trainings alone" in text
    assert "Spread by level" not in Page(write(expand(load(COMMAND[:3]).sweep), tmp_path, {})).text


def test_a_table_of_published_numbers_that_is_none_stops_the_report(
    plan: Plan, tmp_path: Path
) -> None:
    page = write(plan, tmp_path, finished(plan))
    table = page.parent / "paper_numbers.csv"
    text = table.read_text().replace("ssd,tow,,,", "ssd,tow,eighty,,", 1)
    table.write_text(text)
    with pytest.raises(InputError, match="paper_mean is 'eighty', but it must be a number"):
        write(plan, tmp_path, finished(plan))
    assert table.read_text() == text


def test_page_escapes_what_others_wrote(whole: Path) -> None:
    page = Page(whole)
    assert EVIL + r"\x1b[31m\u202e" in page.text
    assert EVIL not in whole.read_text(encoding="utf-8")
    assert page.tags.count("script") == 2
    assert not set(STEERING[:1] + STEERING[-1:]) & set(whole.read_text(encoding="utf-8"))


def test_the_script_is_small_and_asks_nobody(whole: Path) -> None:
    *_, script = (text for text in Page(whole).scripts if text.strip())
    assert "use strict" in script
    assert len(script.encode()) <= 20_000
    assert not re.search(r"fetch|XMLHttp|WebSocket|import\(|sendBeacon|https?:|Storage", script)


def test_cards_and_table_lead_to_each_other_and_numbers_to_where_they_come_from(
    plan: Plan, whole: Path
) -> None:
    page = Page(whole)
    text = whole.read_text(encoding="utf-8")
    anchors = re.findall(r' id="([^"]+)"', text)
    assert len(set(anchors)) == len(anchors)
    assert {a[1:] for a in page.addresses if a.startswith("#")} <= set(anchors)
    assert {"synthetic_tiny-n4", "synthetic_tiny-n4-ssd", "why-command"} <= set(anchors)
    packed = next(text for text in page.scripts if text.strip())
    found = json.loads(gzip.decompress(base64.b64decode(packed)))
    asked = re.findall(r'data-asked="([^"]+)"', text)
    assert set(asked) == set(found["rows"]) == {row_id(row) for row in plan.results}
    for cell in re.findall(r"<td[^>]* data-v=\"-?[\d.]+\"[^>]*>(.*?)</td>", text):
        assert cell.startswith(('<a href="#provenance">', "1"))
    assert all(re.findall(r'<abbr title="([^"]*)"', text))
    assert text.count("<th ") == text.count('scope="')


def test_a_notice_and_mlflow_are_at_the_top(plan: Plan, tmp_path: Path) -> None:
    entries = finished(plan)
    frame = results_frame(plan, entries)
    evidence = Evidence.of(frame)
    page = Page(
        write_report(
            plan,
            frame,
            summarise(frame, evidence),
            evidence,
            entries,
            (),
            (),
            tmp_path,
            COMMAND,
            tracking_uri="https://me:secret@mlflow.example.org",
            partial="Still running: 3 of 6 results.",
        )
    )
    assert "Still running: 3 of 6 results." in page.text
    assert page.text.index("Still running") < page.text.index("Results\n")
    assert "https://mlflow.example.org" in page.addresses
    local = write(plan, tmp_path / "local", entries).read_text(encoding="utf-8")
    assert "python launch.py sweep=smoke" in local
    assert "mode=ui</code>" in local
    assert 'id="notice"' not in local


def test_no_row_better_than_doing_nothing_is_said(plan: Plan, tmp_path: Path) -> None:
    entries = finished(plan)
    worse = {r.score_key for r in plan.results if r.row.name == "ssd"}
    changed = {
        key: entry(plan, key, {**found.value, "tow": 0.5}) if key in worse else found
        for key, found in entries.items()
    }
    text = Page(write(plan, tmp_path, changed)).text
    assert "Doing nothing leads: the one row is not better on average over 2 seeds." in text


def test_a_failure_leaves_the_old_report_and_nothing_else(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = write(plan, tmp_path, finished(plan, "ssd"))
    before = {path: path.read_bytes() for path in page.parent.rglob("*") if path.is_file()}

    def broken(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(catalogue, "draw", broken)
    with pytest.raises(OSError, match="no space left"):
        write(plan, tmp_path, finished(plan))
    after = {path: path.read_bytes() for path in page.parent.rglob("*") if path.is_file()}
    assert after == before
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_new_report_replaces_the_old_one_whole(plan: Plan, tmp_path: Path) -> None:
    page = write(plan, tmp_path, finished(plan, "ssd"))
    (page.parent / "stale.txt").touch()
    page = write(plan, tmp_path, finished(plan))
    assert not (page.parent / "stale.txt").exists()
    assert "6 of 6 results" in Page(page).text
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_only_folders_that_a_crash_left_long_ago_are_cleared_away(
    plan: Plan, tmp_path: Path
) -> None:
    for name, age in (("old", 3700), ("young", 3500)):
        (tmp_path / f".report-new-{name}").mkdir()
        then = time.time() - age
        os.utime(tmp_path / f".report-new-{name}", (then, then))
    write(plan, tmp_path, finished(plan))
    assert {path.name for path in tmp_path.iterdir()} == {"report", ".report-new-young"}


def test_commit_is_that_of_the_checkout_or_none() -> None:
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=Path(provenance.__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    commit = git_commit()
    assert (commit is None) == (done.returncode != 0)
    if commit is not None:
        assert commit.split()[0] == done.stdout.strip()
