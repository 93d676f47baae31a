"""ASSD's threshold with sorted lists, one weight at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence


def alpha(
    forget: Sequence[float], original: Sequence[float], num_forgotten: float, num_images: float
) -> float:
    ratios = sorted(f / o for f, o in zip(forget, original, strict=True) if o > 0)
    share = math.log(1 + 100 * num_forgotten / num_images) / 100
    place = (1 - share) * (len(ratios) - 1)
    below = int(place)
    if below + 1 == len(ratios):
        return ratios[below]
    return ratios[below] + (place - below) * (ratios[below + 1] - ratios[below])
