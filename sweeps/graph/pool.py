"""The pool of the likelihood audit: models that differ in whom they know, and unlearn some of them.

Pure: no torch, no Ray, no MLflow, no Hydra, no input or output. The people of the pool and its
models depend on a dataset, on the network and its recipe, on ``sweep.audit`` and on nothing else:
all methods, forget sizes, seeds and tunings of any sweep share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from oneshui.seeding import derive_seed, python_random
from oneshui.spec import Access, Role
from sweeps.graph.audits import POOL_SEED
from sweeps.graph.cells import Base, Graph, data_of, ground_of, prepare, train, unlearn
from sweeps.graph.spec import Cell, Row, SweepSpec


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Who of the pool one model is trained on, as places in the order of the pool.

    Attributes:
        seen: Half of the pool, ascending.
        asked: Half of those, whom the model is asked to forget, ascending.
    """

    seen: tuple[int, ...]
    asked: tuple[int, ...]


def designed(people: int, models: int) -> tuple[Drawn, ...]:
    """Who trains which model: everybody half of them, and half of those are to forget them.

    Models come in fours. Of a pair, one is trained on a random half of the pool and the other on
    the rest; who is to be forgotten in a four's first pair is not in its second. So in every four
    each person is seen twice and asked for once, and what was drawn for few models is the
    beginning of what is drawn for many.

    Args:
        people: In the pool, a multiple of 4.
        models: An even number; of two at the end, some people are asked for once more than others.
    """
    found: list[Drawn] = []
    half, quarter = people // 2, people // 4
    for number in range(-(-models // 4)):
        stream = python_random(derive_seed(POOL_SEED, "pool", number))
        order = list(range(people))
        stream.shuffle(order)
        pair = order[:half], order[half:]
        asked = {*pair[0][:quarter], *pair[1][:quarter]}
        found += [_drawn(seen, asked) for seen in pair]
        later = [*pair[0][quarter:], *pair[1][quarter:]]
        earlier = sorted(asked)
        stream.shuffle(later)
        stream.shuffle(earlier)
        parts = (later[:quarter] + earlier[:quarter], later[quarter:] + earlier[quarter:])
        found += [_drawn(seen, set(later)) for seen in parts]
    return tuple(found[:models])


def _drawn(seen: list[int], asked: set[int]) -> Drawn:
    return Drawn(seen=tuple(sorted(seen)), asked=tuple(sorted(asked.intersection(seen))))


@dataclass(frozen=True, kw_only=True)
class PoolModel:
    """One model of the pool.

    Attributes:
        cell: Its seeds, and how many people it is asked to forget.
        base: Its data with a split of its own: whom it is asked to forget, whom it never saw.
        before: Key of the job that says how well it knows everybody in the pool.
    """

    cell: Cell
    base: Base
    before: str


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The models of a dataset's pool, which all of its cells share.

    Attributes:
        graph: Where jobs are added.
        dataset: Name of the dataset.
        split_key: Job that drew the people, in an order in which a smaller pool comes first.
        models: All of them.
        memorisation_key: Job that says how much better each person is known by models that saw
            them than by those that did not.
    """

    graph: Graph
    dataset: str
    split_key: str
    models: tuple[PoolModel, ...]
    memorisation_key: str

    def of_row(self, row: Row, tuned: str | None) -> str | None:
        """Add the audit of a row; its key, or None for a model that was retrained.

        Args:
            row: Of any cell. What does nothing is audited too: it is what others are held against.
            tuned: Key of the choice of its hyperparameters, which is the cell's.
        """
        if row.role is Role.PRETRAIN:
            after = [model.before for model in self.models]
        elif row.role is Role.METHOD:
            after = [self._unlearned(number, row, tuned) for number in range(len(self.models))]
        else:
            return None
        return self.graph.add(
            "lira",
            f"likelihood audit of {row.name}, {self.dataset}",
            {"seed": POOL_SEED},
            {**_series(self.models), "after": tuple(after)},
            split=self.split_key,
        )

    def _unlearned(self, number: int, row: Row, tuned: str | None) -> str:
        """Have one model forget; key of the job that says how well it still knows who asked."""
        model = self.models[number]
        base, title = model.base, f"{row.name} on model {number} of the pool, {self.dataset}"
        prepared = prepare(self.graph, model.cell, row, base, base.pretrained, " of the pool")
        seen = base.for_training if row.access is Access.FULL else {"split": base.data["split"]}
        weights = unlearn(
            self.graph,
            model.cell,
            row,
            base,
            f"unlearn {title}",
            model.cell.unlearning_seed,
            {
                "pretrained": base.pretrained,
                **seen,
                **({} if prepared is None else {"prepared": prepared}),
                **({} if tuned is None else {"tuned": tuned}),
            },
        )
        return _examine(self.graph, base, title, weights, base.data["split"])


def pool_of(graph: Graph, sweep: SweepSpec, dataset: str) -> Pool:
    """Add the models of a dataset's pool, and what is known of its people.

    Args:
        graph: Where to add them.
        sweep: One with a likelihood audit.
        dataset: Name of one of its datasets.
    """
    audit = sweep.audit
    assert audit is not None
    # Its own seed and size, whatever the cells' are: the order in which people are drawn is that
    # of every split, so a smaller pool is the beginning of a larger one.
    whole = Cell(dataset=dataset, num_forget=audit.pool, seed=POOL_SEED)
    data, crops = data_of(graph, sweep, whole)
    recipe, weights = ground_of(graph, sweep, dataset)
    models = []
    for number, drawn in enumerate(designed(audit.pool, audit.models)):
        title = f"model {number} of the pool, {dataset}"
        gone = sorted(set(range(audit.pool)).difference(drawn.seen))
        split = graph.add(
            "split",
            f"split of {title}",
            {
                "num_forget": len(drawn.asked),
                "split_seed": POOL_SEED,
                "people": drawn.asked,
                "gone": gone,
            },
            drawn=data["split"],
            **{role: data[role] for role in ("index", "cache")},
        )
        cell = Cell(dataset=dataset, num_forget=len(drawn.asked), seed=POOL_SEED + number)
        own = {**data, "split": split}
        pretrained = train(graph, cell, "pretrain", recipe, {**own, **crops, **weights}, 0)
        base = Base(
            data=own,
            crops=crops,
            weights=weights,
            recipe=recipe,
            pretrained=pretrained,
            retrained="",
        )
        before = _examine(graph, base, title, pretrained, data["split"])
        models.append(PoolModel(cell=cell, base=base, before=before))
    return Pool(
        graph=graph,
        dataset=dataset,
        split_key=data["split"],
        models=tuple(models),
        memorisation_key=graph.add(
            "memorisation",
            f"memorisation of the people of the pool, {dataset}",
            {},
            _series(models),
            split=data["split"],
        ),
    )


def _series(models: Sequence[PoolModel]) -> dict[str, tuple[str, ...]]:
    """What all jobs about the pool look at: who is in which model, and how well it knows them."""
    return {
        "parts": tuple(model.base.data["split"] for model in models),
        "before": tuple(model.before for model in models),
    }


def _examine(graph: Graph, base: Base, title: str, weights: str, split: str) -> str:
    """The job that says how well a model knows the people who are asked for in a split."""
    data = {**base.data, "split": split}
    return graph.add(
        "examine", f"examine {title}", {"model": base.recipe["model"]}, weights=weights, **data
    )
