"""IAM's completeness, a picture and a step at a time."""

import math
from statistics import pstdev


def completeness(own: float, place: int, pretrained: list[float], stranger: list[float]) -> float:
    """Of one picture, from the signals of all pictures and one model that never saw them."""
    above = total = 0.0
    for step in range(1, 99):
        share = step / 99
        between = [s + share * (o - s) for s, o in zip(stranger, pretrained, strict=True)]
        scale = pstdev(between) * math.sqrt(6) / math.pi
        location = between[place] - 0.57721566490153286 * scale
        above += share * math.exp(-math.exp(-(own - location) / scale))
        total += share
    return 1 - above / total
