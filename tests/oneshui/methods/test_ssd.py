from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from reference.ssd import dampened
from reference.ssd import sample_importances as sample_by_sample
from support.golden import GoldenCase, each_case
from support.tiny import TinyProblem, tiny_model

from oneshui.methods import _importance as measures
from oneshui.methods import build
from oneshui.methods._importance import loss_of

MEASURES = {"faithful": measures.batch_importances, "persample": measures.sample_importances}


def assert_importances(
    ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]
) -> None:
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        tolerance = 1e-5 * expected.abs().max().item() + 1e-9
        torch.testing.assert_close(ours[name], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("problem", [TinyProblem("vit", "multiclass"), TinyProblem("convnext")])
@pytest.mark.parametrize("limit", [1, 2**28], ids=["one at a time", "all at once"])
def test_sample_importances_are_those_of_a_plain_loop(
    problem: TinyProblem, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures, "MAX_GRADIENT_NUMBERS", limit)
    data = problem.images("val")
    batches = data.batches(5, torch.device("cpu"))
    ours = measures.sample_importances(tiny_model(problem.network), batches, loss_of(problem.task))
    theirs = sample_by_sample(tiny_model(problem.network), data.inputs(), data.labels)
    assert_importances(ours, theirs)


def test_sample_importances_are_batch_importances_of_single_images() -> None:
    problem = TinyProblem()
    data, cpu = problem.images("val"), torch.device("cpu")
    model = tiny_model(problem.network)
    samples = measures.sample_importances(model, data.batches(5, cpu), loss_of(problem.task))
    assert_importances(
        samples, measures.batch_importances(model, data.batches(1, cpu), loss_of(problem.task))
    )


def test_dampening_treats_every_weight_by_itself() -> None:
    model = torch.nn.Linear(4, 3)
    weights = {name: value.clone() for name, value in model.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    forget = {n: torch.rand(v.shape, generator=generator) for n, v in weights.items()}
    original = {n: torch.rand(v.shape, generator=generator) for n, v in weights.items()}
    forget["bias"][0] = original["bias"][0] = 0.0
    measures.dampen(model, forget, original, alpha=0.5, dampening=0.9)
    for name, value in model.named_parameters():
        rows = torch.stack([weights[name], forget[name], original[name]]).flatten(1).T.tolist()
        expected = [dampened(w, f, o, alpha=0.5, lam=0.9) for w, f, o in rows]
        torch.testing.assert_close(value.flatten(), torch.tensor(expected))


@pytest.mark.parametrize("importance", ["batch", "sample"])
def test_nothing_is_selected_by_a_huge_alpha(importance: str) -> None:
    problem = TinyProblem()
    method = build("ssd", {"alpha": 1e30, "importance": importance, "batch_size": 4})
    prepared = method.prepare(problem.prepare_request())  # type: ignore[attr-defined]
    request = problem.unlearn_request(prepared)
    before = request.model.state_dict()
    after = method.unlearn(request).state_dict()
    noise = ("qkv.bias",)  # the key part has no gradient but rounding, so anything may happen
    assert all(torch.equal(after[n], before[n]) for n in before if not n.endswith(noise))


@each_case
@pytest.mark.parametrize("tag", ["faithful", "persample"])
def test_ssd_is_the_reference_s(case: GoldenCase, tag: str) -> None:
    expected = case.expected["ssd.hyper"]
    batch_size = expected["batch_size"]
    importances = {}
    for part in ("support", "train"):
        batches = case.batches(part, batch_size)
        importances[part] = MEASURES[tag](case.model(), batches, loss_of(case.task))
        assert_importances(importances[part], case.tensors("ssd", f"{tag}.importance_{part}."))

    stable = case.tensors("ssd", f"{tag}.stable_mask.")
    unstable = expected["runs"][f"{tag}.unstable_entries"]
    before = case.model().state_dict()
    runs = [name for name in (f"{tag}.after_damp", f"{tag}.after_clip") if name in expected["runs"]]
    for name in runs:
        run = expected["runs"][name]
        model = case.model()
        measures.dampen(
            model,
            importances["support"],
            importances["train"],
            alpha=run["alpha"],
            dampening=run["lambda"],
        )
        after = model.state_dict()
        for parameter, value in case.tensors("ssd", f"{name}.").items():
            where = stable[parameter].bool()
            torch.testing.assert_close(after[parameter][where], value[where], rtol=0, atol=3e-6)
        selected = sum(
            int((importances["support"][n] > run["alpha"] * importances["train"][n]).sum())
            for n in before
        )
        changed = sum(int((after[n] != before[n]).sum()) for n in before)
        assert abs(selected - run["selected"]) <= unstable
        assert abs(changed - run["changed"]) <= unstable
