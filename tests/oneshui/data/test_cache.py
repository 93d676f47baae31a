from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oneshui import load_dataset
from oneshui.data.cache import build_cache, open_cache
from oneshui.data.celebahq import FOLDER, IMAGES
from oneshui.data.synthetic import FacesSpec, generate_celebahq
from oneshui.data.table import ImageTable
from oneshui.errors import DataError


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    generate_celebahq(FacesSpec(identities=12, pictures=2, size=32), tmp_path / "set")
    return load_dataset("celebahq", tmp_path / "set")


def test_holds_the_decoded_pictures(table: ImageTable, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    build_cache(table, 32, tmp_path / "c.npy", progress=lambda *call: calls.append(call))
    cache = open_cache(tmp_path / "c.npy")
    assert cache.shape == (24, 3, 32, 32)
    assert cache.dtype == np.uint8
    assert not cache.flags.writeable
    for row in (0, 7, 23):
        with Image.open(table.root / table.paths[row]) as image:
            assert np.array_equal(cache[row], np.asarray(image).transpose(2, 0, 1))
    assert calls[-1] == (24, 24)


def test_bytes_do_not_depend_on_the_number_of_threads(table: ImageTable, tmp_path: Path) -> None:
    for threads in (1, 4):
        build_cache(table, 20, tmp_path / f"{threads}.npy", threads=threads)
    assert (tmp_path / "1.npy").read_bytes() == (tmp_path / "4.npy").read_bytes()


def test_resizing_averages_instead_of_sampling(tmp_path: Path, table: ImageTable) -> None:
    stripes = np.zeros((32, 32, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(table.root / table.paths[0], quality=100, subsampling=0)
    build_cache(table, 8, tmp_path / "c.npy")
    inner = open_cache(tmp_path / "c.npy")[0][:, 2:6, 2:6].astype(int)
    assert abs(inner - 127).max() < 30


def test_names_the_pictures_that_do_not_decode(table: ImageTable, tmp_path: Path) -> None:
    pictures = table.root
    assert pictures.parts[-2:] == (FOLDER, IMAGES)
    (pictures / "3.jpg").write_bytes((pictures / "3.jpg").read_bytes()[:200])
    (pictures / "9.jpg").write_text("no picture")
    with pytest.raises(DataError, match=r"2 of 24 pictures do not decode.*3\.jpg.*9\.jpg"):
        build_cache(table, 32, tmp_path / "c.npy")
