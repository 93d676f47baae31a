"""Optuna's part in tuning: which point of a study comes next. The only importer of optuna.

A point is a function of the study, its place in it and the results of the batches before its own,
told in their order. So any worker finds the same point, whatever ran when, and nobody has to keep
a study alive: the store's results are the study.
"""

from __future__ import annotations

import itertools
import math
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from oneshui.errors import InputError, OneshuiError
from oneshui.seeding import derive_seed
from oneshui.spec import Range
from sweeps.graph.job import canonical_json
from sweeps.graph.spec import Sampler

Point = dict[str, float | int]
_SEEDS = 2**32
OBJECTIVE = ", by "
"""Between the name of a study and its objective in the journal."""
STARTUP_POINTS = 4
"""Points of a study that are drawn before a sampler trusts what it has seen; studies are small."""


def _distribution(dimension: Range) -> BaseDistribution:
    if dimension.integer:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _sampler(name: Sampler, seed: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        # Constant liar and multivariate sampling are marked experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "tpe":
                return optuna.samplers.TPESampler(
                    seed=seed,
                    n_startup_trials=STARTUP_POINTS,
                    multivariate=True,
                    constant_liar=True,
                )
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
            case "cmaes":
                return optuna.samplers.CmaEsSampler(seed=seed)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed, n_startup_trials=STARTUP_POINTS)
    raise InputError(f"tuning.sampler {name!r} draws no points by itself")


def grid(space: Mapping[str, Range], points: int) -> list[Point]:
    """A grid of at most so many points, about as many on each axis, corners included.

    Args:
        space: What may vary.
        points: At most so many.
    """
    sides = [1] * len(space)
    while wider := [
        place for place, side in enumerate(sides) if math.prod(sides) // side * (side + 1) <= points
    ]:
        sides[min(wider, key=lambda place: sides[place])] += 1
    axes = []
    for dimension, side in zip(space.values(), sides, strict=True):
        values = [
            _at(dimension, (place + 0.5) / side if side == 1 else place / (side - 1))
            for place in range(side)
        ]
        axes.append(list(dict.fromkeys(values)))
    return [dict(zip(space, chosen, strict=True)) for chosen in itertools.product(*axes)]


def _at(dimension: Range, fraction: float) -> float | int:
    low, high = dimension.low, dimension.high
    if fraction in (0, 1) and not dimension.integer:
        # Rounding would put a corner beside itself.
        return high if fraction else low
    if dimension.log:
        value = math.exp(math.log(low) + fraction * (math.log(high) - math.log(low)))
    else:
        value = low + fraction * (high - low)
    return round(value) if dimension.integer else min(max(value, low), high)


def next_point(
    space: Mapping[str, Range],
    sampler: Sampler,
    seed: int,
    defaults: Point,
    earlier: Sequence[tuple[Point, float]],
    place: int,
    *,
    nothing: Point | None = None,
    trials: int = 0,
    batch: int = 1,
) -> Point:
    """The point at a place of a study.

    The defaults come first, as they are. After them comes the point that changes nothing, for which
    there may be more to be said than the space varies: it keeps the defaults' other values.

    Args:
        space: What may vary, by name.
        sampler: Which of Optuna's.
        seed: Of the study.
        defaults: The first point.
        earlier: Points and values of all batches before this one, in their order.
        place: Of the point in the study, from 0.
        nothing: Hyperparameters at which the method does nothing; None if none are known.
        trials: In the whole study; the grid needs to know.
        batch: Trials that are drawn together; CMA-ES needs to know.
    """
    given = [dict(defaults)] if nothing is None else [dict(defaults), {**defaults, **nothing}]
    if place < len(given):
        return given[place]
    if sampler == "grid":
        corners = grid(space, trials - len(given))
        if place - len(given) < len(corners):
            return corners[place - len(given)]
        # What no grid fills is drawn.
        sampler = "random"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = {name: _distribution(dimension) for name, dimension in space.items()}
    if sampler == "cmaes":
        return _replayed(distributions, seed, given, earlier, place, batch)
    own = derive_seed(seed, "batch", len(earlier)) % _SEEDS
    study = optuna.create_study(direction="maximize", sampler=_sampler(sampler, own))
    told = [(point, value) for point, value in earlier if _tells(space, point, nothing)]
    study.add_trials([_trial(distributions, point, value) for point, value in told])
    # Those of the same batch are asked for in turn, each knowing that the others are under way.
    asked: Point = {}
    for number in range(len(earlier), place + 1):
        asked = given[number] if number < len(given) else study.ask(distributions).params
    return asked


def _tells(space: Mapping[str, Range], point: Point, nothing: Point | None) -> bool:
    """Whether a point says something of the space: it lies inside, or does nothing.

    What does nothing is as good as the lowest end of a relative range. Defaults that are none of
    its points (`step` is 0 where the learning rate is given) would be taken for that end.
    """
    if nothing is not None and all(point.get(name) == it for name, it in nothing.items()):
        return True
    return all(one.low <= point[name] <= one.high for name, one in space.items())


def _replayed(
    distributions: Mapping[str, BaseDistribution],
    seed: int,
    given: Sequence[Point],
    earlier: Sequence[tuple[Point, float]],
    place: int,
    batch: int,
) -> Point:
    """CMA-ES keeps its state in the trials that it made, so all of them are made again.

    Asked for and told batch by batch, as they were: the same seed and values give the same points.
    """
    sampler = _sampler("cmaes", derive_seed(seed, "study") % _SEEDS)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for point in given:
        study.enqueue_trial(_inside(distributions, point))
    for start in range(0, len(earlier), batch):
        told = earlier[start : start + batch]
        asked = [study.ask(dict(distributions)) for _ in told]
        for trial, (_, value) in zip(asked, told, strict=True):
            study.tell(trial, value)
    return [study.ask(dict(distributions)).params for _ in range(len(earlier), place + 1)][-1]


def _inside(distributions: Mapping[str, BaseDistribution], point: Point) -> dict[str, Any]:
    """The point within its ranges: what was given may lie outside, and Optuna would refuse it."""
    return {
        name: distribution.to_external_repr(
            min(max(float(point[name]), float(distribution.low)), float(distribution.high))  # type: ignore[attr-defined]
        )
        for name, distribution in distributions.items()
    }


def _trial(
    distributions: Mapping[str, BaseDistribution], point: Point, value: float | None
) -> optuna.trial.FrozenTrial:
    """A trial of Optuna's; one without a value was not run to its end."""
    return optuna.trial.create_trial(
        state=TrialState.PRUNED if value is None else TrialState.COMPLETE,
        params=_inside(distributions, point),
        distributions=dict(distributions),
        value=value,
    )


def importances(
    space: Mapping[str, Range], results: Sequence[tuple[Point, float]], seed: int
) -> dict[str, float]:
    """Share of the value's variation that each hyperparameter explains, summing to 1.

    Empty where the points cannot tell: too few, or all of one value.
    """
    distributions = {name: _distribution(dimension) for name, dimension in space.items()}
    results = [(point, value) for point, value in results if _tells(space, point, None)]
    if len({value for _, value in results}) < 2 or len(results) < 4:
        return {}
    if len(space) == 1:
        return dict.fromkeys(space, 1.0)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    study.add_trials([_trial(distributions, point, value) for point, value in results])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed % _SEEDS)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(found.get(name, 0.0)) for name in space}


class UnreadableJournalError(OneshuiError):
    """A file in the journal's place is none."""


def check_journal(path: Path, spaces: Mapping[str, Mapping[str, Range]]) -> None:
    """Refuse to go on in a folder whose studies were made with other search spaces.

    Args:
        path: Of the journal; it need not exist.
        spaces: Of the studies that are to run, by name.

    Raises:
        InputError: Naming study and file.
        UnreadableJournalError: The file is no journal that this version of Optuna reads.
    """
    if not path.is_file():
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        known = optuna.study.get_all_study_summaries(_storage(path))
    except Exception as error:
        # Optuna checks nothing that it reads, so anything may come of foreign bytes.
        raise UnreadableJournalError(f"{path} cannot be read as Optuna's journal") from error
    for summary in known:
        stored = summary.user_attrs.get("space")
        space = spaces.get(summary.study_name.partition(OBJECTIVE)[0])
        if space is not None and stored is not None and stored != describe(space):
            raise InputError(
                f"the study {summary.study_name!r} in {path} was made with the search space "
                f"{stored}, now it is {describe(space)}; set output_dir to another folder, move "
                "the file away, or go back to that space"
            )


def describe(space: Mapping[str, Range]) -> str:
    """A search space as text, equal for equal spaces."""
    return canonical_json(
        {n: [d.low, d.high, "log" if d.log else "linear"] for n, d in space.items()}
    )


@dataclass(frozen=True, kw_only=True)
class TrialToShow:
    """A finished trial for Optuna's journal.

    Attributes:
        point: Its hyperparameters; they may lie outside the space.
        value: Null of a trial that was not carried to the end: Optuna calls it pruned.
        started: Seconds since 1970.
        seconds: That its job took.
        attributes: What else people see of it.
    """

    point: Point
    value: float | None
    started: float
    seconds: float
    attributes: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class StudyToShow:
    """A study for Optuna's journal.

    Attributes:
        space: What varied.
        metric: What the values are, in words.
        trials: In their order.
    """

    space: Mapping[str, Range]
    metric: str
    trials: Sequence[TrialToShow]


def write_journal(path: Path, studies: Mapping[str, StudyToShow]) -> None:
    """Write all studies as Optuna's journal file, which optuna-dashboard reads.

    Args:
        path: Of the file; it is replaced whole.
        studies: By name.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".journal-") as folder:
        partial = Path(folder) / path.name
        storage = _storage(partial)
        for name, shown in studies.items():
            study = optuna.create_study(direction="maximize", storage=storage, study_name=name)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names([shown.metric])
            study.set_user_attr("space", describe(shown.space))
            distributions = {n: _distribution(d) for n, d in shown.space.items()}
            for one in shown.trials:
                trial = _trial(distributions, one.point, one.value)
                trial.user_attrs = dict(one.attributes)
                outside = {n: v for n, v in one.point.items() if trial.params[n] != v}
                if outside:
                    # Optuna takes no point outside its ranges, and shows the nearest.
                    trial.set_user_attr("outside the space", outside)
                trial.datetime_start = datetime.fromtimestamp(one.started)
                trial.datetime_complete = datetime.fromtimestamp(one.started + one.seconds)
                study.add_trial(trial)
        partial.replace(path)


def _storage(path: Path) -> optuna.storages.JournalStorage:
    backend = JournalFileBackend(str(path))
    return optuna.storages.JournalStorage(backend)
