"""Pictures that look the same although their files differ: scaled, recompressed, brightened.

Candidates have nearly equal difference hashes, 64 bits that say where a picture gets brighter to
the right. Aligned portraits share much of that, so candidates are compared once more as
thumbnails. Imports numpy and Pillow only.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

#: Bits by which the hashes of a pair differ at most.
LARGEST_DISTANCE: Final = 6
#: Mean difference of a pair's thumbnails at most, of 255, after their means are made equal.
LARGEST_DIFFERENCE: Final = 4.0
#: Pairs after which the search ends: a set with more is broken in some other way.
MOST_PAIRS: Final = 20_000

_THUMBNAIL_SIDE: Final = 16
_BLOCK: Final = 2**22

Thumbnail = npt.NDArray[np.uint8]


def thumbnail(image: Image.Image) -> Thumbnail:
    """A picture in grey, uint8 [256]: 16 x 16 pixels."""
    side = (_THUMBNAIL_SIDE, _THUMBNAIL_SIDE)
    small = image.convert("L").resize(side, Image.Resampling.BOX)
    return np.asarray(small, dtype=np.uint8).ravel()


def difference_hashes(thumbnails: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """The 64 bits of every thumbnail [n, 256]: which of 8 x 9 neighbours gets brighter."""
    square = thumbnails.reshape(-1, _THUMBNAIL_SIDE, _THUMBNAIL_SIDE).astype(np.float32)
    rows = square.reshape(-1, 8, 2, _THUMBNAIL_SIDE).mean(axis=2)
    places = np.linspace(0, _THUMBNAIL_SIDE - 1, 9)
    left = np.minimum(places.astype(int), _THUMBNAIL_SIDE - 2)
    share = (places - left).astype(np.float32)
    nine = rows[:, :, left] * (1 - share) + rows[:, :, left + 1] * share
    bits = (nine[:, :, 1:] > nine[:, :, :-1]).reshape(-1, 64)
    hashes: npt.NDArray[np.uint64] = np.packbits(bits, axis=1).view(np.uint64).ravel()
    return hashes


def near_pairs(thumbnails: npt.NDArray[np.uint8]) -> list[tuple[int, int]]:
    """The pairs (earlier, later) of thumbnails uint8 [n, 256] that look the same.

    At most ``MOST_PAIRS`` of them. All hashes are compared in blocks: 30,000 pictures take seconds.
    """
    hashes = difference_hashes(thumbnails)
    pairs: list[tuple[int, int]] = []
    rows = max(1, _BLOCK // max(len(hashes), 1))
    for start in range(0, len(hashes), rows):
        block = hashes[start : start + rows, None] ^ hashes[None, start:]
        close = np.bitwise_count(block) <= LARGEST_DISTANCE
        first, second = np.nonzero(np.triu(close, 1))
        for part in range(0, len(first), rows):
            one, other = first[part : part + rows] + start, second[part : part + rows] + start
            same = _difference(thumbnails[one], thumbnails[other]) <= LARGEST_DIFFERENCE
            pairs += zip(one[same].tolist(), other[same].tolist(), strict=True)
            if len(pairs) >= MOST_PAIRS:
                return pairs[:MOST_PAIRS]
    return pairs


def _difference(
    one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    """Mean absolute difference of pairs of thumbnails [p, 256] of equal brightness, float32 [p]."""
    gap = one.astype(np.float32) - other
    gap -= gap.mean(axis=1, keepdims=True)
    mean: npt.NDArray[np.float32] = np.abs(gap).mean(axis=1)
    return mean
