"""What a report says of people whom memorisation chose."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
from support.inline_sweep import InlineSweep
from support.pool import POOL, pool_sweep, row_of, table_of, value_of
from support.result_frames import frame_of, row

from sweeps.cli.reproduce import part_of
from sweeps.config import load
from sweeps.graph.audits import Choose
from sweeps.graph.plan import Plan, expand
from sweeps.report import analyses
from sweeps.report.audits import memorisation, page, worst
from sweeps.report.results import results_frame
from sweeps.report.tracing import jobs_behind, said_by
from sweeps.store.status import scan


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> InlineSweep:
    return pool_sweep(tmp_path_factory.mktemp("pool"))


def test_results_hold_what_the_chosen_cell_and_the_audit_measured(pooled: InlineSweep) -> None:
    entries = scan(pooled.plan, pooled.store, discard=False).entries
    frame = results_frame(pooled.plan, entries).set_index("method")
    for name in ("pretrain", "ssd", "jit"):
        found = row_of(pooled, name)
        assert found.chosen is not None
        assert found.lira_key is not None
        score, chosen = (value_of(pooled, key) for key in (found.score_key, found.chosen.score_key))
        assert frame.loc[name, "chosen_tow"] == chosen["tow"]
        assert frame.loc[name, "chosen_drop"] == score["tow"] - chosen["tow"]
        assert frame.loc[name, "chosen_forget_gap"] == chosen["forget_gap"]
        assert frame.loc[name, "tow"] == score["tow"], "the row itself is of people at random"
        audit = value_of(pooled, found.lira_key)
        for column, value in audit.items():
            stored = frame[column][name]
            assert stored == value or (value is None and math.isnan(stored)), column
    assert math.isnan(frame["lira_auc"]["retrain"])


def test_the_page_has_a_part_for_each(pooled: InlineSweep, tmp_path: Path) -> None:
    entries = scan(pooled.plan, pooled.store, discard=False).entries
    frame = results_frame(pooled.plan, entries)
    parts = page.parts_of(pooled.plan, entries, frame, None, tmp_path)
    found = {part.anchor: part for part in parts}
    assert {"likelihood", "worst"} <= found.keys()
    assert len(found["worst"].tables[0].lines) == len(pooled.plan.results)


def test_the_axis_of_memorisation_has_those_who_were_chosen_by_it(
    pooled: InlineSweep, tmp_path: Path
) -> None:
    entries = dict(scan(pooled.plan, pooled.store, discard=False).entries)
    drawn = analyses.write(pooled.plan, entries, tmp_path)["per_identity.parquet"]
    points = memorisation.write(pooled.plan, entries, drawn, tmp_path)[memorisation.POINTS]
    key = pooled.plan.pools["synthetic_tiny"].memorisation_key
    known = table_of(pooled, key, "memorisation").set_index("identity")["memorisation"]
    for name in ("ssd", "jit"):
        chosen = row_of(pooled, name).chosen
        assert chosen is not None
        gaps = table_of(pooled, chosen.score_key, "per_identity").set_index("identity")["gap"]
        own = points[points["method"] == name].set_index("identity")
        assert own["gap"].to_dict() == gaps.to_dict()
        assert own["memorisation"].to_dict() == known[gaps.index].to_dict()
    # Those whom a seed drew are shown where nobody is chosen, yet.
    without = {
        job: entry
        for job, entry in entries.items()
        if job not in {one.chosen.score_key for one in pooled.plan.results if one.chosen}
    }
    table = memorisation.write(pooled.plan, without, drawn, tmp_path).get(memorisation.POINTS)
    pool = set(known.index)
    expected = set(drawn["identity"]) & pool
    assert (set() if table is None else set(table["identity"])) == expected


def test_rows_whose_audits_are_not_there_yet_are_shown_without(pooled: InlineSweep) -> None:
    entries = dict(scan(pooled.plan, pooled.store, discard=False).entries)
    for found in pooled.plan.results:
        for key in found.audit_keys:
            entries.pop(key, None)
    frame = results_frame(pooled.plan, entries)
    assert frame["tow"].notna().all()
    assert frame[["lira_auc", "chosen_tow", "chosen_drop"]].isna().all(axis=None)


def test_a_number_of_an_audit_is_traced_to_the_audit_and_not_to_the_score(
    pooled: InlineSweep,
) -> None:
    found = row_of(pooled, "ssd")
    assert found.lira_key is not None
    assert found.chosen is not None

    def behind(measure: str) -> list[str]:
        return jobs_behind(found, pooled.plan, said_by(found, measure))

    audit = behind("lira_auc")
    assert audit[0] == found.lira_key
    (pool,) = pooled.plan.pools.values()
    assert {model.base.pretrained for model in pool.models} <= set(audit)
    assert found.score_key not in audit
    assert {found.score_key, found.chosen.score_key} <= set(behind("chosen_drop"))
    assert behind("tow") == jobs_behind(found, pooled.plan)
    assert not {found.lira_key, found.chosen.score_key} & set(behind("tow"))


def test_a_number_of_an_audit_is_computed_again_with_the_audit(pooled: InlineSweep) -> None:
    found = row_of(pooled, "ssd")
    part = part_of(pooled.plan, "synthetic_tiny 2 ssd lira_auc")
    (row,) = part.results
    assert row.audit_keys == (found.lira_key,)
    assert part.jobs.keys() == pooled.plan.behind([found.score_key, *row.audit_keys]).keys()
    (plain,) = part_of(pooled.plan, "synthetic_tiny 2 ssd tow").results
    assert plain.audit_keys == ()


def planned(choose: Choose) -> Plan:
    plan = expand(load([*POOL]).sweep)
    return dataclasses.replace(plan, sweep=dataclasses.replace(plan.sweep, choose=choose))


FRAME = frame_of(
    [
        row("pretrain", 0, 0.90, chosen_tow=0.80, chosen_drop=0.10, chosen_mia_auc=0.75),
        row("pretrain", 1, 0.92, chosen_tow=0.78, chosen_drop=0.14, chosen_mia_auc=0.85),
        row("ssd", 0, 0.95, chosen_tow=0.96, chosen_drop=-0.01, forget_gap=0.02),
        row("ssd", 1, 0.95),
    ]
)


def test_the_drop_is_a_mean_over_seeds_that_have_both_with_its_spread(tmp_path: Path) -> None:
    part = worst.part(planned("memorised"), {}, FRAME, tmp_path)
    assert part is not None
    (table,) = part.tables
    assert table.title == "synthetic, 20 forget identities"
    pretrain, ssd = (dict(zip(table.titles, line, strict=True)) for line in table.lines)
    assert pretrain == {
        "row": "pretrain",
        "ToW, random": "91.0",
        "ToW, chosen": "79.0",
        "drop": "+12.0",
        "± seeds": "2.8",
        "Δ forget, random": "-",
        "Δ forget, chosen": "-",
        "MIA, random": "91.0",
        "MIA, chosen": "80.0",
        "seeds": "2",
    }
    assert (ssd["drop"], ssd["± seeds"], ssd["seeds"]) == ("-1.0", "-", "1")
    assert ssd["Δ forget, random"] == "+2.0"
    assert "know most beyond what strangers show" in part.note
    easy = worst.part(planned("forgettable"), {}, FRAME, tmp_path)
    assert easy is not None
    assert "easy" in easy.title
    assert "know least" in easy.note


def test_without_chosen_cells_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert worst.part(planned("random"), {}, FRAME, tmp_path) is None
    none = FRAME.assign(chosen_drop=math.nan)
    assert worst.part(planned("memorised"), {}, none, tmp_path) is None
