from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file
from support.golden import REDUCED, golden_folder, manifest

from scripts.reduce_golden import reduce

OURS = {"README.md", "manifest.json", Path(__file__).name}


def contents(folder: Path) -> dict[str, object]:
    """The bytes of every file of data, but of tensors what they hold."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".safetensors":
            tensors = load_file(path)
            found[name] = {k: (v.dtype, v.shape, v.flatten().tolist()) for k, v in tensors.items()}
        elif path.suffix == ".json":
            found[name] = path.read_bytes()
    return found


def test_it_stays_below_a_megabyte_and_lists_its_files() -> None:
    files = manifest(REDUCED)
    assert files is not None
    assert files.keys() == contents(REDUCED).keys() - OURS
    for name, kept in files.items():
        if kept is not None:
            assert kept == sorted(load_file(REDUCED / name))
    assert sum((REDUCED / name).stat().st_size for name in [*files, *OURS]) <= 1_000_000


def test_it_is_what_the_script_makes_of_the_full_set(tmp_path: Path) -> None:
    full = golden_folder()
    if manifest(full) is not None:
        pytest.skip("there is no full set; name it in ONESHUI_GOLDEN")
    reduce(full, tmp_path)
    assert contents(tmp_path) == contents(REDUCED)
