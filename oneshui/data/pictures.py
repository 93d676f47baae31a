"""One picture file as upright RGB, whatever camera, scanner or editor wrote it.

Imports numpy and Pillow only.
"""

from __future__ import annotations

import io
import threading
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile

from oneshui.errors import DataError

FORMATS: Final = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What is opened, by Pillow's names. Of others some start a program (EPS) to be read."""

MOST_PIXELS: Final = 500_000_000
"""Of one picture: 1.5 GB as RGB. Phones make 200 million."""

_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_opening = threading.Lock()


def read_rgb(content: bytes) -> Image.Image:
    """A picture as RGB, turned and mirrored as its EXIF orientation says; of several the first.

    Grey of 12 or 16 bits is scaled from their whole range, grey in floating point from 0..1.

    Args:
        content: The file's bytes.

    Raises:
        DataError: It is none of ``FORMATS``, is damaged, or has more than ``MOST_PIXELS`` or grey
            values that say not what is white. Says why, but not which file.
    """
    if not content:
        raise DataError("empty file")
    try:
        with _opened(content) as image:
            return _rgb(image)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"no picture in a format that is read ({', '.join(FORMATS)})") from None
    # What decoders raise on damaged files is no list that anybody keeps.
    except Exception as error:
        raise DataError(str(error) or type(error).__name__) from error


def _opened(content: bytes) -> Image.Image:
    # Pillow's limit is the whole process's, and far below what a phone's camera makes.
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(content), formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _rgb(image: Image.Image) -> Image.Image:
    pixels = image.width * image.height
    if pixels > MOST_PIXELS:
        raise DataError(
            f"{pixels / 1e6:.0f} million pixels, more than the {MOST_PIXELS // 10**6} that are "
            "read: make it smaller"
        )
    image.load()
    turn = _TURNS.get(_orientation(image))
    rgb = _eight_bits(image).convert("RGB")
    return rgb if turn is None else rgb.transpose(turn)


def _eight_bits(image: Image.Image) -> Image.Image:
    """The picture, if it is grey of more than 8 bits as grey of 8."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        # Pillow scales to 16 bits, but leaves the 12 bits of a TIFF as they are.
        bits = image.tag_v2[BITSPERSAMPLE][0] if isinstance(image, TiffImageFile) else 16
        values = np.asarray(image).astype(np.float64) / (2**bits - 1)
        return _grey(values, image)
    if image.mode == "I":
        raise DataError("grey of 32 bits says not which value is white: save it with 8 or 16 bits")
    if image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        if not (values.min() >= 0 and values.max() <= 1):
            raise DataError(
                "grey in floating point must lie in 0 to 1, but here is "
                f"{values.min():g} to {values.max():g}: save it with 8 or 16 bits"
            )
        return _grey(values, image)
    return image


def _grey(values: npt.NDArray[np.float64], image: Image.Image) -> Image.Image:
    """float64 [H, W] in 0..1 as a picture of 8 bits."""
    # In a TIFF 0 may be white, which Pillow heeds where values have at most 8 bits.
    if isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0:
        values = 1 - values
    return Image.fromarray(np.rint(255 * values).astype(np.uint8))


def _orientation(image: Image.Image) -> int:
    """EXIF's, 1 to 8; 1, which is upright, if there is none or it cannot be read."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    # Damage beside a sound picture: viewers show it as it is, too.
    except Exception:
        return 1
