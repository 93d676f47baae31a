"""Which keys the precision of training and prediction is part of."""

from __future__ import annotations

from oneshui.spec import ModelSpec
from sweeps.config import load
from sweeps.graph.job import Stage
from sweeps.graph.plan import expand

SWEEP = ("sweep=smoke", "sweep.seeds=[0]", "profile=tuned", "tuning.rows=[ssd]")
SHARED: set[Stage] = {"index", "cache", "split", "weights"}


def stages_of(*overrides: str) -> dict[str, Stage]:
    return {key: job.stage for key, job in expand(load([*SWEEP, *overrides]).sweep).jobs.items()}


def test_auto_is_as_if_nothing_was_said() -> None:
    assert stages_of("precision=auto") == stages_of()
    assert "precision" not in ModelSpec().to_json()


def test_all_that_computes_with_the_network_has_it_in_its_key_and_nothing_else() -> None:
    usual = stages_of()
    for precision in ("float32", "bfloat16"):
        found = stages_of(f"precision={precision}")
        assert {usual[key] for key in usual.keys() & found.keys()} == SHARED & {*usual.values()}
        assert sorted(found.values()) == sorted(usual.values())
    both = stages_of("precision=float32").keys() & stages_of("precision=bfloat16").keys()
    assert {usual[key] for key in both} <= SHARED


def test_published_weights_are_the_same_for_every_precision() -> None:
    imagenet = ("sweep.model.weights=imagenet",)
    keys = [
        {key for key, stage in stages_of(*imagenet, *more).items() if stage == "weights"}
        for more in ((), ("precision=bfloat16",))
    ]
    assert keys[0] == keys[1] != set()


def test_the_command_s_precision_comes_before_the_sweep_s() -> None:
    own = "sweep.model.precision=bfloat16"
    assert load([own]).sweep.model.precision == "bfloat16"
    assert load([own, "precision=float32"]).sweep.model.precision == "float32"
    assert load([]).sweep.model.precision == "auto"
