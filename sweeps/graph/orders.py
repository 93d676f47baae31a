"""Who asks when, where the people of a cell ask one after the other: schedules and orders.

Pure: no torch, no Ray, no MLflow, no Hydra, no input or output.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from oneshui.errors import InputError
from oneshui.seeding import derive_seed, python_random
from oneshui.spec import require

Order = int | str
"""A number is a random order, a seed level of its own; one of ``BY_HARDNESS`` says who comes first,
by what the pretrained model knows of a person beyond the retrained one."""
BY_HARDNESS = ("hardest", "easiest")


@dataclass(frozen=True, kw_only=True)
class SequenceSpec:
    """Requests that come one after the other, each to the model that the one before it left.

    Attributes:
        people_per_request: How many of a cell's people ask at a time, a schedule each; numbers
            above the forget size are left out. All at once is always compared with.
        orders: In which order they ask: numbers are random orders, 0 that in which they were
            drawn; ``hardest`` and ``easiest`` come first by what the model knows of them.
        references: Numbers of people after which a model is retrained to compare with; the forget
            size itself always is one, larger numbers are left out.
        keep_support: Whether every row is run a second time with the support pictures of earlier
            requests at hand, to see what deleting them costs.
    """

    people_per_request: tuple[int, ...] = (1,)
    orders: tuple[Order, ...] = (0,)
    references: tuple[int, ...] = ()
    keep_support: bool = False

    def __post_init__(self) -> None:
        for name, least in (("people_per_request", 1), ("orders", 0), ("references", 1)):
            values = getattr(self, name)
            numbers = [value for value in values if isinstance(value, int)]
            require(
                len(set(values)) == len(values) and all(value >= least for value in numbers),
                f"sweep.sequence.{name}",
                list(values),
                f"a list that names each once, numbers from {least} on",
            )
        for order in self.orders:
            require(
                isinstance(order, int) or order in BY_HARDNESS,
                "a value of sweep.sequence.orders",
                order,
                "a number from 0 on, 'hardest' or 'easiest'",
            )
        for name in ("people_per_request", "orders"):
            require(bool(getattr(self, name)), f"sweep.sequence.{name}", [], "at least one")

    def check(self, forget_sizes: Iterable[int]) -> None:
        """Compare the schedules with the forget sizes of a sweep.

        Raises:
            InputError: A schedule does not serve each person once, or no size has a sequence.
        """
        sizes = sorted(set(forget_sizes))
        for size in sizes:
            for people in self.sizes(size):
                if size % people:
                    raise InputError(
                        f"sweep.sequence.people_per_request holds {people}, but {size} people "
                        f"(the forget size) do not ask in whole groups of {people}; choose a "
                        f"divisor of {size}, or another of sweep.forget_sizes"
                    )
        if not any(self.sizes(size) for size in sizes):
            raise InputError(
                f"sweep.sequence.people_per_request is {list(self.people_per_request)}, but no "
                f"cell has more than {sizes[-1]} people to ask one after the other; choose smaller "
                "groups, or larger sweep.forget_sizes"
            )

    def sizes(self, num_forget: int) -> tuple[int, ...]:
        """People per request of each schedule that asks more than once, of so many people."""
        return tuple(people for people in self.people_per_request if people < num_forget)

    def times(self, num_forget: int, people: int) -> tuple[int, ...]:
        """After how many people a schedule's model is compared with a retrained one, ascending."""
        known = {*self.references, num_forget}
        return tuple(sorted(t for t in known if t <= num_forget and t % people == 0))

    @property
    def finest(self) -> int:
        """People per request of the schedule with the most requests."""
        return min(self.people_per_request)


def places_of(order: int, num_forget: int) -> list[int]:
    """A random order of so many people, as places in the order in which they were drawn."""
    places = list(range(num_forget))
    if order:
        python_random(derive_seed("order", order)).shuffle(places)
    return places
