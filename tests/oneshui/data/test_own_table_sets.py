"""A table that says who was trained on, and one whose labels are to be a model's."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from oneshui.data.loaders.own_table import labels_of, load_photos, load_table, read_sets
from oneshui.errors import DataError


def _table(folder: Path, header: str, *rows: str) -> Path:
    for row in rows:
        Image.new("RGB", (8, 8)).save(folder / row.partition(",")[0])
    path = folder / "images.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_sets_are_no_label(tmp_path: Path) -> None:
    path = _table(tmp_path, "path,identity,label,set", "a.png,1,x,train", "b.png,2,y,val")
    assert read_sets(path) == ("train", "val")
    assert load_table(path).class_names == ("x", "y")
    assert labels_of(path) == ("multiclass", ())


def test_an_attribute_may_be_called_set(tmp_path: Path) -> None:
    path = _table(tmp_path, "path,identity,smiling,set", "a.png,1,1,0", "b.png,2,0,1")
    assert read_sets(path) is None
    assert load_table(path).class_names == ("smiling", "set")
    assert labels_of(path) == ("multilabel", ("smiling", "set"))


def test_sets_alone_are_no_labels(tmp_path: Path) -> None:
    path = _table(tmp_path, "path,identity,set", "a.png,1,train", "b.png,2,val")
    with pytest.raises(DataError, match="has no labels"):
        load_table(path)


def test_a_set_that_is_neither_is_refused(tmp_path: Path) -> None:
    path = _table(tmp_path, "path,identity,label,set", "a.png,1,x,train", "b.png,2,y,")
    with pytest.raises(DataError, match="line 3, column set: '' must be train or val"):
        read_sets(path)


@pytest.mark.parametrize(("labels", "classes"), [(("sad", "happy"), [1, 0]), (("2", "0"), [2, 0])])
def test_classes_are_the_models_outputs(
    tmp_path: Path, labels: tuple[str, str], classes: list[int]
) -> None:
    """By name in its order, or by number; whichever classes these few people have."""
    rows = [f"{place}.png,{place},{label}" for place, label in enumerate(labels)]
    table = load_photos(
        _table(tmp_path, "path,identity,label", *rows), "multiclass", ("happy", "sad", "neither")
    )
    assert table.label.tolist() == classes
    assert table.class_names == ("happy", "sad", "neither")


def test_attributes_come_in_the_models_order(tmp_path: Path) -> None:
    path = _table(tmp_path, "path,sad,identity,happy", "a.png,1,7,0")
    assert load_photos(path, "multilabel", ("happy", "sad")).label.tolist() == [[0, 1]]
    with pytest.raises(DataError, match="lacks old: beside path and identity"):
        load_photos(path, "multilabel", ("happy", "sad", "old"))
    with pytest.raises(DataError, match="has sad besides"):
        load_photos(path, "multilabel", ("happy",))
