"""A company plays: a kit, its data deleted, three requests; and a benchmark of the same model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from support.company import KIT, NUM_FORGET, Company
from support.inline_command import Ended, inline_command


def _certificate(folder: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((Path(folder) / "certificate.json").read_text())
    return document


def test_a_kit_says_what_can_be_expected(made: tuple[Path, Ended]) -> None:
    ended, kit = made[1], json.loads((made[0] / KIT / "kit.json").read_text())
    assert ended.status == 0, ended.said
    assert "never saw 7 of its 24 people" in ended.said
    assert "gradient_ascent: 0." in ended.said
    assert {path.name for path in made[0].iterdir()} == {KIT}
    ascent = next(method for method in kit["methods"] if method["name"] == "gradient_ascent")
    nothing = ascent["expected"].pop(str(ascent["nothing"]))
    assert ascent["expected"]
    for expected in ascent["expected"].values():
        assert len(expected["tow"]["each"]) == 3
        assert expected["tow"]["spread"] >= 0
        assert expected["tow"]["mean"] > nothing["tow"]["mean"]
    assert nothing["movement"]["each"] == [0, 0, 0]


def test_a_kit_holds_no_picture(before_deletion: Company, made: tuple[Path, Ended]) -> None:
    """Not as its file has it, nor decoded, as bytes or as numbers of any size that we use."""
    content = b"".join(path.read_bytes() for path in (made[0] / KIT).iterdir())
    for path in before_deletion.table["path"]:
        file = before_deletion.folder / path
        pixels = np.asarray(Image.open(file)).transpose(2, 0, 1)
        scaled = pixels.astype(np.float32)
        forms = (pixels, scaled, scaled / 255, scaled / 127.5 - 1, scaled.astype(np.float64))
        for form in (*forms, *(form[:, 5:8] for form in forms)):
            row = np.ascontiguousarray(form[0, 1]).tobytes()
            assert len(row) >= 16
            assert row not in content
        assert file.read_bytes()[40:80] not in content


def test_three_requests_one_after_the_other(company: Company) -> None:
    split, table = company.split, company.table
    others = [i for i in split.train if i not in split.forget]
    photo_of = {i: int(np.flatnonzero(table["identity"] == i)[0]) for i in others[:2]}
    for person, row in photo_of.items():
        # Not a picture that the model was trained on: those are deleted.
        face = np.full((24, 20, 3), person, dtype=np.uint8)
        Image.fromarray(face).save(company.folder / table.loc[row, "path"])
    weights = "model.safetensors"
    for number, rows in enumerate(
        [split.support, *([row] for row in photo_of.values())], start=1
    ):
        company.request(f"request{number}.csv", rows)
        asked = ["erase", f"kit={KIT}", f"weights={weights}", f"photos=request{number}.csv"]
        asked += [f"out=erased{number}"] + (["method=gradient_ascent"] if number > 1 else [])
        ended = inline_command(*asked)
        assert ended.status == 0, ended.said
        weights = f"erased{number}/weights.safetensors"
    assert "This is request 3 of this model" in ended.said
    assert "stale by 2 requests" in ended.said
    assert {path.name for path in Path("erased3").iterdir()} == {
        "weights.safetensors",
        "certificate.json",
        "request.html",
        "request.pdf",
    }
    certificates = [_certificate(f"erased{number}") for number in (1, 2, 3)]
    last = certificates[-1]
    assert last["request"] == 3
    assert [one["people"] for one in last["requests"]] == [NUM_FORGET, 1, 1]
    assert [one["photos"] for one in last["requests"]] == [
        [photo["sha256"] for photo in one["data_seen"]["photos"]] for one in certificates
    ]
    before, after = ("weights", "before", "tensors"), ("weights", "after", "tensors")
    for one, next_ in zip(certificates, certificates[1:], strict=False):
        assert _at(one, after) == _at(next_, before)
    assert certificates[0]["method"]["method"] == "gradient_ascent"
    assert certificates[0]["measured"]["loss"]["after"] > certificates[0]["measured"]["loss"]["before"]
    assert certificates[0]["expected"]["is_shown_to_gain"]

    # In plain torch, without anything of ours.
    network = company.network()
    network.load_state_dict(load_file(weights), strict=True)
    assert network(torch.zeros(1, 3, 16, 16)).shape == (1, 6)
    with safe_open(weights, "pt") as file:
        said = json.loads(file.metadata()["oneshui"])
    assert said["outputs"] == [f"class {letter}" for letter in "abcdef"]
    assert [step["number"] for step in said["requests"]] == [1, 2, 3]


def _at(document: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        document = document[name]
    return document
