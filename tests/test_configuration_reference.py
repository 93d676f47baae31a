"""docs/configuration.md is what its generator writes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_committed_page_is_what_the_generator_writes() -> None:
    spec = importlib.util.spec_from_file_location(
        "configuration_reference", ROOT / "scripts" / "configuration_reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    committed = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert committed == generator.page(), "run: uv run python scripts/configuration_reference.py"
    assert "| `sweep.seeds` |" in committed
    assert "| `cluster.workers` |" in committed
