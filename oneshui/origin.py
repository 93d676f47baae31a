"""With what a number was computed: code, packages, device, precision."""

from __future__ import annotations

import contextlib
import functools
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from oneshui.spec import Precision

PACKAGES = ("oneshui", "torch", "torchvision", "timm", "scikit-learn", "numpy", "pandas")
"""Those that a number depends on."""


def git_commit() -> str | None:
    """Commit of the checkout that this file belongs to, if it is one; says so if it was changed."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != root:
            return None
        commit = git("rev-parse", "HEAD")
        return f"{commit} with uncommitted changes" if git("status", "--porcelain") else commit
    except (OSError, subprocess.SubprocessError):
        return None


def versions(*further: str) -> dict[str, str]:
    """Versions of Python, of the packages that numbers depend on, and of further packages."""
    found = {"python": platform.python_version()}
    for package in (*PACKAGES, *further):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


@functools.cache
def origin_of(device: str, precision: Precision = "auto") -> dict[str, str]:
    """What results that are computed on the device from now on were made with.

    Args:
        device: As torch calls it, for example "cpu" or "cuda".
        precision: What was asked for.

    Returns:
        "commit" ("unknown" outside a checkout), "versions" (packages with theirs), "device" (of an
        accelerator its model) and "precision" of training and prediction.
    """
    import torch

    from oneshui.accelerator import is_accelerator, policy_of, title_of

    where = torch.device(device)
    return {
        "commit": git_commit() or "unknown",
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "device": title_of(where) if is_accelerator(where) else device,
        "precision": policy_of(where, precision).precision,
    }
