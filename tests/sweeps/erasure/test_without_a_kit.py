"""Requests without a kit: what works, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support.company import MODEL, Company
from support.inline_command import inline_command

BARE = ("erase", "weights=model.safetensors", "photos=request.csv", "out=erased")
NAMES = "outputs=[" + ", ".join(f"class {letter}" for letter in "abcdef") + "]"


@pytest.fixture
def asked(company: Company) -> Company:
    company.request("request.csv", company.split.support)
    return company


def test_a_method_that_needs_nothing_but_the_photos(asked: Company) -> None:
    ended = inline_command(*BARE, MODEL, NAMES, "method=gradient_ascent", "seed=3")
    assert ended.status == 0, ended.said
    assert "There was no kit: nobody has tried on this model" in ended.said
    document = json.loads(Path("erased/certificate.json").read_text())
    assert document["kit"] is None
    assert document["expected"] is None
    assert document["measured"]["movement"] is None
    assert document["measured"]["relative_movement"] > 0
    assert "Nothing is expected: there was no kit" in Path("erased/request.html").read_text()
    before, after = load_file("model.safetensors"), load_file("erased/weights.safetensors")
    assert any(not torch.equal(before[name], after[name]) for name in before)

    # What was written says itself what the model is.
    row = asked.split.support[0]
    Image.new("RGB", (20, 20), "green").save(asked.table["path"][row])
    asked.request("next.csv", [row])
    told = ["weights=erased/weights.safetensors", "photos=next.csv", "out=again"]
    again = inline_command("erase", *told, "method=gradient_ascent", "hyperparameters={steps: 2}")
    assert again.status == 0, again.said
    assert "This is request 2 of this model." in again.said
    assert json.loads(Path("again/certificate.json").read_text())["method"]["hyperparameters"][
        "steps"
    ] == 2  # fmt: skip
    for further, reason in (
        (["preprocessing=reference"], "say their own preprocessing: leave preprocessing out"),
        ([MODEL, NAMES, "preprocessing=reference"], "say of themselves another model than"),
    ):
        refused = inline_command("erase", *told[:2], "out=third", *further)
        assert refused.status == 2
        assert reason in refused.said


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ([MODEL, NAMES], "name one that needs nothing but the photos"),
        ([MODEL, NAMES, "method=ssd"], "ssd needs what it prepared"),
        ([MODEL, NAMES, "method=retrain"], "retrain needs the training data"),
        ([MODEL, "method=gradient_ascent"], "is none of the model's 6 outputs (0, 1, 2, 3, 4, 5)"),
        ([MODEL, "outputs=[a, b]", "method=gradient_ascent"], "has 6: list them in"),
        (["method=gradient_ascent"], "without a kit nothing says what the model is"),
        (
            [MODEL, NAMES, "method=gradient_ascent", "hyperparameters={learning_rate: 0.0}"],
            "left the model as it is, to the last bit",
        ),
        (
            [MODEL, NAMES, "method=gradient_ascent", "hyperparameters={learning_rate: 1e30}"],
            "left the finite numbers",
        ),
    ],
)
@pytest.mark.usefixtures("asked")
def test_what_is_missing_or_leads_nowhere(more: list[str], reason: str) -> None:
    ended = inline_command(*BARE, *more)
    assert ended.status == 2, ended.said
    assert reason in ended.said
    assert not Path("erased").exists()
