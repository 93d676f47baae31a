from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from oneshui.errors import InputError
from oneshui.installed import Package
from oneshui.named_weights import NamedWeights
from oneshui.spec import ModelSpec

LETTERS = NamedWeights(
    name="letters",
    model="resnet18",
    package=Package(name="brings-weights", version="1.2", module="brings_weights"),
    file="models/letters.pth",
    sha256="ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    licence="none",
)
"""The sha256 is FIPS 180-2's example, of "abc"."""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "brings_weights" / "models" / "letters.pth"
    path.parent.mkdir(parents=True)
    (tmp_path / "brings_weights" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    path.write_bytes(b"abc")
    return path


def test_the_file_is_found_in_its_package(file: Path) -> None:
    assert LETTERS.path() == file


def test_a_file_of_another_content_is_refused(file: Path) -> None:
    file.write_bytes(b"abd")
    with pytest.raises(InputError, match=r"letters.pth is not what the weights letters are known"):
        LETTERS.path()


@pytest.mark.usefixtures("file")
def test_a_file_that_is_gone_is_refused() -> None:
    gone = dataclasses.replace(LETTERS, file="models/other.pth")
    with pytest.raises(InputError, match=r"other.pth .*'pip install brings-weights==1.2'"):
        gone.path()


def test_named_weights_are_of_one_network() -> None:
    fits = ModelSpec(name="tf_efficientnet_lite0", image_size=96, weights="lite0")
    assert fits.named_weights is not None
    assert fits.weights_file is None
    with pytest.raises(
        InputError, match=r"model.weights lite0 are those of tf_efficientnet_lite0, but model.name"
    ):
        ModelSpec(name="resnet18", image_size=96, weights="lite0")
    with pytest.raises(InputError, match=r"model.weights is 'lite1', .* 'lite0' or the path"):
        ModelSpec(weights="lite1")
