"""What cannot be used gets one sentence, exit code 2, and leaves nothing behind."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support.company import KIT, MODEL, PREPARE, Company
from support.inline_command import inline_command

from oneshui.erasure.kit import read_kit
from oneshui.erasure.weights import write_weights

ERASE = ("erase", f"kit={KIT}", "weights=model.safetensors", "photos=request.csv", "out=erased")


@pytest.fixture
def asked(company: Company) -> Company:
    """The company, with a request of two people that could be carried out."""
    company.request("request.csv", company.split.support)
    return company


def _refused(*command: str) -> str:
    """What a refused command said; it left the folder as it was."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    ended = inline_command(*command)
    assert ended.status == 2, ended.said
    *_, sentence = ended.said.splitlines()
    assert "Traceback" not in ended.said
    after = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    assert {p: t for p, t in after.items() if "__pycache__" not in p.parts} == {
        p: t for p, t in before.items() if "__pycache__" not in p.parts
    }
    return sentence


def _change(change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_csv("request.csv")).to_csv("request.csv", index=False)


def _first(column: str) -> str:
    return str(pd.read_csv("request.csv")[column][0])


def _unreadable() -> None:
    Path(_first("path")).write_bytes(b"no picture")


def _cut_off() -> None:
    path = Path(_first("path"))
    path.write_bytes(path.read_bytes()[:300])


def _small() -> None:
    Image.new("RGB", (40, 15), "red").save(_first("path"))


def _unknown_label() -> None:
    _change(lambda table: table.assign(label=["class a", "class z"]))


def _attributes() -> None:
    _change(lambda table: table.drop(columns="label").assign(smiling=1))


def _one_identity() -> None:
    _change(lambda table: table.assign(identity=7))


def _one_picture() -> None:
    one, other = pd.read_csv("request.csv")["path"]
    shutil.copyfile(one, other)


def _absent() -> None:
    Path(_first("path")).unlink()


def _empty() -> None:
    _change(lambda table: table[:0])


def _other_weights() -> None:
    weights = load_file("model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, "model.safetensors")


def _other_network() -> None:
    save_file({"head.weight": torch.zeros(6, 3)}, "model.safetensors")


def _another_model() -> None:
    weights = load_file("model.safetensors")
    described = read_kit(Path(KIT)).kit.described
    other = dataclasses.replace(described, outputs=described.outputs[::-1])
    changed = {name: tensor + 1 for name, tensor in weights.items()}
    write_weights(changed, Path("model.safetensors"), other, [])


def _pickled() -> None:
    Path("model.safetensors").write_bytes(pickle.dumps({"head.weight": 1}))


def _damaged_numbers() -> None:
    path = Path(KIT) / "kit.json"
    path.write_text(path.read_text().replace('"num_forget": 2', '"num_forget": 1'))


def _damaged_tensors() -> None:
    path = Path(KIT) / "importances.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _lost_preparation() -> None:
    (Path(KIT) / "prepared-0.safetensors").unlink()


def _later_kit() -> None:
    path = Path(KIT) / "kit.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))


def _other_code() -> None:
    path = Path("net.py")
    path.write_text(path.read_text().replace("nn.ReLU()", "nn.Tanh()"))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_unreadable, "cannot be read as a picture"),
        (_cut_off, "cannot be read as a picture"),
        (_small, "has 40x15 pixels, fewer than the 16x16"),
        (_unknown_label, "'class z' is none of the model's 6 outputs"),
        (_attributes, "lacks label"),
        (_one_identity, "stand under one identity"),
        (_one_picture, "are the same picture under two identities"),
        (_absent, "are absent from"),
        (_empty, "lists no picture"),
        (_other_weights, "are not those that kit"),
        (_other_network, "are not those that kit"),
        (_another_model, "is of another model than weights"),
        (_pickled, "is a pickle"),
        (_damaged_numbers, "is damaged: kit.json is not as it was written"),
        (_damaged_tensors, "is damaged: importances.safetensors"),
        (_lost_preparation, "is damaged: prepared-0.safetensors"),
        (_later_kit, "another version of oneshui (format 2, not 1)"),
        (_other_code, "the code of the network net:make_net is not that"),
    ],
)
@pytest.mark.usefixtures("asked")
def test_a_request_that_cannot_be_carried_out(spoil: Callable[[], None], reason: str) -> None:
    spoil()
    assert reason in _refused(*ERASE)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (["out=kit"], "is there already, and nothing is overwritten"),
        (["kit=nowhere"], "cannot be read (No such file or directory)"),
        (["weights=nowhere.safetensors"], "cannot be read: No such file"),
        (["out=model.safetensors/erased"], "model.safetensors is no folder: set out anew"),
        (["photos=nowhere.csv"], "nowhere.csv is absent"),
        (["photos=pictures"], "pictures is absent or no file: set photos to a table"),
        (["method=jit"], "unknown method of the kit"),
        (["metod=ssd"], "unknown configuration key 'metod'; did you mean 'method'?"),
        (["seed=-1"], "seed is -1"),
        (["model=resnet18"], "model is for requests without a kit"),
        (["preprocessing=reference"], "preprocessing is for requests without a kit"),
        (["device=nowhere"], "device nowhere cannot be used"),
        (["erased"], "is not of the form key=value"),
    ],
)
@pytest.mark.usefixtures("asked")
def test_an_argument_that_cannot_be_used(change: list[str], reason: str) -> None:
    assert reason in _refused(*ERASE, *change)


def test_who_asked_before(asked: Company) -> None:
    assert inline_command(*ERASE).status == 0
    again = (*ERASE[:2], "weights=erased/weights.safetensors", "photos=request.csv", "out=again")
    assert "was already in request 1 of this model" in _refused(*again)
    # With another picture of his he is somebody else for all that anybody can tell.
    row = asked.split.support[0]
    Image.new("RGB", (32, 32), "blue").save(asked.table["path"][row])
    asked.request("request.csv", [row])
    assert inline_command(*again, "method=gradient_ascent").status == 0


@pytest.mark.usefixtures("asked")
def test_a_history_that_is_somebody_elses() -> None:
    assert inline_command(*ERASE).status == 0
    weights = load_file("erased/weights.safetensors")
    borrowed = Path("erased/weights.safetensors").read_bytes()
    changed = weights["head.bias"].numpy().tobytes()
    Path("weights.safetensors").write_bytes(borrowed.replace(changed, changed[::-1]))
    command = (*ERASE[:2], "weights=weights.safetensors", "photos=request.csv", "out=again")
    assert "have changed since their last request" in _refused(*command)
    certificate = Path("erased/certificate.json")
    certificate.write_text(certificate.read_text().replace('"number": 1', '"number": 2'))
    command = (*ERASE[:2], "weights=erased/weights.safetensors", *command[3:])
    assert "is not the certificate of the weights beside it" in _refused(*command)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (["methods=[retrain]"], "retrain needs the training data to unlearn"),
        (["methods=[pretrain]"], "pretrain does nothing"),
        (["methods=[ssd, sdd]"], "unknown method 'sdd'; did you mean 'ssd'?"),
        (["methods=[ssd, ssd]"], "methods names ssd twice"),
        (["methods=[]"], "methods is []"),
        (["model=resnet19"], "unknown model 'resnet19'; did you mean"),
        (["num_forget=17"], "only 17 training people are left"),
        (["tuning={trials: 0}"], "tuning.trials is 0"),
        (["model={factory: 'net.py:made'}"], "has no function made"),
        ([MODEL.replace("12", "13")], "do not fit the model"),
        (["weights=all.csv"], "all.csv cannot be read: it is no safetensors file"),
        (["data=labels.csv"], "has labels for 5 outputs"),
        (["data=both.csv"], "people are in train and in val"),
        (["data=sets.csv"], "'test' must be train or val"),
    ],
)
def test_a_kit_that_cannot_be_made(
    before_deletion: Company,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: list[str],
    reason: str,
) -> None:
    shutil.copytree(before_deletion.folder, tmp_path / "own")
    monkeypatch.chdir(tmp_path / "own")
    table = pd.read_csv("train.csv")
    table.replace("class f", "class a").to_csv("labels.csv", index=False)
    other = {"train": "val", "val": "train"}[table["set"][0]]
    table.assign(set=[other, *table["set"][1:]]).to_csv("both.csv", index=False)
    table.assign(set=["test", *table["set"][1:]]).to_csv("sets.csv", index=False)
    told = {argument.partition("=")[0]: argument for argument in (*PREPARE[1:], *change)}
    assert reason in _refused(PREPARE[0], *told.values(), "out=kit")
