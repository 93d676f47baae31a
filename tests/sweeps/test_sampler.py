"""Which point comes next: a function of the study and the batches before, for every sampler."""

from __future__ import annotations

import datetime
import itertools
import math
from pathlib import Path
from typing import Any, get_args

import optuna
import pytest

from oneshui.errors import InputError
from oneshui.seeding import derive_seed
from oneshui.spec import Range
from sweeps import sampler
from sweeps.graph.spec import Sampler
from sweeps.sampler import (
    Point,
    StudyToShow,
    TrialToShow,
    UnreadableJournalError,
    check_journal,
    grid,
    importances,
    next_point,
    write_journal,
)

SPACE = {
    "rate": Range(low=0.01, high=10.0, log=True),
    "steps": Range(low=1, high=9, integer=True),
}
ONE = {"rate": SPACE["rate"]}
DEFAULTS: Point = {"rate": 0.3, "steps": 3}
SAMPLERS = get_args(Sampler)


def value_of(point: Point) -> float:
    """Best at a rate of 0.5 and 4 steps."""
    return -(math.log(point["rate"] / 0.5) ** 2) - 0.1 * (point.get("steps", 4) - 4) ** 2


def study(
    sampler: Sampler, points: int, batch: int, seed: int = 1, space: dict[str, Range] = SPACE
) -> list[Point]:
    """A whole study, as the jobs run it: each point alone, knowing the batches before."""
    found: list[Point] = []
    defaults = {name: DEFAULTS[name] for name in space}
    for place in range(points):
        known = found[: place - place % batch]
        told = [(point, value_of(point)) for point in known]
        found.append(
            next_point(space, sampler, seed, defaults, told, place, trials=points, batch=batch)
        )
    return found


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("space", [SPACE, ONE], ids=["two", "one"])
def test_every_sampler_draws_points_of_the_space_the_defaults_first(
    sampler: Sampler, space: dict[str, Range]
) -> None:
    found = study(sampler, 10, 3, space=space)
    assert found[0] == {name: DEFAULTS[name] for name in space}
    for point in found:
        assert point.keys() == space.keys()
        for name, value in point.items():
            assert space[name].low <= value <= space[name].high
            assert isinstance(value, int) == space[name].integer
    # A sampler that repeats itself would waste the budget.
    assert len({tuple(point.values()) for point in found}) >= 9


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_order_in_which_a_batch_arrives_changes_nothing(sampler: Sampler) -> None:
    found = study(sampler, 8, 4)
    told = [(point, value_of(point)) for point in found[:4]]
    for order in ([7, 4, 6, 5], [5, 7, 4, 6]):
        again = {
            p: next_point(SPACE, sampler, 1, DEFAULTS, told, p, trials=8, batch=4) for p in order
        }
        assert [again[place] for place in range(4, 8)] == found[4:]


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "gp"])
def test_the_seed_decides(sampler: Sampler) -> None:
    assert study(sampler, 4, 2) == study(sampler, 4, 2)
    assert study(sampler, 4, 2) != study(sampler, 4, 2, seed=2)


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "gp"])
def test_what_earlier_points_were_worth_matters(sampler: Sampler) -> None:
    # CMA-ES makes its own points again, so those are told apart by their values alone.
    points = study(sampler, 16, 4)
    good, bad = ([(p, sign * value_of(p)) for p in points] for sign in (1, -1))
    toward, away = (
        [next_point(SPACE, sampler, 1, DEFAULTS, told, place, batch=4) for place in range(16, 20)]
        for told in (good, bad)
    )
    assert toward != away
    assert sum(map(value_of, toward)) > sum(map(value_of, away))


def test_a_study_that_grows_keeps_its_points() -> None:
    assert study("tpe", 12, 4)[:8] == study("tpe", 8, 4)


def test_cmaes_makes_the_points_again_that_were_really_run() -> None:
    found = study("cmaes", 12, 4)
    told = [(point, value_of(point)) for point in found[:8]]
    distributions = {n: sampler._distribution(d) for n, d in SPACE.items()}
    for place in range(1, 8):
        again = sampler._replayed(distributions, 1, [DEFAULTS], told[: place - place % 4], place, 4)
        assert again == found[place]


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "gp"])
def test_defaults_outside_a_narrowed_range_are_run_all_the_same(sampler: Sampler) -> None:
    defaults: Point = {"rate": 50.0, "steps": 3}
    assert next_point(SPACE, sampler, 1, defaults, [], 0) == defaults
    told = [(defaults, 0.5), ({"rate": 1.0, "steps": 2}, 0.4)]
    point = next_point(SPACE, sampler, 1, defaults, told, 2)
    assert 0.01 <= point["rate"] <= 10


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_doing_nothing_comes_second_and_may_say_more_than_the_space(sampler: Sampler) -> None:
    nothing: Point = {"rate": 0.0, "step": 0.0}
    found: list[Point] = []
    for place in range(6):
        known = found[: place - place % 2]
        told = [(point, -float(number)) for number, point in enumerate(known)]
        found.append(
            next_point(SPACE, sampler, 1, DEFAULTS, told, place, nothing=nothing, trials=6, batch=2)
        )
    assert found[:2] == [DEFAULTS, {"rate": 0.0, "steps": 3, "step": 0.0}]
    assert len({tuple(point.items()) for point in found}) == 6
    for point in found[2:]:
        assert point.keys() == SPACE.keys()
        assert 0.01 <= point["rate"] <= 10


def test_defaults_outside_the_space_say_nothing_of_its_ends_doing_nothing_does() -> None:
    """A learning rate may destroy everything; so short a step as the space has does not."""
    nothing: Point = {"rate": 0.0}
    drawn = [(Point(rate=float(rate)), 0.1 * rate) for rate in range(1, 6)]

    def after(value_of_defaults: float, value_of_nothing: float) -> Point:
        told = [(Point(rate=50.0), value_of_defaults), (nothing, value_of_nothing), *drawn]
        return next_point(ONE, "tpe", 1, {"rate": 50.0}, told, 7, nothing=nothing, batch=1)

    assert after(0.0, 0.2) == after(1.0, 0.2)
    assert after(0.0, 0.2) != after(0.0, 1.0)


def test_a_grid_has_as_many_points_less_as_are_given() -> None:
    places = [
        next_point(ONE, "grid", 1, {"rate": 0.3}, [], place, nothing={"rate": 0.0}, trials=5)
        for place in range(5)
    ]
    assert [point["rate"] for point in places] == [0.3, 0.0, *(p["rate"] for p in grid(ONE, 3))]


@pytest.mark.parametrize("points", [1, 2, 5, 9, 15, 16])
def test_a_grid_uses_its_points_and_has_its_corners(points: int) -> None:
    found = grid(SPACE, points)
    assert len({tuple(point.values()) for point in found}) == len(found) <= points
    if points == 15:
        assert len(found) == 15
    if points >= 4:
        ends = itertools.product((0.01, 10.0), (1, 9))
        assert {(p["rate"], p["steps"]) for p in found} >= set(ends)
    assert len(grid(ONE, points)) == points


def test_importances_say_what_mattered() -> None:
    points = study("random", 30, 30)
    told = [(p, -abs(math.log(p["rate"]))) for p in points]
    shares = importances(SPACE, told, 0)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["rate"] > 0.8
    assert importances(ONE, [({"rate": p["rate"]}, v) for p, v in told], 0) == {"rate": 1.0}
    assert importances(SPACE, told[:3], 0) == {}
    assert importances(SPACE, [(p, 0.5) for p, _ in told], 0) == {}


def shown(point: Point, value: float | None, **attributes: Any) -> TrialToShow:
    return TrialToShow(point=point, value=value, started=1.8e9, seconds=90.0, attributes=attributes)


def to_show(space: dict[str, Range], *trials: TrialToShow) -> StudyToShow:
    return StudyToShow(space=space, metric="a score", trials=trials)


def test_the_journal_is_one_that_optuna_reads(tmp_path: Path) -> None:
    path = tmp_path / "studies.journal"
    points = study("random", 5, 5)
    told = [shown(p, value_of(p), tow=0.8, carried=True) for p in points]
    told.append(shown({"rate": 0.0, "steps": 5}, None))
    write_journal(path, {"ssd faces n4": to_show(SPACE, *told), "jit faces n4": to_show(ONE)})
    storage = sampler._storage(path)
    loaded = optuna.load_study(study_name="ssd faces n4", storage=storage)
    *whole, outside = loaded.trials
    assert [t.params for t in whole] == points
    assert outside.params == {"rate": 0.01, "steps": 5}
    assert outside.user_attrs == {"outside the space": {"rate": 0.0}}
    assert (outside.value, outside.state) == (None, optuna.trial.TrialState.PRUNED)
    assert whole[0].duration == datetime.timedelta(seconds=90)
    assert loaded.metric_names == ["a score"]
    assert loaded.best_trial.value == max(map(value_of, points))
    assert loaded.trials[0].user_attrs == {"tow": 0.8, "carried": True}
    assert set(optuna.get_all_study_names(storage)) == {"ssd faces n4", "jit faces n4"}
    assert [p.name for p in tmp_path.iterdir()] == ["studies.journal"]


def test_a_study_made_with_another_space_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "studies.journal"
    check_journal(path, {"a": SPACE})
    write_journal(path, {"a, by oracle": to_show(SPACE, shown(DEFAULTS, 0.5))})
    check_journal(path, {"a": SPACE, "b": ONE})
    check_journal(path, {"b": ONE})
    wider = {**SPACE, "rate": Range(low=0.001, high=10.0, log=True)}
    with pytest.raises(
        InputError, match=r"'a, by oracle' in .* was made with the search space .*0\.01"
    ) as e:
        check_journal(path, {"a": wider})
    assert "output_dir" in str(e.value)
    with pytest.raises(InputError, match="was made with"):
        check_journal(path, {"a": ONE})


@pytest.mark.parametrize(
    "content",
    [
        b"this is no journal\nnor is this\n",
        b'{"op_code": 99, "worker_id": "a"}\n',
        b"\xff\x00\n",
        b"[]\n",
    ],
)
def test_a_file_that_is_no_journal_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "studies.journal"
    path.write_bytes(content)
    with pytest.raises(UnreadableJournalError, match="cannot be read as Optuna's journal"):
        check_journal(path, {"a": SPACE})


def distributions() -> dict[str, optuna.distributions.BaseDistribution]:
    return {
        "rate": optuna.distributions.FloatDistribution(0.01, 10.0, log=True),
        "steps": optuna.distributions.IntDistribution(1, 9),
    }


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("place", [4, 5, 7, 8, 11])
def test_tpe_is_optuna_s_asked_in_turn_after_the_batches_before(place: int) -> None:
    points = study("tpe", 8, 4)
    told = [(point, value_of(point)) for point in points[: place - place % 4]]
    plain = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(
            seed=derive_seed(1, "batch", len(told)) % 2**32,
            n_startup_trials=4,
            multivariate=True,
            constant_liar=True,
        ),
    )
    for point, value in told:
        trial = optuna.create_trial(params=point, distributions=distributions(), value=value)
        plain.add_trial(trial)
    for _ in range(len(told), place + 1):
        expected = plain.ask(distributions()).params
    assert next_point(SPACE, "tpe", 1, DEFAULTS, told, place, batch=4) == expected


@pytest.mark.parametrize("place", [8, 10, 16])
def test_cmaes_is_optuna_s_told_a_whole_batch_at_once(place: int) -> None:
    batch = 8
    plain = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.CmaEsSampler(seed=derive_seed(1, "study") % 2**32),
    )
    plain.enqueue_trial(DEFAULTS)
    told: list[tuple[Point, float]] = []
    while len(told) < place - place % batch:
        asked = [plain.ask(distributions()) for _ in range(batch)]
        for trial in asked:
            value = value_of(trial.params)
            plain.tell(trial, value)
            told.append((trial.params, value))
    for _ in range(len(told), place + 1):
        expected = plain.ask(distributions()).params
    assert next_point(SPACE, "cmaes", 1, DEFAULTS, told, place, batch=batch) == expected
    assert told[0][0] == DEFAULTS


def test_a_grid_is_even_on_each_axis_s_own_scale() -> None:
    rates = [point["rate"] for point in grid(ONE, 4)]
    assert rates == pytest.approx([0.01, 0.1, 1.0, 10.0])
    even = {"rate": Range(low=1.0, high=4.0, log=False)}
    assert [point["rate"] for point in grid(even, 4)] == pytest.approx([1.0, 2.0, 3.0, 4.0])
    assert [point["rate"] for point in grid(even, 1)] == [2.5]
    assert study("grid", 5, 2, space=ONE)[1:] == [{"rate": rate} for rate in rates]
