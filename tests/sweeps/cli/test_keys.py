"""Every key of the configuration, with its values, its default and what it is."""

from __future__ import annotations

import pytest

from sweeps.cli.keys import Key, keys
from sweeps.composition import shipped

KEYS = {key.name: key for key in keys()}


def leaves(tree: object, name: str = "") -> set[str]:
    """The keys of a shipped configuration, down to what the user names."""
    if not isinstance(tree, dict) or name in ("sweep.rows", "sweep.model.options", "sweep.tuning"):
        return {name}
    return {
        leaf for key, child in tree.items() for leaf in leaves(child, f"{name}.{key}".strip("."))
    }


def test_every_key_of_the_shipped_files_is_there() -> None:
    named = leaves({**shipped("full"), "datasets": {}}) - {"datasets"}
    named |= {f"datasets.<name>.{key}" for key in leaves(shipped("demo")["datasets"]["synthetic"])}
    assert named <= set(KEYS)


@pytest.mark.parametrize("name", KEYS)
def test_every_key_is_described_in_words(name: str) -> None:
    assert len(KEYS[name].text) > 8
    assert KEYS[name].values


@pytest.mark.parametrize(
    ("name", "values", "defaults"),
    [
        ("sweep", None, {"": "demo"}),
        ("scale", "paper, toy", {"": "paper"}),
        ("mode", None, {"": "run"}),
        ("report.margin", "number", {"": "0.02"}),
        ("tuning.sampler", "tpe, random, grid, cmaes, gp", {"": "tpe"}),
        ("tuning.trials", "whole number", {"": "24"}),
        ("tuning.rows", "list of texts or null", {"": "null"}),
        ("sweep.seeds", "list of whole numbers", {"demo": "[0, 1, 2]", "full": "[0, 1, 2]"}),
        ("sweep.views", "whole number", {"demo": "2", "full": "8"}),
        ("sweep.training.epochs", "whole number", {"demo": "12", "full": "30"}),
        ("cluster.max_job_hours", "number", {"": "48.0"}),
        ("cluster.stages.<name>.gpus", "number or null", {"": "null"}),
        ("cluster.machines.<name>.most", "whole number", {}),
        ("datasets.<name>.generate.size", "whole number", {"": "64"}),
    ],
)
def test_values_and_defaults_are_those_of_the_schema_and_the_files(
    name: str, values: str | None, defaults: dict[str, str]
) -> None:
    key: Key = KEYS[name]
    assert key.defaults == defaults
    assert values in (None, key.values)


def test_text_comes_from_the_class_or_from_the_comment_beside_the_key() -> None:
    assert KEYS["cluster.pack_gpus"].text == (
        "Whether GPU shares follow the memory that the first job of a kind needed."
    )
    assert KEYS["tuning.rows"].text == "only these rows"
    assert "None" not in KEYS["cluster.gpus_per_worker"].text
