"""Numbers as people say them."""

from __future__ import annotations

import pytest

from sweeps.cli.words import bar, between, duration, eta, rough, size
from sweeps.schedule.remaining import Left


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59.6, "1m00s"), (125, "2m05s"), (3725, "1h02m")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.5, 3.0, "under 5 s"),
        (21.0, 38.0, "20 to 40 s"),
        (38.0, 41.0, "about 40 s"),
        (240.0, 420.0, "4 to 7 min"),
        (25.0, 100.0, "under 2 min"),
        (3000.0, 6000.0, "1 to 1.5 h"),
        (20 * 3600.0, 30 * 3600.0, "20 to 30 h"),
        (86400.0, 3 * 86400.0, "1 to 3 days"),
    ],
)
def test_ranges_are_in_one_unit_and_no_more_exact_than_of_use(
    low: float, high: float, text: str
) -> None:
    assert between(low, high) == text


def test_what_is_not_known_is_not_said() -> None:
    assert eta(Left(seconds=600.0, factor=3.0)) == "unknown yet"
    assert eta(Left(seconds=600.0, factor=1.5)) == "7 to 15 min"
    # Of the last seconds even a wide range is of use.
    assert eta(Left(seconds=15.0, factor=3.0)) == "5 to 45 s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (40.2, "40 s"),
        (720.0, "12 min"),
        (7.4 * 3600, "7.4 h"),
        (25 * 86400.0, "25 days"),
        (8043 * 86400.0, "22 years"),
    ],
)
def test_what_is_known_about_has_two_digits(seconds: float, text: str) -> None:
    assert rough(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (40.4e6, "40 MB"), (1.52e12, "1.5 TB")],
)
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text


def test_a_bar_is_full_only_at_the_end_and_is_told_without_colours() -> None:
    assert bar(0.0, 4, plain=True).plain == "...."
    assert bar(0.99, 4, plain=True).plain == "###."
    assert bar(1.0, 4, plain=True).plain == "####"
    assert set(bar(0.5, 4).plain) == {"━", "┄"}
