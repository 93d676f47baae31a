from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.schedule.sharing import REMEMBERED_SECONDS, Wanted, fair_share


@pytest.mark.parametrize(
    ("places", "wanted", "shares"),
    [
        (8, {"a": 100}, {"a": 8}),
        (8, {"a": 100, "b": 100}, {"a": 4, "b": 4}),
        (8, {"a": 100, "b": 1}, {"a": 7, "b": 1}),
        (9, {"a": 100, "b": 2, "c": 100}, {"a": 4, "b": 2, "c": 3}),
        (2, {"a": 5, "b": 5, "c": 5}, {"a": 1, "b": 1, "c": 1}),
        (4, {"a": 0, "b": 9}, {"a": 1, "b": 4}),
    ],
)
def test_all_have_equally_many_and_none_more_than_it_can_use(
    places: int, wanted: dict[str, int], shares: dict[str, int]
) -> None:
    assert {name: fair_share(places, wanted, name) for name in wanted} == shares


@given(
    st.integers(1, 300),
    st.dictionaries(st.text(max_size=3), st.integers(1, 400), min_size=1, max_size=8),
)
def test_every_place_is_used_and_none_is_given_twice(places: int, wanted: dict[str, int]) -> None:
    shares = {name: fair_share(places, wanted, name) for name in wanted}
    if len(wanted) <= places:
        assert sum(shares.values()) == min(places, sum(wanted.values()))
    for name, share in shares.items():
        assert 1 <= share <= wanted[name]
        # Who has less than it wants has as many as anybody, but for one that cannot be divided.
        assert share == wanted[name] or share >= max(shares.values()) - 1


def test_what_is_wanted_is_the_most_of_a_while() -> None:
    wanted = Wanted()
    assert wanted.now(3, 0.0) == 3
    assert wanted.now(8, 10.0) == 8
    assert wanted.now(2, 20.0) == 8
    assert wanted.now(5, 25.0) == 8
    assert wanted.now(1, 10.0 + REMEMBERED_SECONDS) == 8
    assert wanted.now(1, 11.0 + REMEMBERED_SECONDS) == 5
    assert wanted.now(0, 26.0 + REMEMBERED_SECONDS) == 1
