"""Which hyperparameters a row has, who says so first, and which rows are tuned under which name."""

from __future__ import annotations

from typing import Any

import pytest

from oneshui.errors import InputError
from oneshui.spec import Access, Role
from sweeps.graph.spec import Cell, Row
from sweeps.rows import RowSpec, rows_of

CELL = Cell(dataset="celebahq", num_forget=20, seed=0)
TABLE = [
    {"dataset": "celebahq", "num_forget": 50, "method": "ssd", "alpha": 2.0, "dampening": 0.2},
    {"dataset": "celeba", "num_forget": 20, "method": "ssd", "alpha": 3.0, "dampening": 0.3},
    {"dataset": "celebahq", "num_forget": 20, "method": "ssd", "alpha": 4.0, "dampening": 0.4},
    {"dataset": "celebahq", "num_forget": 20, "method": "mild", "alpha": 5.0},
]
PUBLISHED = [{**row, "published": True} for row in TABLE]


def one(name: str = "ssd", rows: dict[str, Any] | None = None, **spec: Any) -> Row:
    (row,) = rows_of(RowSpec(methods=[name], rows=rows or {}, **spec), CELL)
    return row


def test_given_values_stand_above_published_ones_and_a_row_s_own_above_its_method_s() -> None:
    def alpha(**spec: Any) -> tuple[float, float]:
        found = one(**spec).hyperparameters
        return found["alpha"], found["dampening"]

    assert alpha(table=TABLE) == (4.0, 0.4)
    assert alpha(table=TABLE, rows={"ssd": {"alpha": 9.0}}) == (9.0, 0.4)
    assert alpha(table=TABLE, defaults={"ssd": {"alpha": 7.0}}) == (7.0, 0.4)
    assert alpha(rows={"ssd": {"alpha": 9.0}}, defaults={"ssd": {"alpha": 7.0}})[0] == 9.0


def test_a_row_of_another_name_has_its_method_s_values_below_its_own() -> None:
    rows: dict[str, dict[str, Any]] = {"mild": {"method": "ssd"}, "other": {"method": "ssd"}}
    mild, other = (one(name, rows, table=TABLE).hyperparameters for name in rows)
    assert (mild["alpha"], mild["dampening"]) == (5.0, 0.4)
    assert (other["alpha"], other["dampening"]) == (4.0, 0.4)


def test_values_of_another_forget_size_or_dataset_are_nobody_s() -> None:
    with pytest.raises(InputError, match=r"celebahq with forget size 20 \(known sizes: 50\)"):
        one(table=TABLE[:2], needs_published=True)
    assert one(table=TABLE[:2]).hyperparameters["alpha"] not in (2.0, 3.0)
    # What has nothing to be tuned needs no value.
    assert one("pretrain", needs_published=True).role is Role.PRETRAIN


@pytest.mark.parametrize(
    ("name", "values", "role"),
    [
        ("retrain", {}, Role.RETRAIN),
        ("again", {"method": "retrain", "reseed": 1}, Role.RETRAIN_AGAIN),
        ("retrain_free", {"method": "ssd"}, Role.METHOD),
        ("nothing", {"method": "pretrain"}, Role.PRETRAIN),
        ("retrain", {"reseed": 2}, Role.RETRAIN_AGAIN),
    ],
)
def test_the_role_is_the_method_s_whatever_the_row_is_called(
    name: str, values: dict[str, Any], role: Role
) -> None:
    assert one(name, {name: values}).role is role


def test_only_what_the_preparation_depends_on_tells_preparations_apart() -> None:
    assert one().prepare == {"batch_size": 128, "importance": "batch"}
    assert one("jit").prepare is None


def tuned(objectives: list[Any], **spec: Any) -> list[Row]:
    rows: dict[str, dict[str, Any]] = {
        "mild": {"method": "ssd"},
        "still": {"method": "ssd", "tune": False},
    }
    named = ["pretrain", "ssd", "mild", "still", "jit", "scrub"]
    return list(rows_of(RowSpec(methods=named, rows=rows, objectives=objectives, **spec), CELL))


def test_a_row_is_tuned_unless_something_says_that_it_is_not() -> None:
    def names(**spec: Any) -> list[str]:
        return [row.name for row in tuned(["support_only"], **spec) if row.space]

    assert names() == ["ssd", "mild", "jit", "scrub"]
    assert names(tuned=["mild", "still"]) == ["mild"]
    assert names(access=[Access.SUPPORT]) == ["jit"]
    assert names(access=[Access.FULL, Access.PREPARED]) == ["ssd", "mild", "scrub"]
    with pytest.raises(InputError, match=r"row in tuning\.rows 'mld'; did you mean 'mild'"):
        names(tuned=["mld"])
    assert not any(row.space or row.objective for row in tuned([]))


@pytest.mark.parametrize(
    ("objectives", "names"),
    [
        (["simulated"], ["jit"]),
        (["oracle"], ["jit@oracle"]),
        (["support_and_val"], ["jit@support_and_val"]),
        (["support_only", "simulated"], ["jit@support_only", "jit@simulated"]),
    ],
)
def test_a_name_says_what_was_seen_where_that_is_more_or_several(
    objectives: list[Any], names: list[str]
) -> None:
    rows = rows_of(RowSpec(methods=["jit"], rows={}, objectives=objectives), CELL)
    assert [row.name for row in rows] == names
    assert [row.objective for row in rows] == objectives
    assert {row.study for row in rows} == {"jit"}


def test_a_row_s_own_range_has_the_method_s_scale_or_that_of_its_width() -> None:
    def space(method: str, ranges: dict[str, Any]) -> Any:
        rows = {method: {"space": ranges}}
        return one(method, rows, objectives=["support_only"]).space

    narrow = space("ssd", {"alpha": [50, 60]})
    # The method's own range of alpha is logarithmic, however narrow the row's is.
    assert (narrow["alpha"].low, narrow["alpha"].high, narrow["alpha"].log) == (50, 60, True)
    assert narrow["dampening"] == one(objectives=["support_only"]).space["dampening"]
    wide, short = (space("jit", {"num_samples": [1, high]})["num_samples"] for high in (20, 5))
    assert (wide.log, wide.integer) == (True, True)
    assert (short.log, short.integer) == (False, True)
    for bounds in ([1.5, 4], [1, 4.5]):
        with pytest.raises(InputError, match="num_samples takes whole numbers"):
            space("jit", {"num_samples": bounds})


def test_a_row_may_search_ranges_that_mean_the_same_in_every_network() -> None:
    def space(method: str, ranges: Any) -> Any:
        return one(method, {method: {"space": ranges}}, objectives=["support_only"]).space

    relative = space("ssd", "relative")
    assert relative.keys() == {"share"}
    own = space("ssd", {"share": [1e-3, 1e-2], "dampening": [1, 2]})
    assert (own["share"].low, own["share"].high, own["share"].log) == (1e-3, 1e-2, True)
    assert (own["dampening"].low, own["dampening"].high) == (1, 2)
    with pytest.raises(InputError, match=r"ssd\.space\.alpha has no effect beside share"):
        space("ssd", {"share": [1e-3, 1e-2], "alpha": [1, 2]})
    moved = {"gradient_ascent": {"step": 0.001}}
    assert one("gradient_ascent", moved, objectives=["support_only"]).space.keys() == {"step"}
    with pytest.raises(InputError, match=r"ssd\.space\.alpha has no effect beside share"):
        one("ssd", {"ssd": {"share": 0.1, "space": {"alpha": [1, 2]}}}, objectives=["oracle"])
    with pytest.raises(InputError, match=r"ssd\.space must be .relative., or map hyperparameters"):
        space("ssd", "relativ")


@pytest.mark.parametrize(
    ("spec", "origin"),
    [
        ({}, "given"),
        ({"table": TABLE}, "given"),
        ({"table": PUBLISHED}, "published"),
        ({"table": PUBLISHED, "rows": {"ssd": {"alpha": 9.0}}}, "given"),
        ({"table": PUBLISHED, "defaults": {"ssd": {"alpha": 9.0}}}, "given"),
        ({"table": PUBLISHED, "objectives": ["support_only"]}, "tuned"),
        ({"rows": {"ssd": {"truth_in_view": True}}}, "truth_in_view"),
        # The first point of its study was found so.
        ({"rows": {"ssd": {"truth_in_view": True}}, "objectives": ["simulated"]}, "truth_in_view"),
        ({"rows": {"ssd": {"truth_in_view": False}}}, "given"),
    ],
)
def test_a_row_says_where_its_hyperparameters_come_from(spec: Any, origin: str) -> None:
    assert one(**spec).hyperparameters_from == origin


@pytest.mark.parametrize("name", ["pretrain", "retrain"])
def test_a_row_without_hyperparameters_has_them_from_nowhere(name: str) -> None:
    assert one(name).hyperparameters_from is None
    assert one("x", {"x": {"method": name, "truth_in_view": True}}).hyperparameters_from is None


def test_where_hyperparameters_come_from_is_no_hyperparameter() -> None:
    plain, marked = one(), one(rows={"ssd": {"truth_in_view": True}})
    assert marked.hyperparameters == plain.hyperparameters
    assert one(table=PUBLISHED).hyperparameters == one(table=TABLE).hyperparameters
    with pytest.raises(InputError, match=r"sweep\.rows\.ssd\.truth_in_view is 'yes', but it must"):
        one(rows={"ssd": {"truth_in_view": "yes"}})
