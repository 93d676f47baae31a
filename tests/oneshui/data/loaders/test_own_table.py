from __future__ import annotations

import doctest
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from PIL import Image

from oneshui import load_dataset
from oneshui.data.contents import fingerprint
from oneshui.data.loaders import own_table
from oneshui.errors import DataError

GUIDES = [Path(__file__).parents[4] / "docs" / name for name in ("own_table.md", "speakers.md")]
COLUMNS: dict[str, list[Any]] = {
    "path": ["a/1.png", "a/2.png", "b.png", "c.png"],
    "identity": [7, 7, 3, 4],
    "smiling": [0, 1, 1, 0],
    "hat": [1, 1, 1, 0],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    for place, name in enumerate(COLUMNS["path"]):
        Image.new("RGB", (8 + place, 8)).save(tmp_path / name)
    return tmp_path


def frame(**changed: list[Any]) -> pd.DataFrame:
    return pd.DataFrame({**COLUMNS, **changed})


def classes(labels: list[Any]) -> pd.DataFrame:
    return frame(label=labels).drop(columns=["smiling", "hat"])


def save(table: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)
    return path


each_format = pytest.mark.parametrize("name", ["images.csv", "images.parquet"])


@each_format
def test_columns_of_0_and_1_are_attributes(folder: Path, name: str) -> None:
    save(frame(), folder / name)
    table = load_dataset("table", folder)
    assert (table.dataset, table.task, table.root) == ("table", "multilabel", folder)
    assert table.paths == tuple(COLUMNS["path"])
    assert table.class_names == ("smiling", "hat")
    assert table.label.dtype == np.uint8
    assert table.label.tolist() == [[0, 1], [1, 1], [1, 1], [0, 0]]
    assert table.identity.tolist() == [7, 7, 3, 4]
    assert table.identity_order == (7, 3, 4)
    assert table.sizes.tolist() == [(folder / path).stat().st_size for path in table.paths]


@each_format
def test_names_of_people_are_numbered_by_first_appearance(folder: Path, name: str) -> None:
    save(frame(identity=["Zoë", "Zoë", "10a", "9"]), folder / name)
    table = load_dataset("table", folder)
    assert table.identity.tolist() == [0, 0, 1, 2]
    assert table.identity_order == (0, 1, 2)


@each_format
@pytest.mark.parametrize(
    ("labels", "names", "index"),
    [
        (["old", "young", "old", "middle"], ("middle", "old", "young"), [1, 2, 1, 0]),
        ([2, 0, 0, 2], ("0", "1", "2"), [2, 0, 0, 2]),
    ],
)
def test_a_column_called_label_holds_classes(
    folder: Path, name: str, labels: list[Any], names: tuple[str, ...], index: list[int]
) -> None:
    save(classes(labels), folder / name)
    table = load_dataset("table", folder)
    assert (table.task, table.class_names) == ("multiclass", names)
    assert table.label.dtype == np.int64
    assert table.label.tolist() == index


@each_format
def test_truth_values_and_fractions_of_0_are_the_same_in_both_formats(
    folder: Path, name: str
) -> None:
    table = frame(smiling=[False, True, True, False], hat=[1.0, 1.0, 1.0, 0.0])
    table["identity"] = [7.0, 7.0, 3.0, 4.0]
    save(table, folder / name)
    loaded = load_dataset("table", folder)
    assert loaded.label.tolist() == [[0, 1], [1, 1], [1, 1], [0, 0]]
    assert loaded.identity.tolist() == [7, 7, 3, 4]
    save(classes([2.0, 0.0, 0.0, 2.0]), folder / name)
    assert load_dataset("table", folder).label.tolist() == [2, 0, 0, 2]
    save(classes(["None", "None", "cap", "cap"]), folder / name)
    assert load_dataset("table", folder).class_names == ("None", "cap")


@each_format
def test_a_letter_with_an_accent_has_one_spelling(folder: Path, name: str) -> None:
    table = frame(identity=["Zo\u00eb", "Zoe\u0308", "Bob", "Bob"])
    save(table.rename(columns={"hat": "be\u0301ret"}), folder / name)
    loaded = load_dataset("table", folder)
    assert loaded.identity.tolist() == [0, 0, 1, 1]
    assert loaded.class_names == ("smiling", "b\u00e9ret")
    save(table.rename(columns={"hat": "e\u0301", "smiling": "\u00e9"}), folder / name)
    with pytest.raises(DataError, match="column 4 is called 'é'"):
        load_dataset("table", folder)


@each_format
@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x85", "\n"])
def test_what_looks_like_the_end_of_a_line_is_a_part_of_a_cell(
    folder: Path, name: str, mark: str
) -> None:
    (folder / "b.png").rename(folder / f"b{mark}b.png")
    people = [f"Ann{mark}Lee", f"Ann{mark}Lee", "Bob", "Cem"]
    save(
        frame(path=["a/1.png", "a/2.png", f"b{mark}b.png", "c.png"], identity=people), folder / name
    )
    loaded = load_dataset("table", folder)
    assert loaded.paths[2] == f"b{mark}b.png"
    assert loaded.identity.tolist() == [0, 0, 1, 2]
    (folder / f"b{mark}b.png").unlink()
    with pytest.raises(DataError, match="1 pictures listed") as caught:
        load_dataset("table", folder)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("column", ["label", "identity", "path"])
def test_a_list_is_no_cell(folder: Path, column: str) -> None:
    table = classes(["old", "young", "old", "old"]).astype(object)
    table[column] = [[0, 1], [1, 0], [0, 1], [1, 1]]
    save(table, folder / "images.parquet")
    with pytest.raises(DataError, match=f"row 1, column {column}: the cell holds a list, but"):
        load_dataset("table", folder)
    table[column] = [b"x", b"y", b"z", b"z"]
    save(table, folder / "images.parquet")
    with pytest.raises(DataError, match=f"row 1, column {column}: the cell holds a bytes, but"):
        load_dataset("table", folder)


def test_both_formats_and_places_give_the_same_fingerprint(folder: Path, tmp_path: Path) -> None:
    csv = fingerprint(load_dataset("table", save(frame(), folder / "mine.csv")))
    parquet = fingerprint(load_dataset("table", save(frame(), folder / "mine.parquet")))
    moved = folder.rename(tmp_path.with_name(f"{tmp_path.name}-moved"))
    assert csv == parquet
    assert fingerprint(load_dataset("table", moved / "mine.csv")) == csv
    moved.rename(tmp_path)


def test_parquets_own_types_are_understood(folder: Path) -> None:
    table = frame(
        identity=[7.0, 7.0, 3.0, 4.0],
        smiling=[False, True, True, False],
        hat=[1, 1, 1, 0],
    ).astype({"hat": "Int8"})
    # A selection keeps its old index, which is no attribute.
    save(table[table["identity"] > 3], folder / "images.parquet")
    loaded = load_dataset("table", folder)
    assert loaded.label.tolist() == [[0, 1], [1, 1], [0, 0]]
    assert loaded.identity.tolist() == [7, 7, 4]


@pytest.mark.parametrize(
    ("table", "column", "row", "says"),
    [
        (frame(path=["a/1.png", "", "b.png", "c.png"]), "path", 2, "is empty"),
        (frame(path=["a/1.png", "/a/2.png", "b.png", "c.png"]), "path", 2, "/a/2.png must be rel"),
        (
            frame(path=["a/1.png", "b.png", "./b.png", "c.png"]),
            "path",
            3,
            r"\./b.png is listed a second time, first in (line 3|row 2)",
        ),
        (frame(identity=["x", "y", " ", "z"]), "identity", 3, "is empty"),
        (frame(identity=[1, 2, -1, 4]), "identity", 3, "-1 is below 0"),
        (frame(smiling=[0, 1, 2, 0]), "smiling", 3, "'2' is neither 0 nor 1"),
        (frame(hat=["1", "yes", "0", "0"]), "hat", 2, "'yes' is neither 0 nor 1"),
        (frame(hat=["1", "1", "", "0"]), "hat", 3, "'' is neither 0 nor 1"),
        (frame(hat=[1, None, 0, 0]).astype({"hat": "Int8"}), "hat", 2, "'' is neither 0 nor 1"),
        (
            frame(path=["p/../../a.png", "a/2.png", "b.png", "c.png"]),
            "path",
            1,
            "and the file below",
        ),
        (
            frame(path=["b.png", "a/2.png", "a/../b.png", "c.png"]),
            "path",
            3,
            r"a/\.\./b.png is listed a second time, first in (line 2|row 1)",
        ),
        (
            frame(path=["a/1.png", "\u00e9.png", "e\u0301.png", "c.png"]),
            "path",
            3,
            "is listed a second time",
        ),
        (frame(identity=["x", "nan", "y", "z"]), "identity", 2, "'nan' is what programs write for"),
        (frame(identity=["x", "<NA>", "y", "z"]), "identity", 2, "fill it, or remove the row"),
        (frame(identity=["x", "y", "None", "z"]), "identity", 3, "'None' is what programs write"),
        (classes(["old", "NaN", "young", "old"]), "label", 2, "'NaN' is what programs write"),
        (classes(["old", "young", None, "old"]), "label", 3, "is empty"),
        (classes([0, 1, -1, 0]), "label", 3, "-1 is below 0"),
        (classes([0, 1, 99, 0]), "label", 3, "class 99 of only 4 pictures"),
        (classes(["0", "1", "old", "0"]), "label", 3, "'old' and '0' mix"),
    ],
)
@each_format
def test_names_file_row_and_column_of_a_bad_value(
    folder: Path, name: str, table: pd.DataFrame, column: str, row: int, says: str
) -> None:
    path = save(table, folder / name)
    place = f"line {row + 1}" if name == "images.csv" else f"row {row}"
    pattern = rf"^{re.escape(str(path))} {place}, column {column}: .*{says}"
    with pytest.raises(DataError, match=pattern) as caught:
        load_dataset("table", folder)
    assert "\n" not in str(caught.value)


@each_format
@pytest.mark.parametrize(
    ("table", "says"),
    [
        (frame().drop(columns="path"), "has no column path; it has identity, smiling, hat"),
        (frame().drop(columns="identity"), "has no column identity"),
        (frame()[["path", "identity"]], "has no labels"),
        (frame()[:0], "lists no picture"),
        (frame(label=[0, 1, 0, 1]), r"others beside it \(smiling, hat\)"),
        (frame(path=["a/1.png", "a/2.png", "b.png", "d.png"]), r"1 pictures .*absent.* d.png"),
        (frame(path=["a/1.png", "a", "b.png", "c.png"]), r"1 pictures .*absent.* a;"),
    ],
)
def test_names_what_the_table_lacks(
    folder: Path, name: str, table: pd.DataFrame, says: str
) -> None:
    save(table, folder / name)
    with pytest.raises(DataError, match=says) as caught:
        load_dataset("table", folder)
    assert name in str(caught.value)


def both(folder: Path) -> Path:
    save(frame(), folder / "images.csv")
    save(frame(), folder / "images.parquet")
    return folder


def written(name: str, text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return write


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (lambda folder: folder, "contains neither images.csv nor images.parquet: write one"),
        (both, "contains both images.csv and images.parquet"),
        (lambda folder: folder / "none.csv", "none.csv is absent"),
        (written("table.xlsx", "x"), "its name must end in .csv or .parquet"),
        (written("t.parquet", "x"), "t.parquet cannot be read as Parquet"),
        (written("t.csv", ""), "has no column path; it has none"),
        (written("t.csv", "path,identity,hat,hat\n"), "t.csv: column 4 is called 'hat'"),
        (written("t.csv", "path,identity,\n"), "t.csv: column 3 is called ''"),
        (written("t.csv", "path,identity,hat\nb.png,1\n"), "line 2 has 2 cells"),
    ],
)
def test_says_what_is_wrong_with_the_file(
    folder: Path, prepare: Callable[[Path], Path], says: str
) -> None:
    with pytest.raises(DataError, match=says) as caught:
        load_dataset("table", prepare(folder))
    assert "\n" not in str(caught.value)


def test_the_docstrings_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(own_table)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_the_guides_example_prints_what_it_says(
    guide: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    blocks = dict(re.findall(r"```(python|text)\n(.*?)```", guide.read_text(), flags=re.DOTALL))
    script = tmp_path / "example.py"
    script.write_text(blocks["python"])
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script))
    assert capsys.readouterr().out == blocks["text"]


def test_a_damaged_parquet_file_is_named_whatever_its_reader_raises(folder: Path) -> None:
    table = folder / "images.parquet"
    frame().to_parquet(table)
    # In the footer pandas describes the columns; its reader raises a bare KeyError there.
    described = pyarrow.parquet.read_table(table).replace_schema_metadata(
        {b"pandas": b'{"index_columns": [{"kind": "range"}], "columns": [{}]}'}
    )
    pyarrow.parquet.write_table(described, table)
    with pytest.raises(DataError, match=f"{re.escape(str(table))} cannot be read as Parquet"):
        load_dataset("table", table)
