"""Before deletion: the jobs of a study for each method, on a user's own model and data.

The results of its jobs lie in a folder beside the kit, so that a crash loses no finished trial. It
holds the decoded pictures too, and goes when the kit is there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence

import numpy as np
from filelock import Timeout

from oneshui import methods
from oneshui.data.loaders.own_table import load_table, read_sets
from oneshui.data.splits import Split, most_requests
from oneshui.data.table import ImageTable
from oneshui.erasure.folder import require_free
from oneshui.erasure.kit import (
    DOCUMENT,
    StoredKit,
    read_kit,
    write_kit,
)
from oneshui.erasure.weights import (
    Described,
    Weights,
    code_of,
    count_outputs,
    read_weights,
    require_fit,
)
from oneshui.errors import InputError
from oneshui.seeding import derive_seed, python_random
from oneshui.spec import Access, Role
from sweeps.erasure.jobs import KitJobs, PrepareSpec, Progress, cell_of
from sweeps.graph.spec import Row
from sweeps.rows import RELATIVE, RowSpec, rows_of
from sweeps.store.private import lock_of, make_private

VAL_SHARE = 0.2
"""Of the pictures, held out by people where the table does not say who was."""


def make_kit(
    spec: PrepareSpec, say: Callable[[str], None], progress: Callable[[Progress], None]
) -> StoredKit:
    """Make a kit; what an interrupted call has done is not done again.

    Args:
        spec: What of.
        say: Told, in a sentence each, what was decided and found.
        progress: Called when a job begins.

    Raises:
        InputError: Something given cannot be used, or the kit is there already.
        OneshuiError: A method failed.
    """
    if (spec.out / DOCUMENT).is_file():
        # The kit is whole: what an end just after left behind holds pictures.
        shutil.rmtree(spec.unfinished, ignore_errors=True)
    require_free(spec.out)
    rows = kit_rows(spec)
    table = load_table(spec.data)
    split, held_out = divided(table, read_sets(spec.data), spec.seed)
    say(held_out)
    weights = read_weights(spec.weights)
    described = _described(spec, table, weights)
    check_methods(described, weights, rows)
    most = most_requests(len(split.train), spec.num_forget)
    if most < spec.tuning.requests:
        say(
            f"{len(split.train)} training people make {most} simulated requests of "
            f"{spec.num_forget}, not {spec.tuning.requests}: expected effects have a wider spread"
        )
    try:
        make_private(spec.unfinished)
        lock = lock_of(spec.unfinished / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another prepare is at work on {spec.out}; wait for it") from None
    with lock:
        made = KitJobs(spec, table, split, described, weights, rows).run_all(say, progress)
        kit, files = made.kit(held_out)
        write_kit(kit, spec.out, files)
    shutil.rmtree(spec.unfinished)
    return read_kit(spec.out)


def kit_rows(spec: PrepareSpec) -> tuple[Row, ...]:
    """The rows of the kit's methods, to be tuned in their relative spaces where they have one.

    Raises:
        InputError: A method or a value is unknown, or the method needs what will be deleted.
    """
    said = {name: dict(row or {}) for name, row in spec.rows.items()}
    for name in spec.methods:
        method = said.get(name, {}).get("method", name)
        if method in methods.names() and methods.relative_space_of(methods.get(method)):
            said.setdefault(name, {}).setdefault("space", RELATIVE)
    found = rows_of(
        RowSpec(methods=spec.methods, rows=said, objectives=("support_only",)), cell_of(spec)
    )
    for row in found:
        require_usable(row.method, row.access, row.role)
    return found


def require_usable(method: str, access: Access, role: Role) -> None:
    """Refuse a method that does nothing, or that needs the training data when somebody asks.

    Raises:
        InputError: Naming the method.
    """
    if access is Access.FULL or role is not Role.METHOD:
        usable = ", ".join(
            name for name in methods.names() if methods.get(name).access is not Access.FULL
        )
        why = "does nothing" if role is Role.PRETRAIN else "needs the training data to unlearn"
        raise InputError(f"{method} {why}, so it cannot erase: choose among {usable}")


def divided(table: ImageTable, sets: tuple[str, ...] | None, seed: int) -> tuple[Split, str]:
    """Whom the model was trained on and whom it never saw, and how that is known, in words.

    Args:
        table: All pictures.
        sets: What the table says of each; None if nothing.
        seed: Of who is held out where it says nothing.

    Raises:
        InputError: Somebody is in both sets, or one of them is empty.
    """
    train: list[int]
    val: list[int]
    order = list(table.identity_order)
    if sets is not None:
        where = np.array(sets)
        of = {name: set(table.identity[where == name].tolist()) for name in ("train", "val")}
        both = sorted(of["train"] & of["val"])
        if both:
            raise InputError(
                f"{len(both)} people are in train and in val, identity {both[0]} for one: val says "
                "how the model does on people whom it never saw; give all rows of a person the "
                "same set, or leave the column set out and let people be held out"
            )
        train, val = ([i for i in order if i in of[name]] for name in ("train", "val"))
        words = f"the table says that the model never saw {len(val)} of its {len(order)} people"
    else:
        queue = list(order)
        python_random(derive_seed(seed, "held out")).shuffle(queue)
        wanted, taken = VAL_SHARE * len(table), 0
        while queue and taken < wanted:
            taken += int((table.identity == queue.pop()).sum())
        train = [identity for identity in order if identity in set(queue)]
        val = [identity for identity in order if identity not in set(queue)]
        words = (
            f"the table has no column set (train, val): {len(val)} of its {len(order)} people were "
            "held out by chance as people whom the model never saw; if it was trained on them, "
            "what is expected of the methods is wrong"
        )
    if not train or not val:
        raise InputError(
            "train and val need people each: give the table a column set with train and val, or "
            "more people"
        )
    split = Split(
        train=tuple(train),
        val=tuple(val),
        test=(),
        forget=(),
        retain=tuple(train),
        support=(),
        identity_of_image=table.identity,
    )
    return split, words


def _described(spec: PrepareSpec, table: ImageTable, weights: Weights) -> Described:
    """The model with its outputs.

    Raises:
        InputError: The table has labels for another number of outputs.
    """
    names, there = table.class_names, count_outputs(weights, spec.model)
    if table.task == "multiclass" and names == tuple(map(str, range(len(names)))):
        # The last classes may have no picture.
        names = (*names, *map(str, range(len(names), there)))
    if len(names) != there:
        raise InputError(
            f"{spec.data} has labels for {len(names)} outputs ({', '.join(names)}), but the model "
            f"in {spec.weights} has {there}: list those in the order of the model's outputs"
            + (", or give labels as numbers of outputs" if table.task == "multiclass" else "")
        )
    return Described(
        model=spec.model,
        task=table.task,
        outputs=names,
        variant=spec.variant,
        source=code_of(spec.model),
    )


def check_methods(described: Described, weights: Weights, rows: Sequence[Row]) -> None:
    """Refuse weights that are not the network's, and methods that cannot work on it.

    Raises:
        InputError: With the reason.
    """
    model = described.network()
    require_fit(weights, model)
    for row in rows:
        method = methods.build(row.method, row.hyperparameters)
        if isinstance(method, methods.CheckedMethod):
            try:
                method.check(model, described.task)
            except InputError as error:
                raise InputError(f"{row.name} cannot be used on this model: {error}") from None
