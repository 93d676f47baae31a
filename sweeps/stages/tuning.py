"""What the jobs of a study do: simulate requests, try, choose, and find what trials were worth.

Runs in a worker; must not import Ray or MLflow.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oneshui.errors import NumericalError
from oneshui.seeding import derive_seed
from oneshui.spec import Range
from sweeps.graph.artifacts import IMPORTANCES, PREDICTIONS, REQUESTS
from sweeps.graph.job import PICTURES
from sweeps.sampler import next_point
from sweeps.stages.context import JobContext, device, images, load_split, spec_of, stored_model
from sweeps.stages.one_shot import unlearned
from sweeps.stages.requests import (
    Handed,
    full_access_request,
    handed,
    handed_in_earnest,
    method_of,
    unlearned_as_asked,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

    from oneshui.data.images import LabelledImages
    from oneshui.methods import Method
    from oneshui.requests import UnlearnRequest
    from oneshui.tuning.score import Run, Scores, TrialScores
    from oneshui.tuning.simulated import SimulatedRequests


def simulate(context: JobContext) -> dict[str, Any]:
    """Draw a cell's simulated requests, and note what the pretrained model makes of them."""
    from safetensors.torch import save_file

    from oneshui.tuning.score import to_stored
    from oneshui.tuning.simulated import draw_requests, importances, scores_of, set_score

    split, task, where = load_split(context), _task(context), device(context)
    model = stored_model(context, "pretrained")
    train, val = images(context, split, "train"), images(context, split, "val")
    # The streams keep their first name: with another one every study would have other numbers.
    seed = derive_seed(context.job.spec["unlearning_seed"], "rehearsal")
    simulated = draw_requests(
        model,
        train,
        len(val),
        task=task,
        train_identities=split.train,
        exclude=split.forget,
        reserved=split.reserved,
        num_forget=context.job.spec.get("num_forget", len(split.forget)),
        num_requests=context.job.spec["requests"],
        seed=seed,
        device=where,
    )
    document = dataclasses.asdict(simulated)
    (context.folder / REQUESTS).write_text(json.dumps(document) + "\n", encoding="utf-8")
    found = importances(model, train, task=task, seed=seed, device=where)
    save_file(found, context.folder / IMPORTANCES)
    before = [
        scores_of(model, request, simulated, train, val, task=task, device=where)
        for request in simulated.requests
    ]
    return {
        "task": task,
        "val_score": to_stored(set_score(model, val, task, where)),
        "before": [scores.to_json() for scores in before],
    }


def _task(context: JobContext) -> Any:
    return context.entries["split"].value["task"]


def _simulated(context: JobContext) -> SimulatedRequests:
    from oneshui.data.simulated_requests import SimulatedRequest
    from oneshui.tuning.simulated import SimulatedRequests

    document = json.loads(context.entries["simulated"].file(REQUESTS).read_text(encoding="utf-8"))
    return SimulatedRequests(
        requests=tuple(
            SimulatedRequest(**{name: tuple(value) for name, value in request.items()})
            for request in document["requests"]
        ),
        retain=tuple(document["retain"]),
        val=tuple(document["val"]),
    )


def _cells(context: JobContext) -> list[JobContext]:
    """The job's view of each cell that its study runs on, with the cell's own inputs."""
    by_cell = {role: series for role, series in context.series.items() if role != "trials"}
    return [
        dataclasses.replace(
            context,
            entries={**context.entries, **{role: of[place] for role, of in by_cell.items()}},
            series={},
        )
        for place in range(len(by_cell["simulated"]))
    ]


def trial(context: JobContext) -> dict[str, Any]:
    """One trial of a study: what its point does to the simulated requests of every cell."""
    from oneshui.tuning.score import from_stored, simulated_tow

    spec = context.job.spec
    earlier = [
        (entry.value["point"], entry.value["simulated"]) for entry in context.series["trials"]
    ]
    point = next_point(
        {name: Range(**dimension) for name, dimension in spec["space"].items()},
        spec["sampler"],
        derive_seed(spec["unlearning_seed"], spec["method"], "study"),
        spec["defaults"],
        earlier,
        spec["place"],
        nothing=spec.get("nothing"),
        **{name: spec[name] for name in ("trials", "batch") if name in spec},
    )
    method = method_of(context, point)
    cells = _cells(context)
    tried = context.timed("method_seconds", lambda: [_try(cell, method) for cell in cells])
    simulated = [
        simulated_tow(runs, from_stored(cell.entries["simulated"].value["val_score"]))
        for cell, runs in zip(cells, tried, strict=True)
    ]
    return {
        "point": point,
        "simulated": sum(simulated) / len(simulated),
        "runs": [[run.to_json() for run in runs] for runs in tried],
    }


def _try(cell: JobContext, method: Method) -> list[Run]:
    """Unlearn every simulated request of a cell and look at what became of it."""
    from safetensors.torch import load_file

    from oneshui.tuning.score import Run, Scores
    from oneshui.tuning.simulated import movement, scores_of, support_of

    split, task, where = load_split(cell), _task(cell), device(cell)
    train, val = images(cell, split, "train"), images(cell, split, "val")
    simulated = _simulated(cell)
    importance = load_file(cell.entries["simulated"].file(IMPORTANCES))
    pretrained = stored_model(cell, "pretrained")
    seed = spec_of(cell.entries["simulated"])["unlearning_seed"]
    asked = [
        handed(
            cell,
            derive_seed(seed, cell.job.spec["method"], "rehearsal", number),
            support_of(train, request),
        )
        for number, request in enumerate(simulated.requests)
    ]

    def with_full_access(number: int) -> nn.Module | None:
        request = simulated.requests[number]
        forget = train.select(_positions([*request.forget, *request.support]))
        identities = set(request.identities)
        rest = [i for i, p in enumerate(train.identities.tolist()) if p not in identities]
        retain = train.select(_positions(rest))
        own = asked[number].request()
        return _unlearned(
            cell, method, full_access_request(cell, own, forget=forget, retain=retain, val=val)
        )

    models = (
        map(with_full_access, range(len(asked)))
        if cell.job.spec["access"] == "full"
        else _enclosed(cell, method, asked, pretrained)
    )
    runs = []
    for number, (request, model) in enumerate(zip(simulated.requests, models, strict=True)):
        if model is None:
            runs.append(
                Run(before=_before(cell, number), after=Scores.undefined(), movement=math.nan)
            )
            continue
        after = scores_of(model, request, simulated, train, val, task=task, device=where)
        moved = movement(model, pretrained, importance)
        runs.append(Run(before=_before(cell, number), after=after, movement=moved))
    return runs


def _enclosed(
    cell: JobContext, method: Method, asked: Sequence[Handed], like: nn.Module
) -> Iterator[nn.Module | None]:
    """As ``_unlearned`` for several requests, behind walls; each model when it is wanted."""
    for state in unlearned(cell, method, asked):
        if isinstance(state, NumericalError):
            yield None
        else:
            model = copy.deepcopy(like)
            model.load_state_dict(state)
            yield model


def _unlearned(cell: JobContext, method: Method, request: UnlearnRequest) -> nn.Module | None:
    """The unlearned model; None where the method itself finds that it left the finite numbers."""
    try:
        return unlearned_as_asked(method, request, cell.job.spec.get("in_steps_of"))
    except NumericalError:
        return None


def _before(cell: JobContext, number: int) -> Scores:
    from oneshui.tuning.score import Scores

    return Scores.from_json(cell.entries["simulated"].value["before"][number])


def _positions(numbers: list[int]) -> torch.Tensor:
    import torch

    return torch.tensor(numbers, dtype=torch.int64)


def choose(context: JobContext) -> dict[str, Any]:
    """The best of the few best points, by what the objective may see."""
    from oneshui.tuning.score import TrialScores, candidates

    values = [entry.value for entry in context.series["trials"]]
    spec, cells = context.job.spec, _cells(context)
    studies = [
        TrialScores.from_json(values, place, cell.entries["simulated"].value)
        for place, cell in enumerate(cells)
    ]
    carried = candidates(
        studies,
        [value["simulated"] for value in values],
        spec["carried"],
        nothing=spec.get("nothing"),
        needs_proof=spec["objective"] != "oracle",
    )
    methods = {point: method_of(context, values[point]["point"]) for point in carried}
    judged = [_judged(cell, study, methods) for cell, study in zip(cells, studies, strict=True)]
    scores = {point: sum(each[point] for each in judged) / len(judged) for point in carried}
    best = max(scores, key=lambda point: (scores[point], -point))
    return {
        "hyperparameters": values[best]["point"],
        "point": best,
        "carried": carried,
        "scores": [scores[point] for point in carried],
    }


def _judged(
    cell: JobContext, study: TrialScores, candidates: Mapping[int, Method]
) -> dict[int, float]:
    """What the objective makes of each candidate on one cell, whose data are read once for all."""
    from oneshui.tuning.objectives import SimulatedChoice

    match cell.job.spec["objective"]:
        case "simulated":
            choice = SimulatedChoice(study=study)
            return {point: choice.score(point) for point in candidates}
        case "oracle":
            return _by_oracle(cell, candidates)
        case _:
            return _by_support(cell, study, candidates)


def _by_support(
    cell: JobContext, study: TrialScores, candidates: Mapping[int, Method]
) -> dict[int, float]:
    """By S and, if the objective says so, by D_v: the training data are deleted meanwhile."""
    from safetensors.torch import load_file

    from oneshui.tuning.objectives import SupportAndValChoice, SupportOnlyChoice

    asked = _asked_in_earnest(cell)
    request = asked.request()
    importance = load_file(cell.entries["simulated"].file(IMPORTANCES))
    if cell.job.spec["objective"] == "support_only":
        assert not cell.entries.keys() & PICTURES
        choice = SupportOnlyChoice(study=study, request=request, importance=importance)
    else:
        val = _alone(images(cell, load_split(cell), "val"), cell.folder)
        choice = SupportAndValChoice(study=study, request=request, importance=importance, val=val)
    scores = {}
    for point, method in candidates.items():
        (model,) = _enclosed(cell, method, [asked], request.model)
        scores[point] = 0.0 if model is None else choice.score(point, model)
    return scores


def _alone(chosen: LabelledImages, folder: Path) -> LabelledImages:
    """The same pictures in a nameless file of their own: from them no other can be reached."""
    import numpy as np

    count = len(chosen)
    with tempfile.TemporaryFile(dir=folder) as file:
        shape = (count, *chosen.pixels.shape[1:])
        pixels = np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
    for start in range(0, count, 1000):
        part = slice(start, start + 1000)
        pixels[part] = chosen.pixels[chosen.rows[part]]
    return dataclasses.replace(chosen, pixels=pixels, detail=None, rows=np.arange(count))


def _by_oracle(cell: JobContext, candidates: Mapping[int, Method]) -> dict[int, float]:
    from oneshui.tuning.objectives import OracleChoice

    request, split = _asked_in_earnest(cell).request(), load_split(cell)
    sets = {name: images(cell, split, name) for name in ("retain", "forget", "test")}
    if cell.job.spec["access"] == "full":
        request = full_access_request(
            cell,
            request,
            forget=sets["forget"],
            retain=sets["retain"],
            val=images(cell, split, "val"),
        )
    choice = OracleChoice(request=request, sets=sets, retrained=_retrained_scores(cell))
    scores = {}
    for point, method in candidates.items():
        model = _unlearned(cell, method, request)
        scores[point] = 0.0 if model is None else choice.score(point, model)
    return scores


def _asked_in_earnest(cell: JobContext) -> Handed:
    """What the row itself would unlearn with on this cell."""
    return handed_in_earnest(cell, spec_of(cell.entries["simulated"])["unlearning_seed"])


def _retrained_scores(cell: JobContext) -> dict[str, float]:
    import pandas as pd

    from oneshui.measures import set_scores

    predictions = pd.read_parquet(cell.entries["retrained"].file(PREDICTIONS))
    return set_scores(predictions, _task(cell))


def true_tow(context: JobContext) -> dict[str, Any]:
    """The true ToW of a trial on the real request: for the report alone, never fed back."""
    from safetensors.torch import load_file

    from oneshui.tuning.objectives import OracleChoice, observe
    from oneshui.tuning.score import to_stored

    method = method_of(context, context.entries["trial"].value["point"])
    request = _asked_in_earnest(context).request()
    split = load_split(context)
    sets = {name: images(context, split, name) for name in ("retain", "forget", "test", "val")}
    asked = request
    if context.job.spec["access"] == "full":
        asked = full_access_request(
            context, request, forget=sets["forget"], retain=sets["retain"], val=sets["val"]
        )
    model = context.timed("method_seconds", lambda: _unlearned(context, method, asked))
    if model is None:
        return {"tow": 0.0, "support_drop": None, "movement": None}
    truth = OracleChoice(request=request, sets=sets, retrained=_retrained_scores(context))
    importance = load_file(context.entries["simulated"].file(IMPORTANCES))
    seen = observe(model, request, importance)
    return {
        "tow": truth.score(0, model),
        "support_drop": to_stored(seen.support_drop),
        "movement": to_stored(seen.movement),
    }
