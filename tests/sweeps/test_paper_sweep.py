"""The paper in one sweep, and everything as in the authors' code by one word."""

from __future__ import annotations

from typing import Any, get_args, get_origin, get_type_hints

import pytest

from oneshui import methods
from oneshui.errors import InputError
from sweeps.config import load
from sweeps.graph.plan import expand
from sweeps.graph.spec import Cell, SweepSpec

MAIN = {
    "pretrain",
    "retrain",
    "retrain_again",
    "ssd",
    "jit",
    "pgu",
    "metaunlearn",
    "scrub",
    "bad_teacher",
}
LOSSES = {"original", "unlearned", "scrub", "rev", "use_retain", "no_accs", "l1", "l2"}
INPUTS = {"no_features", "no_targets", "no_identity", "logits_only"}
ABLATIONS = {f"metaunlearn_{name}" for name in LOSSES | INPUTS}
MISMATCHED = {"metaunlearn_mismatched"}


def sweep_of(*overrides: str) -> SweepSpec:
    return load(list(overrides)).sweep


def names(sweep: SweepSpec, cell: Cell) -> set[str]:
    return {row.name for row in sweep.rows[cell]}


def test_the_paper_has_every_table_and_ablation_in_the_cells_where_it_belongs() -> None:
    sweep = sweep_of("sweep=paper")
    found = {(c.dataset, c.num_forget): names(sweep, c) for c in sweep.cells}
    extra = {cell: own - MAIN for cell, own in found.items()}
    assert all(own >= MAIN for own in found.values())
    assert extra == {
        **{(name, size): set() for name in ("celebahq", "celeba") for size in (1, 200, 500)},
        **{("celebahq", size): ABLATIONS | MISMATCHED for size in (20, 50)},
        **{(name, size): MISMATCHED for name in ("celeba", "mufac") for size in (5, 10)},
    }
    assert {c.seed for c in sweep.cells} == {0, 1, 2}
    assert {c.num_forget: sweep.requests_in(c) for c in sweep.cells if c.dataset == "celeba"} == {
        1: 20,
        5: 1,
        10: 1,
        200: 1,
        500: 1,
    }
    published = {row.name: row for row in sweep.rows[sweep.cells[0]]}
    assert all(published[name].is_published for name in ("ssd", "jit", "scrub"))
    (no_accs,) = (row for row in sweep.rows[sweep.cells[3]] if row.name == "metaunlearn_no_accs")
    assert no_accs.hyperparameters["use_accs"] is False


@pytest.mark.parametrize(
    "other",
    ["full", "single_identity", "large", "ablation_loss", "ablation_inputs", "robustness"],
)
def test_what_other_sweeps_of_the_paper_computed_counts(other: str) -> None:
    few = ("sweep.seeds=[0,1]", "profile=paper")
    whole = sweep_of("sweep=paper", *few)
    theirs = sweep_of(f"sweep={other}", *few)
    # Full runs the methods of today besides, which are no part of the paper.
    known = set().union(*(names(whole, cell) for cell in whole.cells))
    asked = list(dict.fromkeys(row.name for cell in theirs.cells for row in theirs.rows[cell]))
    both = [name for name in asked if name in known]
    assert (set(both) >= MAIN) if other == "full" else (both == asked)
    part = sweep_of(f"sweep={other}", *few, f"sweep.methods=[{','.join(both)}]")
    assert expand(part).jobs.keys() <= expand(whole).jobs.keys()


def test_at_toy_size_every_row_of_the_paper_is_there() -> None:
    sweep = sweep_of("sweep=paper", "scale=toy")
    assert {c.num_forget: names(sweep, c) for c in sweep.cells} == {
        1: MAIN,
        4: MAIN | ABLATIONS | MISMATCHED,
        6: MAIN,
    }
    assert [sweep.requests_in(cell) for cell in sweep.cells] == [3, 1, 1]


def test_a_command_s_forget_sizes_stand_above_the_sweep_s() -> None:
    sweep = sweep_of("sweep=paper", "sweep.datasets=[mufac]", "sweep.forget_sizes=[10]")
    assert {cell.num_forget for cell in sweep.cells} == {10}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "sweep.rows.ssd.only=[synthetic]",
            r"sweep.rows.ssd.only is \['synthetic'\], but it must map",
        ),
        ("sweep.rows.ssd.only={synthetic: 20}", "only is {'synthetic': 20}, but it must map"),
        ("sweep.rows.ssd.only={synthetic: [x]}", "but it must map datasets to lists"),
        ("sweep.rows.ssd.only={sinthetic: null}", "dataset in sweep.rows.ssd.only 'sinthetic'"),
        ("sweep.forget_sizes_of={sinthetic: [5]}", "dataset in sweep.forget_sizes_of 'sinthetic'"),
        ("sweep.forget_sizes_of={synthetic: [0]}", "holds a value below 1"),
        ("sweep.requests_alone=0", "sweep.requests_alone is 0"),
    ],
)
def test_bad_places_are_refused(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(["sweep=demo", override])


def test_a_row_may_be_in_all_sizes_of_a_dataset() -> None:
    sweep = sweep_of("sweep=smoke", "sweep.rows.ssd.only={synthetic_tiny_mufac: null}")
    assert {c.dataset for c in sweep.cells if "ssd" in names(sweep, c)} == {"synthetic_tiny_mufac"}


def test_the_reference_profile_switches_all_that_has_a_switch() -> None:
    usual, theirs = (sweep_of("sweep=full", f"profile={name}") for name in ("paper", "reference"))
    assert (usual.preprocessing, theirs.preprocessing) == ("corrected", "reference")
    changed = {}
    for cell in usual.cells:
        for one, other in zip(usual.rows[cell], theirs.rows[cell], strict=True):
            for name, value in one.hyperparameters.items():
                if other.hyperparameters[name] != value:
                    changed[one.name, name] = other.hyperparameters[name]
            assert one.is_published == other.is_published
            assert other.objective is None
    assert changed == {("jit", "variant"): "reference", ("pgu", "variant"): "reference"}


def test_every_method_with_the_authors_variant_says_so() -> None:
    able = set()
    for name in methods.names():
        cls: Any = methods.get(name)
        if cls.__module__.startswith("oneshui."):
            hint = (
                get_type_hints(cls, include_extras=True).get("variant") if has_variant(cls) else ""
            )
            if get_origin(hint) is not None and "reference" in get_args(hint):
                able.add(name)
    assert able == {name for name in methods.names() if methods.reference_of(methods.get(name))}


def has_variant(cls: Any) -> bool:
    return "variant" in methods.base.field_types(cls)


def test_every_dataset_is_split_as_theirs_unless_it_says_otherwise() -> None:
    args = ("sweep=smoke", "profile=reference", "datasets.synthetic_tiny.walk=corrected")
    sweep = sweep_of(*args)
    walks = {name: dataset.split_walk for name, dataset in sweep.datasets.items()}
    assert walks == {"synthetic_tiny": "corrected", "synthetic_tiny_mufac": "reference"}


def test_what_a_row_says_stands_above_the_profile() -> None:
    sweep = sweep_of("sweep=smoke", "profile=reference", "sweep.rows.jit.variant=corrected")
    rows = {row.name: row for row in sweep.rows[sweep.cells[0]]}
    assert rows["jit"].hyperparameters["variant"] == "corrected"
    assert rows["pgu"].hyperparameters["variant"] == "reference"
