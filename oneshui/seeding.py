"""Where every random number of oneshui comes from.

Nothing here or elsewhere in the package reads or moves a global random state: each use derives a
seed of its own from what it is for, so results do not depend on what ran before.
"""

from __future__ import annotations

import hashlib
import json
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(*parts: str | int) -> int:
    """A seed in [0, 2**63) that depends on every part and on their order.

    Args:
        parts: What the seed is for, for example ``(3, "training", "shuffle")``.
    """
    text = json.dumps(parts, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(*parts: str | int) -> torch.Generator:
    """A CPU generator seeded by ``derive_seed(*parts)``."""
    import torch

    generator = torch.Generator()
    generator.manual_seed(derive_seed(*parts))
    return generator


def python_random(seed: int) -> random.Random:
    """Python's Mersenne Twister, because the paper's splits are defined by its stream."""
    return random.Random(seed)
