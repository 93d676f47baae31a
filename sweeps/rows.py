"""The rows of a sweep: methods with their hyperparameters, published, given or to be tuned."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from oneshui import methods
from oneshui.errors import InputError, unknown_name
from oneshui.methods.base import STANDS_FOR, field_types, prepare_hyperparameters
from oneshui.spec import Access, Range
from sweeps.graph.spec import BEYOND_SUPPORT, Cell, Row, TuningObjective

RELATIVE = "relative"
"""What a row says in place of ranges to search those that mean the same in every network."""

PublishedValues = Sequence[Mapping[str, Any]]
"""Values by dataset, num_forget and method: hyperparameters by name, and whether they are published
or somebody's own ("published")."""


@dataclass(frozen=True, kw_only=True)
class RowSpec:
    """What the configuration says about rows.

    Attributes:
        methods: Names of rows, in their order; of methods or of ``rows``.
        rows: Hyperparameters by name of the row, "method" among them, "tune: false" to leave a
            row alone, "tune_on: sequence" to tune it on people who ask one after the other,
            "space" for ranges of its own or "relative" for the method's relative ones,
            "truth_in_view: true" where the values were found with reported cells' retrained
            models in view, "only" for the datasets where the row is, each with its forget sizes.
        defaults: Hyperparameters by name of the method, below those of a row.
        table: Published values, and such as stand in for them.
        needs_published: Whether a method without published or given values is refused.
        objectives: What is tuned for; empty for no tuning.
        tuned: Rows that are tuned; None for all that can be.
        access: Only rows with such an access are tuned.
        as_reference: Whether methods are as in the authors' code, unless rows and defaults say
            otherwise.
        datasets: What "only" may name; None for anything.
        people_per_step: Who ask at a time in the requests of a row with "tune_on: sequence"; None
            in a sweep without sequences.
    """

    methods: Sequence[str]
    rows: Mapping[str, Mapping[str, Any] | None]
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    table: PublishedValues = ()
    needs_published: bool = False
    objectives: Sequence[TuningObjective] = ()
    tuned: Sequence[str] | None = None
    access: Collection[Access] = tuple(Access)
    as_reference: bool = False
    datasets: Collection[str] | None = None
    people_per_step: int | None = None


def rows_by_cell(spec: RowSpec, cells: Iterable[Cell]) -> dict[Cell, tuple[Row, ...]]:
    """The rows of every cell: the same, and no copies, whatever its seed.

    Raises:
        InputError: As ``rows_of``.
    """
    found: dict[tuple[str, int], tuple[Row, ...]] = {}
    for cell in cells:
        if (cell.dataset, cell.num_forget) not in found:
            found[cell.dataset, cell.num_forget] = rows_of(spec, cell)
    return {cell: found[cell.dataset, cell.num_forget] for cell in cells}


def rows_of(spec: RowSpec, cell: Cell) -> tuple[Row, ...]:
    """The rows of one cell; a tuned row once for every objective.

    Raises:
        InputError: Naming the row and what is wrong with it.
    """
    for name in spec.tuned or ():
        # A sweep may name rows that a smaller sweep.methods leaves out.
        if name not in {*spec.methods, *spec.rows, *methods.names()}:
            raise unknown_name("row in tuning.rows", name, {*spec.methods, *spec.rows})
    _require_methods(spec)
    found: list[Row] = []
    for name in spec.methods:
        if not _is_in(spec, name, cell):
            continue
        row, space = _row(spec, name, cell)
        if not space:
            found.append(row)
        for objective in spec.objectives if space else ():
            marked = len(spec.objectives) > 1 or objective in BEYOND_SUPPORT
            title = f"{name}@{objective}" if marked else name
            found.append(dataclasses.replace(row, name=title, space=space, objective=objective))
    return tuple(found)


def _require_methods(spec: RowSpec) -> None:
    """Refuse what is said about no method: it would silently change nothing."""
    known = methods.names()
    for name, row in spec.rows.items():
        if name not in known and "method" not in (row or {}):
            raise unknown_name("row in sweep.rows", name, {*known, *spec.rows} - {name})
    for name in spec.defaults:
        if name not in known:
            raise unknown_name("method in sweep.defaults", name, known)


def _row(spec: RowSpec, name: str, cell: Cell) -> tuple[Row, dict[str, Range]]:
    own = dict(spec.rows.get(name) or {})
    method = own.pop("method", name)
    own.pop("only", None)
    if name not in spec.rows and name not in methods.names():
        raise unknown_name("method", name, {*methods.names(), *spec.rows})
    if not isinstance(method, str):
        raise InputError(f"sweep.rows.{name}.method is {method!r}, but it must be a method's name")
    tune, ranges = own.pop("tune", True), own.pop("space", {})
    in_steps_of = _in_steps_of(spec, name, own.pop("tune_on", "request"))
    truth_in_view = own.pop("truth_in_view", False)
    if not isinstance(truth_in_view, bool):
        raise InputError(
            f"sweep.rows.{name}.truth_in_view is {truth_in_view!r}, but it must be true or false"
        )
    values = {**spec.defaults.get(method, {}), **own}
    published = _published(method, cell, spec.table)
    cls = methods.get(method)
    wanted = (spec.tuned is None or name in spec.tuned) and cls.access in spec.access
    relative = {key for key in STANDS_FOR if values.get(key)}
    space = _space(name, method, ranges, relative) if spec.objectives and tune and wanted else {}
    if spec.needs_published and published is None and not values and not space:
        raise _unpublished(method, cell, spec.table)
    if name != method:
        published = {**(published or {}), **(_published(name, cell, spec.table) or {})}
    if in_steps_of is not None and cls.access is Access.FULL:
        raise InputError(
            f"sweep.rows.{name}.tune_on is 'sequence', but {method} sees the training data, and is "
            "not asked one request after the other; leave tune_on out"
        )
    is_published = (published or {}).pop("published", False)
    try:
        as_theirs = methods.reference_of(cls) if spec.as_reference else {}
        built = methods.build(method, {**(published or {}), **as_theirs, **values})
    except InputError as error:
        raise InputError(f"sweep.rows.{name}: {error}") from None
    row = Row(
        name=name,
        method=method,
        role=methods.role_of(built),
        access=cls.access,
        source=methods.source_of(cls),
        hyperparameters=methods.hyperparameters(built),
        nothing=methods.nothing_of(cls),
        prepare=prepare_hyperparameters(built) if hasattr(cls, "prepare") else None,
        is_published=is_published and not values,
        truth_in_view=truth_in_view,
        tuned_in_steps_of=in_steps_of if space else None,
    )
    return row, space


def _is_in(spec: RowSpec, name: str, cell: Cell) -> bool:
    """Whether a cell has the row.

    Raises:
        InputError: What the row's "only" says is no map of datasets to forget sizes.
    """
    only = (spec.rows.get(name) or {}).get("only")
    if only is None:
        return True
    where = f"sweep.rows.{name}.only"
    sizes = only.values() if isinstance(only, Mapping) else ()
    if not sizes or not all(
        one is None or (isinstance(one, list) and all(type(size) is int for size in one))
        for one in sizes
    ):
        raise InputError(
            f"{where} is {only!r}, but it must map datasets to lists of forget sizes, or to null "
            "for all of theirs, as in {celebahq: [20, 50], mufac: null}"
        )
    for dataset in only:
        if spec.datasets is not None and dataset not in spec.datasets:
            raise unknown_name(f"dataset in {where}", str(dataset), spec.datasets)
    if cell.dataset not in only:
        return False
    own = only[cell.dataset]
    return own is None or cell.num_forget in own


def _in_steps_of(spec: RowSpec, name: str, tune_on: Any) -> int | None:
    """People at a time in the requests that the row is tuned on; None where all ask at once."""
    if tune_on == "request":
        return None
    if tune_on != "sequence":
        raise InputError(
            f"sweep.rows.{name}.tune_on is {tune_on!r}, but it must be 'request' or 'sequence'"
        )
    if spec.people_per_step is None:
        raise InputError(
            f"sweep.rows.{name}.tune_on is 'sequence', but sweep.sequence does not say how many "
            "people ask at a time; set sweep.sequence.people_per_request"
        )
    return spec.people_per_step


def _space(name: str, method: str, ranges: Any, given: Collection[str]) -> dict[str, Range]:
    """The method's search space with the row's own ranges in place of the method's.

    It is the relative one if the row says ``space: relative``, or gives a value or a range of a
    hyperparameter that stands for others: theirs would vary nothing.
    """
    cls = methods.get(method)
    types = field_types(cls)
    if ranges == RELATIVE:
        return _relative(name, cls)
    if not isinstance(ranges, Mapping):
        raise InputError(
            f"sweep.rows.{name}.space must be {RELATIVE!r}, or map hyperparameters to [low, high]"
        )
    relative = methods.relative_space_of(cls)
    used = {*given, *(key for key in ranges if key in STANDS_FOR)}
    known_space = relative if used else cls.search_space
    own = {}
    for key, bounds in ranges.items():
        where = f"sweep.rows.{name}.space.{key}"
        if key not in types:
            raise unknown_name(f"hyperparameter of {method} in sweep.rows.{name}.space", key, types)
        if types[key] not in ("float", "int") or key in getattr(cls, "prepare_fields", ()):
            raise InputError(f"{where} cannot be tuned: it is no number, or prepare depends on it")
        numbers = isinstance(bounds, list | tuple) and len(bounds) == 2
        if not numbers or not all(
            isinstance(b, int | float) and not isinstance(b, bool) for b in bounds
        ):
            raise InputError(f"{where} is {bounds!r}, but it must be [low, high]")
        integer = types[key] == "int"
        if integer and any(b != int(b) for b in bounds):
            raise InputError(f"{where} is {bounds!r}, but {key} takes whole numbers")
        for other in used:
            if key in STANDS_FOR[other]:
                raise InputError(f"{where} has no effect beside {other}; leave one of them out")
        known = known_space.get(key)
        log = known.log if known is not None else bounds[0] > 0 and bounds[1] / bounds[0] > 10
        try:
            own[key] = Range(low=bounds[0], high=bounds[1], log=log, integer=integer)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
    return {**known_space, **own}


def _relative(name: str, cls: type[methods.Method]) -> dict[str, Range]:
    relative = methods.relative_space_of(cls)
    if not relative:
        raise InputError(
            f"sweep.rows.{name}.space is {RELATIVE!r}, but {cls.name} has no relative ranges; give "
            "[low, high] for its hyperparameters"
        )
    return dict(relative)


def _published(name: str, cell: Cell, table: PublishedValues) -> dict[str, Any] | None:
    """The table's values of a method, or of a row of its own, for this cell; None if none.

    "published" says whose they are.
    """
    if _needs_no_values(name):
        return {}
    wanted = (cell.dataset, cell.num_forget, name)
    for row in table:
        if (row["dataset"], row["num_forget"], row["method"]) == wanted:
            return {k: v for k, v in row.items() if k not in ("dataset", "num_forget", "method")}
    return None


def _needs_no_values(name: str) -> bool:
    """Whether a method has nothing that could be tuned, so needs no published values."""
    return name in methods.names() and not methods.get(name).search_space


def _unpublished(method: str, cell: Cell, table: PublishedValues) -> InputError:
    found = [row for row in table if (row["dataset"], row["method"]) == (cell.dataset, method)]
    known = ", ".join(str(row["num_forget"]) for row in found) or "none"
    return InputError(
        f"{method} has no published hyperparameters for {cell.dataset} with forget size "
        f"{cell.num_forget} (known sizes: {known}); give them as sweep.rows.{method}.NAME=VALUE"
    )
