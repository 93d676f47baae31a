"""Chains of requests: every unlearn job works on the model that the one before it left.

Pure: no torch, no Ray, no MLflow, no Hydra, no input or output. Who has asked by which time is a
split of its own, a part of the cell's, so what two chains have in common is one job. A step is
handed the support pictures of those who ask now, and has no way to those of earlier steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from oneshui.seeding import derive_seed
from sweeps.graph.cells import Base, Graph, cell_name, evaluate, train, unlearn
from sweeps.graph.orders import Order, places_of
from sweeps.graph.spec import Cell, Row, SweepSpec


@dataclass(frozen=True, kw_only=True)
class Chain:
    """One row that serves the people of a cell one request after the other.

    Attributes:
        people: Who ask at a time.
        requests: How many requests there are.
        order: In which the people ask; None where all ask at once.
        keeps_support: Whether a step sees the support pictures of earlier ones too.
        times: People forgotten where its models are compared with retrained ones, ascending.
        score_key: Job that measured them.
    """

    people: int
    requests: int
    order: Order | None
    keeps_support: bool
    times: tuple[int, ...]
    score_key: str

    @property
    def schedule(self) -> str:
        """Requests times people, as in "20x1"."""
        return f"{self.requests}x{self.people}"

    def title(self, seed: int) -> str:
        """Which of a row's chains it is, in words."""
        order = "at once" if self.order is None else f"order {self.order}"
        return f"seed {seed}, {order}{', support kept' if self.keeps_support else ''}"


@dataclass(frozen=True, kw_only=True)
class Chains:
    """What all chains of a cell share.

    Attributes:
        graph: Where jobs are added.
        sweep: Says which chains there are.
        cell: Dataset, forget size and seed.
        base: The cell's own jobs.
        pretrained: Key of the pretrained model's evaluation.
        retrained: The same of the model that was retrained without all of the cell's people.
        again: The same of a model that was retrained once more; None without one.
    """

    graph: Graph
    sweep: SweepSpec
    cell: Cell
    base: Base
    pretrained: str
    retrained: str
    again: str | None

    def of_row(
        self, row: Row, prepared: str | None, tuned: str | None, at_once: tuple[str, str]
    ) -> tuple[Chain, ...]:
        """The chains of a one-shot row; that of a single request is the ordinary row.

        Args:
            row: The method.
            prepared: Key of its preparation, from before the first request.
            tuned: Key of the choice of its hyperparameters.
            at_once: Keys of the ordinary row's weights and of their evaluation.
        """
        asked = self.sweep.sequence
        assert asked is not None
        num = self.cell.num_forget
        found = [self._chain(row, num, None, False, {num: at_once})]
        kept = (False, True) if asked.keep_support else (False,)
        for people, order, keeps in itertools.product(asked.sizes(num), asked.orders, kept):
            times = asked.times(num, people)
            reached = {
                forgotten: (model, self._evaluated(f"{row.name} after {forgotten} of", model))
                for forgotten, model in self._steps(row, people, order, keeps, prepared, tuned)
                if forgotten in times
            }
            found.append(self._chain(row, people, order, keeps, reached))
        return tuple(found)

    def _steps(
        self,
        row: Row,
        people: int,
        order: Order,
        keeps: bool,
        prepared: str | None,
        tuned: str | None,
    ) -> Iterator[tuple[int, str]]:
        """Add the steps of a chain: how many people are forgotten after each, and its weights."""
        model, seed = self.base.pretrained, self.cell.unlearning_seed
        for number, first in enumerate(range(0, self.cell.num_forget, people)):
            last = first + people
            asking = _asking(first, last, order)
            model = unlearn(
                self.graph,
                self.cell,
                row,
                self.base,
                f"unlearn {row.name}, {asking}, {cell_name(self.cell)}",
                derive_seed(seed, "request", number) if number else seed,
                {
                    "pretrained": model,
                    "split": self._split(order, 0 if keeps else first, last),
                    **({} if prepared is None else {"prepared": prepared}),
                    **({} if tuned is None else {"tuned": tuned}),
                },
            )
            yield last, model

    def _chain(
        self,
        row: Row,
        people: int,
        order: Order | None,
        keeps: bool,
        reached: Mapping[int, tuple[str, str]],
    ) -> Chain:
        """The chain with the job that measures it, from its weights and evaluations by time."""
        num, times = self.cell.num_forget, tuple(reached)
        retrained = [self._reference(order, forgotten) for forgotten in times]
        said = "all at once" if order is None else f"{people} at a time in order {order}"
        again = {} if self.again is None else {"again": self.again}
        key = self.graph.add(
            "sequence",
            f"sequence {row.name}, {said}, {cell_name(self.cell)}",
            {},
            {
                "asked": tuple(self._split(order, 0, forgotten) for forgotten in times),
                "weights": tuple(weights for weights, _ in reached.values()),
                "predictions": tuple(evaluation for _, evaluation in reached.values()),
                "retrained_weights": tuple(weights for weights, _ in retrained),
                "retrained": tuple(evaluation for _, evaluation in retrained),
            },
            split=self.base.data["split"],
            pretrained_weights=self.base.pretrained,
            pretrained=self.pretrained,
            **again,
        )
        return Chain(
            people=people,
            requests=num // people,
            order=order,
            keeps_support=keeps,
            times=times,
            score_key=key,
        )

    def _reference(self, order: Order | None, forgotten: int) -> tuple[str, str]:
        """Weights and evaluation of the model retrained without the first people of an order."""
        if forgotten == self.cell.num_forget:
            return self.base.retrained, self.retrained
        base, cell = self.base, self.cell
        data = {**base.for_training, "split": self._split(order, 0, forgotten)}
        weights = train(self.graph, cell, "retrain", base.recipe, data, 0)
        title = f"retrain without {forgotten} in order {order}"
        return weights, self._evaluated(title, weights)

    def _evaluated(self, title: str, weights: str) -> str:
        return evaluate(
            self.graph, self.sweep, self.cell, self.base, title, weights, with_views=False
        )

    def _split(self, order: Order | None, first: int, last: int) -> str:
        """Who asks from a place to another of an order, when those before have been forgotten."""
        base, cell, num = self.base, self.cell, self.cell.num_forget
        if (first, last) == (0, num):
            return base.data["split"]
        assert order is not None
        spec: dict[str, Any] = {"num_forget": last - first, "split_seed": cell.split_seed}
        inputs = {**{r: base.data[r] for r in ("index", "cache")}, "drawn": base.data["split"]}
        if isinstance(order, int):
            # By who they are: the same people are the same job, in whichever order they ask.
            places = places_of(order, num)
            spec |= {"people": sorted(places[first:last]), "gone": sorted(places[:first])}
        else:
            spec |= {"order": order, "first": first, "last": last}
            inputs |= {"pretrained": self.pretrained, "retrained": self.retrained}
        label = f"split {_asking(first, last, order)}, {cell_name(cell)}"
        return self.graph.add("split", label, spec, **inputs)


def _asking(first: int, last: int, order: Order) -> str:
    """Who asks, in words."""
    who = f"people {first + 1} to {last}" if last - first > 1 else f"person {last}"
    return f"{who} of order {order}"
