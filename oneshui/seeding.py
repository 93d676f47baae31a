"""Where every random number of oneshui comes from.

Nothing in the package draws from a global random state: each use derives a seed of its own from
what it is for, so results do not depend on what ran before. For code that users bring, the shared
states are seeded before every job.
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


def seed_shared(seed: int) -> None:
    """Seed the random numbers that a whole process shares; what we write has generators of its own.

    Args:
        seed: Any number from 0 on; of a large one each library takes the lowest bits.
    """
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed % 2**63)
