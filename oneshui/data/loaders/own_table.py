"""A dataset of one's own: a table in CSV or Parquet that lists pictures, people and labels.

``docs/own_table.md`` tells the whole story with an example.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oneshui.data.registry import register
from oneshui.data.table import (
    TABLES,
    AbsentDatasetError,
    ImageTable,
    appearance_order,
    csv_rows,
    file_sizes,
    numbered,
)
from oneshui.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from oneshui.spec import Task

    Cells = npt.NDArray[np.object_]

NAMES: Final = ("images.csv", "images.parquet")

_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")
_WHOLE_WITH_FRACTION: Final = re.compile(r"(-?[0-9]+)\.0+")
_NOTHING: Final = frozenset({"nan", "NaN", "<NA>", "NaT"})
"""What pandas writes for a cell without a value; taken for a name, it would be one person."""
_BITS: Final = {"0": 0, "false": 0, "1": 1, "true": 1}
SETS: Final = ("train", "val")
"""What a column ``set`` may say of a picture: whether the model was trained on it, or watched by
it."""


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """A table as it was read.

    Attributes:
        path: Where from, for messages.
        cells: The cells of every column, object [N].
        place: Says where a row is, for example "line 7".
    """

    path: Path
    cells: dict[str, Cells]
    place: Callable[[int], str]

    def error(self, row: int, column: str, problem: str) -> DataError:
        """The error for one cell."""
        return DataError(f"{self.path} {self.place(row)}, column {column}: {problem}")

    def distinct(self, column: str) -> tuple[npt.NDArray[np.int64], list[str]]:
        """The cells of a column in their one spelling: place in the list [N], and the list.

        Raises:
            DataError: A cell holds neither text nor a number.
        """
        import numpy as np
        import pandas as pd

        cells = self.cells[column]
        # By kind first: there are millions of cells, and one kind of most columns.
        for kind in set(map(type, cells)):
            if not _is_scalar(kind):
                row = next(row for row, cell in enumerate(cells) if type(cell) is kind)
                what = "list" if issubclass(kind, np.ndarray) else kind.__name__
                raise self.error(
                    row, column, f"the cell holds a {what}, but must hold text or a number"
                )
        places, values = pd.factorize(cells, use_na_sentinel=False)
        # A path must be spelt as the file system does.
        return places, [_text(value) if column == "path" else _spelt(value) for value in values]

    def texts(self, column: str) -> list[str]:
        """The cells of a column in their one spelling.

        Raises:
            DataError: A cell is empty, or says that it is.
        """
        places, values = self.distinct(column)
        empty = _NOTHING | ({"None"} if column == "identity" else frozenset())
        if not empty.isdisjoint(values) or "" in values:
            row = next(row for row, place in enumerate(places) if values[place] in {"", *empty})
            text = values[places[row]]
            raise self.error(
                row,
                column,
                f"{text!r} is what programs write for an empty cell; fill it, or remove the row, "
                "or spell the name otherwise if it is one"
                if text
                else "the cell is empty; fill it, or remove the row",
            )
        return [values[place] for place in places]


def _is_scalar(kind: type) -> bool:
    import numpy as np

    return issubclass(kind, (str, int, float, Decimal, np.bool_, np.number, type(None)))


def _text(cell: Any) -> str:
    """A cell as CSV has it."""
    if cell is None or cell != cell:  # NaN is not equal to itself
        return ""
    return str(cell).strip()


def _spelt(cell: Any) -> str:
    """A cell in its one spelling: composed letters, whole numbers without a fraction."""
    text = unicodedata.normalize("NFC", _text(cell))
    whole = _WHOLE_WITH_FRACTION.fullmatch(text)
    return whole.group(1) if whole else text


# How many pictures a table lists is only known when it is read; this is a guess.
@register(name="table", folder="", task=None, num_images=20_000)
def load_table(data_dir: Path, *, require_files: bool = True) -> ImageTable:
    """Read a table of pictures: any dataset, without code of its own.

    The columns are ``path`` (relative to the table's folder), ``identity`` (whole numbers, or
    text, which is numbered by first appearance), and either ``label`` (one class per picture:
    whole numbers from 0, or names, which are numbered in alphabetical order) or any other columns,
    each an attribute with values 0 and 1. A column ``set`` that says train or val is no label: see
    ``read_sets``.

    Args:
        data_dir: The table, ending in ``.csv`` or ``.parquet``, or the folder that contains it as
            ``images.csv`` or ``images.parquet``.
        require_files: Whether absent and empty pictures are errors.

    Returns:
        Images in the table's order, identities in the order in which they first appear.

    Raises:
        DataError: The table, a column, a value or a picture is absent or wrong; the message names
            file, row and column.

    Example:
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> for name in ("ann-1.png", "ann-2.png", "bob-1.png"):
        ...     Image.new("RGB", (32, 32)).save(name)
        >>> rows = ["ann-1.png,ann,happy", "ann-2.png,ann,sad", "bob-1.png,bob,happy"]
        >>> with Path("images.csv").open("w") as stream:
        ...     print("path,identity,label", *rows, sep=chr(10), file=stream)
        >>> table = load_table(Path("images.csv"))
        >>> table.task, table.class_names, table.label.tolist(), table.identity.tolist()
        ('multiclass', ('happy', 'sad'), [0, 1, 0], [0, 0, 1])
    """
    return _image_table(_read(_locate(Path(data_dir))), require_files=require_files)


def load_photos(path: Path, task: Task, outputs: Sequence[str]) -> ImageTable:
    """Read a table of pictures whose labels are to be those of a model that is there already.

    Args:
        path: The table, as ``load_table`` takes it.
        task: The model's.
        outputs: Names of its outputs, in their order: of classes, or of attributes.

    Raises:
        DataError: As ``load_table``; or a label is no output of the model, or the columns are not
            its attributes.
    """
    return _image_table(_read(_locate(path)), known=(task, tuple(outputs)))


def read_sets(data_dir: Path) -> tuple[str, ...] | None:
    """What the column ``set`` of a table says of every picture; None if it has none.

    A column of that name with other values than ``SETS`` alone is an attribute.

    Raises:
        DataError: As ``load_table``; or some values are of ``SETS`` and others are not.
    """
    return _sets(_read(_locate(data_dir)))


def labels_of(path: Path) -> tuple[Task, tuple[str, ...]]:
    """Of which kind the labels of a table are, and the names of its attributes, if they are that.

    Raises:
        DataError: As ``load_table``.
    """
    others = _labels(_read(_locate(path)))
    return ("multiclass", ()) if "label" in others else ("multilabel", tuple(others))


def _labels(columns: _Columns) -> list[str]:
    """The columns that are labels."""
    beside = {"path", "identity"} if _sets(columns) is None else {"path", "identity", "set"}
    found = [name for name in columns.cells if name not in beside]
    if not found:
        raise _unlabelled(columns.path)
    return found


def _sets(columns: _Columns) -> tuple[str, ...] | None:
    if "set" not in columns.cells:
        return None
    places, values = columns.distinct("set")
    if not set(values).intersection(SETS):
        return None
    for row, place in enumerate(places):
        if values[place] not in SETS:
            raise columns.error(
                row, "set", f"{values[place]!r} must be {SETS[0]} or {SETS[1]}, as other rows say"
            )
    return tuple(values[place] for place in places)


def _image_table(
    columns: _Columns,
    *,
    require_files: bool = True,
    known: tuple[Task, tuple[str, ...]] | None = None,
) -> ImageTable:
    root = columns.path.parent
    paths = _paths(columns)
    identity = _identity(columns)
    others = _labels(columns)
    label: npt.NDArray[np.uint8] | npt.NDArray[np.int64]
    if known is not None:
        _require_labels(columns, others, *known)
    if "label" in others:
        if len(others) > 1:
            raise DataError(
                f"{columns.path} has a column label and others beside it "
                f"({', '.join(name for name in others if name != 'label')}): remove label to use "
                "them as 0/1 attributes, or remove them"
            )
        class_names, label = _classes(columns, None if known is None else known[1])
    else:
        class_names = tuple(others) if known is None else known[1]
        label = _attributes(columns, list(class_names))
    return ImageTable(
        dataset="table",
        task="multiclass" if label.ndim == 1 else "multilabel",
        class_names=class_names,
        root=root,
        paths=paths,
        identity=identity,
        label=label,
        identity_order=appearance_order(identity),
        sizes=file_sizes(root, paths, columns.path, require_files=require_files),
    )


def _require_labels(
    columns: _Columns, others: Sequence[str], task: Task, outputs: tuple[str, ...]
) -> None:
    """Refuse columns that are not what the model's outputs stand for.

    Raises:
        DataError: Naming the columns that are absent, or those that are too many.
    """
    wanted = ["label"] if task == "multiclass" else list(outputs)
    absent = [name for name in wanted if name not in others]
    unknown = [name for name in others if name not in wanted]
    if absent or unknown:
        problem = f"lacks {', '.join(absent)}" if absent else f"has {', '.join(unknown)} besides"
        raise DataError(
            f"{columns.path} {problem}: beside path and identity its columns must be "
            f"{', '.join(wanted)}, as the model's outputs are"
        )


def _unlabelled(path: Path) -> DataError:
    return DataError(
        f"{path} has no labels: add a column label with the class of every picture, or a "
        "column of 0 and 1 for every attribute"
    )


def _locate(data_dir: Path) -> Path:
    """The table in a folder, or the given one."""
    if data_dir.is_dir():
        found = [data_dir / name for name in NAMES if (data_dir / name).is_file()]
        if not found:
            raise AbsentDatasetError(
                f"{data_dir} contains neither {NAMES[0]} nor {NAMES[1]}: write one with the "
                "columns path, identity and label (docs/own_table.md), or set data_dir to a table"
            )
        if len(found) > 1:
            raise DataError(
                f"{data_dir} contains both {NAMES[0]} and {NAMES[1]}: set data_dir to one of them"
            )
        return found[0]
    if not data_dir.is_file():
        raise AbsentDatasetError(
            f"{data_dir} is absent: set data_dir to a table of pictures (docs/own_table.md)"
        )
    if data_dir.suffix not in TABLES:
        ends = " or ".join(TABLES)
        raise AbsentDatasetError(f"{data_dir} is no table: its name must end in {ends}")
    return data_dir


def _read(path: Path) -> _Columns:
    columns = _read_csv(path) if path.suffix == ".csv" else _read_parquet(path)
    for name in ("path", "identity"):
        if name not in columns.cells:
            raise DataError(
                f"{path} has no column {name}; it has {', '.join(columns.cells) or 'none'}"
            )
    if len(columns.cells) < 3:
        raise _unlabelled(path)
    if not len(columns.cells["path"]):
        raise DataError(f"{path} lists no picture")
    return columns


def _read_csv(path: Path) -> _Columns:
    import numpy as np

    rows = list(csv_rows(path, "the pictures of a dataset"))
    header = rows[0][1] if rows else []
    cells = np.array([cells for _, cells in rows[1:]], dtype=object)
    cells = cells.reshape(max(len(rows) - 1, 0), len(header))
    lines = [line for line, _ in rows[1:]]
    return _Columns(
        path=path,
        cells=_by_name(path, header, list(cells.T)),
        place=lambda row: f"line {lines[row]}",
    )


def _read_parquet(path: Path) -> _Columns:
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    # What a damaged table makes the library raise is no list that anybody keeps.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read as Parquet ({reason})") from None
    cells = frame.astype(object).where(frame.notna(), None)
    columns = [cells.iloc[:, place].to_numpy(dtype=object) for place in range(cells.shape[1])]
    return _Columns(
        path=path,
        cells=_by_name(path, list(map(str, frame.columns)), columns),
        place=lambda row: f"row {row + 1}",
    )


def _by_name(path: Path, header: list[str], columns: list[Cells]) -> dict[str, Cells]:
    names = [_spelt(name) for name in header]
    for place, name in enumerate(names):
        if not name or name in names[:place]:
            raise DataError(
                f"{path}: column {place + 1} is called {name!r}, but every column needs a name of "
                "its own"
            )
    return dict(zip(names, columns, strict=True))


def _paths(columns: _Columns) -> tuple[str, ...]:
    """The paths with one spelling each, so that no file is listed twice."""
    paths: list[str] = []
    known: dict[str, int] = {}
    for row, text in enumerate(columns.texts("path")):
        path = posixpath.normpath(text)
        if posixpath.isabs(path) or path.split("/")[0] == "..":
            folder = columns.path.parent
            raise columns.error(
                row,
                "path",
                f"{text} must be relative to the table's folder {folder}, and the file below it",
            )
        # Some file systems take both spellings of a letter with an accent for one name.
        first = known.setdefault(unicodedata.normalize("NFC", path), row)
        if first != row:
            raise columns.error(
                row, "path", f"{text} is listed a second time, first in {columns.place(first)}"
            )
        paths.append(path)
    return tuple(paths)


def _numbers(columns: _Columns, column: str) -> tuple[list[str], npt.NDArray[np.int64] | None]:
    """The texts of a column, and its numbers, int64 [N], if all of them are whole ones."""
    import numpy as np

    texts = columns.texts(column)
    if not all(_WHOLE.fullmatch(text) for text in texts):
        return texts, None
    numbers = np.array(texts, dtype=np.int64)
    negative = np.flatnonzero(numbers < 0)
    if len(negative):
        row = int(negative[0])
        raise columns.error(row, column, f"{texts[row]} is below 0; numbers start at 0")
    return texts, numbers


def _identity(columns: _Columns) -> npt.NDArray[np.int64]:
    texts, numbers = _numbers(columns, "identity")
    return numbered(texts) if numbers is None else numbers


def _classes(
    columns: _Columns, known: tuple[str, ...] | None
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Names of the classes, and the class of every image, int64 [N]; of the known ones, if any."""
    import numpy as np

    texts, numbers = _numbers(columns, "label")
    if known is not None:
        return known, _known_classes(columns, texts, known)
    if numbers is None:
        first_is_number = _WHOLE.fullmatch(texts[0]) is not None
        for row, text in enumerate(texts):
            # A mixture is a slip: as names, "10" would sort before "9".
            if (_WHOLE.fullmatch(text) is not None) != first_is_number:
                raise columns.error(
                    row, "label", f"{text!r} and {texts[0]!r} mix class names and class numbers"
                )
        names = sorted(set(texts))
        index = {name: number for number, name in enumerate(names)}
        return tuple(names), np.array([index[text] for text in texts], dtype=np.int64)
    largest = int(numbers.argmax())
    if numbers[largest] >= len(texts):
        raise columns.error(
            largest, "label", f"class {texts[largest]} of only {len(texts)} pictures; count from 0"
        )
    return tuple(str(number) for number in range(int(numbers[largest]) + 1)), numbers


def _known_classes(
    columns: _Columns, texts: Sequence[str], known: tuple[str, ...]
) -> npt.NDArray[np.int64]:
    """The class of every image, int64 [N]: by its name, or by its number where names are others."""
    import numpy as np

    index = {str(number): number for number in range(len(known))}
    index |= {name: number for number, name in enumerate(known)}
    for row, text in enumerate(texts):
        if text not in index:
            raise columns.error(
                row,
                "label",
                f"{text!r} is none of the model's {len(known)} outputs ({', '.join(known)})",
            )
    return np.array([index[text] for text in texts], dtype=np.int64)


def _attributes(columns: _Columns, names: list[str]) -> npt.NDArray[np.uint8]:
    """The 0/1 columns, uint8 [N, C]."""
    import numpy as np

    label = np.empty((len(columns.cells["path"]), len(names)), dtype=np.uint8)
    for place, name in enumerate(names):
        values, texts = columns.distinct(name)
        bits = np.array([_BITS.get(text.casefold(), 2) for text in texts], dtype=np.uint8)
        label[:, place] = bits[values]
        wrong = np.flatnonzero(label[:, place] > 1)
        if len(wrong):
            row = int(wrong[0])
            raise columns.error(
                row, name, f"{texts[values[row]]!r} is neither 0 nor 1, as attributes are"
            )
    return label
