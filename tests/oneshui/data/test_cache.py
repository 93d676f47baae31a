from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oneshui import load_dataset
from oneshui.data import cache as cache_module
from oneshui.data.cache import (
    Cache,
    CacheReport,
    Variant,
    build_cache,
    decode,
    open_cache,
)
from oneshui.data.contents import picture_contents
from oneshui.data.loaders.celebahq import FOLDER, IMAGES
from oneshui.data.table import ImageTable
from oneshui.errors import DataError
from oneshui.faces.generate import FacesSpec, generate_celebahq


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
    with pytest.raises(DataError, match=r"2 of 24 pictures cannot be used.*3\.jpg.*9\.jpg"):
        build_cache(table, 32, tmp_path / "c.npy")


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def interrupt(done: int, total: int) -> None:
    if done < total:
        raise Killed


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "BLOCK", 10)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    decoded: list[int] = []

    def counting(content: bytes, size: int, variant: Variant = "corrected") -> Cache:
        decoded.append(len(content))
        return decode(content, size, variant)

    monkeypatch.setattr(cache_module, "decode", counting)
    return decoded


@pytest.mark.usefixtures("small_blocks")
def test_an_interrupted_build_goes_on_where_it_was(
    table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = build_cache(table, 16, tmp_path / "whole.npy")
    partial = tmp_path / "kept" / "partial.npy"
    with pytest.raises(Killed):
        build_cache(table, 16, tmp_path / "c.npy", partial=partial, progress=interrupt)
    assert not (tmp_path / "c.npy").exists()
    decoded = counted(monkeypatch)
    report = build_cache(table, 16, tmp_path / "c.npy", partial=partial)
    assert report == CacheReport(digest=whole.digest, decoded=14, resumed=10)
    assert len(decoded) == 14
    assert (tmp_path / "c.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert not list(partial.parent.iterdir())


@pytest.mark.usefixtures("small_blocks")
def test_bytes_that_changed_since_they_were_noted_are_decoded_again(
    table: ImageTable, tmp_path: Path
) -> None:
    path = tmp_path / "c.npy"
    whole = build_cache(table, 16, tmp_path / "whole.npy")
    with pytest.raises(Killed):
        build_cache(table, 16, path, progress=interrupt)
    damaged = np.load(path, mmap_mode="r+")
    damaged[3] ^= 1
    damaged.flush()
    assert build_cache(table, 16, path) == CacheReport(digest=whole.digest, decoded=24, resumed=0)


@pytest.mark.usefixtures("small_blocks")
def test_what_was_begun_otherwise_is_not_used(table: ImageTable, tmp_path: Path) -> None:
    path = tmp_path / "c.npy"
    for size, variant in ((16, "reference"), (20, "corrected")):
        with pytest.raises(Killed):
            build_cache(table, size, path, variant=variant, progress=interrupt)  # type: ignore[arg-type]
        assert build_cache(table, 16, path).resumed == 0


@pytest.mark.usefixtures("small_blocks")
def test_a_line_that_a_kill_cut_short_does_not_count(table: ImageTable, tmp_path: Path) -> None:
    path = tmp_path / "c.npy"
    with pytest.raises(Killed):
        build_cache(table, 16, path, progress=interrupt)
    with (tmp_path / "c.npy.journal").open("a") as journal:
        journal.write('{"block": 1, "sha')
    assert build_cache(table, 16, path).resumed == 10


@pytest.mark.usefixtures("small_blocks")
def test_the_digest_is_that_of_the_decoded_pictures(table: ImageTable, tmp_path: Path) -> None:
    path = tmp_path / "c.npy"
    digest = build_cache(table, 16, path).digest
    pixels = np.load(path)
    blocks = [hashlib.sha256(pixels[i : i + 10].tobytes()).hexdigest() for i in (0, 10, 20)]
    assert digest == hashlib.sha256("".join(blocks).encode()).hexdigest()


@pytest.mark.usefixtures("small_blocks")
def test_restored_pictures_are_all_that_is_decoded_again(
    table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = table.root / table.paths[15]
    content = picture.read_bytes()
    picture.write_text("no picture")
    with pytest.raises(DataError, match="1 of 24"):
        build_cache(table, 16, tmp_path / "c.npy")
    picture.write_bytes(content)
    decoded = counted(monkeypatch)
    build_cache(table, 16, tmp_path / "c.npy")
    assert len(decoded) == 10


@pytest.mark.usefixtures("small_blocks")
def test_a_picture_exchanged_at_equal_size_is_decoded_again(
    table: ImageTable, tmp_path: Path
) -> None:
    for row, colour in ((3, "red"), (13, "blue")):
        Image.new("RGB", (8, 8), colour).save(table.root / table.paths[row], "BMP")
    with pytest.raises(Killed):
        build_cache(table, 8, tmp_path / "c.npy", progress=interrupt)
    Image.new("RGB", (8, 8), "lime").save(table.root / table.paths[3], "BMP")
    assert build_cache(table, 8, tmp_path / "c.npy").resumed == 0
    assert open_cache(tmp_path / "c.npy")[3, :, 0, 0].tolist() == [0, 255, 0]


def test_pictures_that_are_not_those_that_were_read_first_are_named(
    table: ImageTable, tmp_path: Path
) -> None:
    contents = picture_contents(table)
    copy = (table.root / table.paths[1]).read_bytes()
    (table.root / table.paths[0]).write_bytes(copy)
    with pytest.raises(DataError, match=r"1 of 24 .*0\.jpg \(changed since it was read first"):
        build_cache(table, 8, tmp_path / "c.npy", contents=contents)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("line", ['{"block": 1}', "[]", '{"block": "x", "of": 1}', "1", "\xff"])
def test_a_journal_that_is_damaged_only_costs_time(
    table: ImageTable, tmp_path: Path, line: str
) -> None:
    whole = build_cache(table, 16, tmp_path / "whole.npy")
    with pytest.raises(Killed):
        build_cache(table, 16, tmp_path / "c.npy", progress=interrupt)
    with (tmp_path / "c.npy.journal").open("ab") as journal:
        journal.write(line.encode("latin-1") + b"\n")
    assert build_cache(table, 16, tmp_path / "c.npy").digest == whole.digest
