"""A company plays: a kit, its data deleted, three requests; and a benchmark of the same model."""

from __future__ import annotations

import itertools
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
from support.inline_sweep import inline_sweep
from support.stage_contexts import entry_of, jobs_of


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
        Image.fromarray(face).save(company.folder / table["path"][row])
    weights = "model.safetensors"
    for number, rows in enumerate([split.support, *([row] for row in photo_of.values())], start=1):
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
    for one, next_ in itertools.pairwise(certificates):
        assert _at(one, after) == _at(next_, before)
    assert certificates[0]["method"]["method"] == "gradient_ascent"
    assert (
        certificates[0]["measured"]["loss"]["after"] > certificates[0]["measured"]["loss"]["before"]
    )
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


def test_erase_is_the_row_of_a_benchmark_to_the_bit(
    before_deletion: Company, company: Company, tmp_path: Path
) -> None:
    """The same model, data, request and hyperparameters, in a sweep and by the two commands."""
    company.request("request.csv", company.split.support)
    rows = {}
    for method in ("gradient_ascent", "ssd"):
        ended = inline_command(
            "erase",
            f"kit={KIT}",
            "weights=model.safetensors",
            "photos=request.csv",
            f"method={method}",
            f"out={method}",
        )
        assert ended.status == 0, ended.said
        rows[method] = _certificate(method)["method"]["hyperparameters"]
    sweep = inline_sweep(
        tmp_path / "sweep",
        "sweep=smoke",
        f"data_dir={before_deletion.folder}",
        f"datasets.theirs={{layout: table, path: all.csv, forget_sizes: [{NUM_FORGET}]}}",
        "sweep.datasets=[theirs]",
        "sweep.seeds=[0]",
        "sweep.methods=[gradient_ascent, ssd]",
        *(f"sweep.rows.{method}={_words(values)}" for method, values in rows.items()),
        "sweep.model.factory=net.py:make_net",
        "sweep.model.options={width: 12}",
        "sweep.model.image_size=16",
        "sweep.training.epochs=1",
        "sweep.training.warmup_epochs=0",
        f"sweep.pretrained={before_deletion.folder}/model.safetensors",
        "sweep.pretrained_saw=split",
        fresh=True,
    )
    for method in rows:
        (job,) = jobs_of(sweep, "unlearn", method=method)
        theirs = load_file(entry_of(sweep, job.key).file("weights.safetensors"))
        ours = load_file(f"{method}/weights.safetensors")
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    pretrained = load_file("model.safetensors")
    assert any(not torch.equal(pretrained[name], ours[name]) for name in ours)


def _words(values: dict[str, Any]) -> str:
    """A map as an argument has it."""
    said = ", ".join(f"{name}: {json.dumps(value)}" for name, value in values.items())
    return f"{{{said}}}"
