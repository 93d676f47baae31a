"""Which point a kit takes, by the photos."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from support.company import KIT, Company

from oneshui import plugins
from oneshui.erasure.erase import State, choose, request_seed, with_state
from oneshui.erasure.kit import KitMethod, read_kit
from oneshui.erasure.photos import read_photos
from oneshui.requests import UnlearnRequest
from oneshui.tuning.objectives import SupportOnlyChoice


def test_the_best_of_the_points_that_gain_is_taken(company: Company) -> None:
    plugins.load(["net"])
    stored = read_kit(Path(KIT))
    described, weights = stored.kit.described, load_file("model.safetensors")
    photos = read_photos(company.request("request.csv", company.split.support), described)
    model = with_state(described.network(), weights)
    request = UnlearnRequest(
        model=model, task=described.task, seed=0, support=photos.support, prepared={}
    )
    ran: dict[int, State] = {}

    def unlearn(method: KitMethod, point: int) -> State:
        assert (method.name, point) != (method.name, method.nothing)
        # One of the points that are tried has the model take everybody for one class.
        bias = torch.tensor([30.0 if point == 2 else 1e-3, 0, 0, 0, 0, 0])
        ran[point] = {**weights, "head.bias": weights["head.bias"] + bias}
        return ran[point]

    chosen = choose(stored, request, unlearn, "gradient_ascent")
    (ascent,) = [one for one in stored.kit.methods if one.name == "gradient_ascent"]
    own = SupportOnlyChoice(
        study=stored.kit.study(ascent), request=request, importance=stored.importances
    )
    scores = {point: own.score(point, with_state(model, state)) for point, state in ran.items()}
    assert len(set(scores.values())) > 1
    best = max(scores, key=lambda point: scores[point])
    assert chosen.score == scores[best]
    assert all(torch.equal(chosen.state[name], ran[best][name]) for name in weights)
    assert chosen.hyperparameters["step"] == ascent.trials[best]["point"]["step"]
    assert chosen.tried == len(ran)
    # With nobody asking for it, nothing but points that are shown to gain are run.
    ran.clear()
    choose(stored, request, unlearn)
    assert set(ran) == set(stored.kit.candidates(ascent)) - {ascent.nothing}


def test_later_requests_draw_other_numbers() -> None:
    assert request_seed(5, 1) == 5
    assert len({request_seed(5, number) for number in range(1, 20)}) == 19
    assert request_seed(6, 2) != request_seed(5, 2)
