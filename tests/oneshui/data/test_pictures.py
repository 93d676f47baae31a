from __future__ import annotations

import io
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from oneshui.data import pictures
from oneshui.data.pictures import read_rgb
from oneshui.errors import DataError

RAMP = np.array([[0, 64, 255], [128, 1, 254]])


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def tiff_of_12_bits() -> bytes:
    """Two pixels, black and white, which no encoder of Pillow's writes."""
    tags = {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 3}
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags.items())
    pixels = bytes([0x00, 0x0F, 0xFF, 0x00])
    return b"II*\0" + struct.pack("<I", 12) + pixels + struct.pack("<H", 9) + entries + bytes(4)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_grey_of_16_bits_keeps_its_shades(kind: str) -> None:
    large = np.kron(RAMP, np.ones((20, 20)))
    content = saved(Image.fromarray((large * 257).astype(np.uint16)), kind)
    rgb = np.asarray(read_rgb(content))
    assert rgb.shape == (40, 60, 3)
    assert np.array_equal(rgb, np.repeat(large[..., None], 3, axis=2))


def test_grey_of_12_bits_has_a_white_of_its_own() -> None:
    assert np.asarray(read_rgb(tiff_of_12_bits())).tolist() == [[[0] * 3, [255] * 3]]


@pytest.mark.parametrize("kind", ["TIFF", "PPM"])
def test_grey_in_floating_point_goes_from_0_to_1(kind: str) -> None:
    content = saved(Image.fromarray((RAMP / 255).astype(np.float32)), kind)
    assert np.array_equal(np.asarray(read_rgb(content))[..., 1], RAMP)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (RAMP.astype(np.float32), r"0 to 1, but here is 0 to 255: save it with 8 or 16 bits"),
        (np.array([[0, np.nan]], dtype=np.float32), r"must lie in 0 to 1"),
        (RAMP.astype(np.int32), r"grey of 32 bits .* save it with 8 or 16 bits"),
    ],
)
def test_grey_without_a_known_white_is_refused(values: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_rgb(saved(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("kind", ["AVIF", "JPEG", "PNG", "TIFF", "WEBP"])
def test_pictures_stand_upright(kind: str) -> None:
    upright = np.zeros((40, 60, 3), dtype=np.uint8)
    upright[:20, :30] = 255
    # How a camera that stores a picture with each orientation holds its sensor.
    held = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    for orientation, pixels in held.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        content = saved(Image.fromarray(np.ascontiguousarray(pixels)), kind, exif=exif)
        shown = np.asarray(read_rgb(content)).astype(int)
        assert shown.shape == upright.shape, orientation
        assert abs(shown - upright).mean() < 3, orientation


def test_a_damaged_exif_note_turns_nothing() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = saved(Image.new("RGB", (4, 2)), "JPEG", exif=exif)
    damaged = content.replace(b"Exif\0\0MM\0*", b"Exif\0\0MMxx").replace(
        b"Exif\0\0II*\0", b"Exif\0\0IIxx"
    )
    assert damaged != content
    assert read_rgb(damaged).size == (4, 2)


def test_other_colours_become_rgb() -> None:
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    for mode, kind in (
        ("P", "GIF"),
        ("RGBA", "PNG"),
        ("CMYK", "TIFF"),
        ("1", "BMP"),
        ("LA", "PNG"),
    ):
        rgb = read_rgb(saved(red.convert(mode), kind))
        assert (rgb.mode, rgb.size) == ("RGB", (2, 2))


def test_only_the_named_formats_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    def start(*_: Any, **__: Any) -> None:
        raise AssertionError("a program is started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", start)
    picture = Image.new("RGB", (8, 8))
    for kind in ("EPS", "TGA", "ICO", "PCX", "SGI", "PDF"):
        with pytest.raises(DataError, match="no picture in a format that is read"):
            read_rgb(saved(picture, kind))
    with pytest.raises(DataError, match=r"^empty file$"):
        read_rgb(b"")


@pytest.mark.parametrize(
    "kind", ["AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"]
)
def test_a_damaged_file_is_read_or_refused_and_nothing_else(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    content = saved(Image.fromarray(noise), kind)
    assert read_rgb(content).size == (24, 24)
    refused = 0
    generator = np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(content)
        for place in generator.integers(0, len(content), 4):
            damaged[place] = int(generator.integers(0, 256))
        try:
            read_rgb(bytes(damaged[: generator.integers(1, len(content) + 1)]))
        except DataError:
            refused += 1
    assert refused > 10


def test_any_failure_of_a_decoder_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError

    content = saved(Image.new("RGB", (8, 8)), "PNG")
    monkeypatch.setattr(pictures, "_eight_bits", fail)
    with pytest.raises(DataError, match=r"^RuntimeError$"):
        read_rgb(content)


def test_a_large_picture_is_no_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    content = saved(Image.new("RGB", (8, 8)), "PNG")
    with ThreadPoolExecutor(4) as pool:
        assert [rgb.size for rgb in pool.map(read_rgb, [content] * 40)] == [(8, 8)] * 40
    assert Image.MAX_IMAGE_PIXELS == 10
    monkeypatch.setattr(pictures, "MOST_PIXELS", 63)
    with pytest.raises(DataError, match=r"million pixels, more than .* make it smaller"):
        read_rgb(content)


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_a_tiff_in_which_0_is_white_is_no_negative(dtype: Any, white: int) -> None:
    values = (RAMP[:1] * (white / 255)).astype(dtype)
    content = bytearray(saved(Image.fromarray(values), "TIFF"))
    # The tag of the photometric interpretation (262), one short number: 0 for 1.
    field = struct.pack("<HHI", 262, 3, 1)
    place = content.index(field) + len(field)
    assert content[place] == 1
    content[place] = 0
    assert np.asarray(read_rgb(bytes(content)))[0, :, 0].tolist() == (255 - RAMP[0]).tolist()
