"""A kit that is made in two goes, in what order, and for whom."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.company import KIT, PREPARE, Company
from support.inline_command import Ended, inline_command

import sweeps.erasure.jobs
from oneshui.data.loaders.own_table import load_table, read_sets
from oneshui.errors import InputError, MethodError
from sweeps.erasure.preparing import divided
from sweeps.graph.job import Job
from sweeps.stages.run import run as stage_run


@pytest.fixture
def own(before_deletion: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Company:
    """A copy of the company that still has its data, as the working folder."""
    shutil.copytree(before_deletion.folder, tmp_path / "own")
    monkeypatch.chdir(tmp_path / "own")
    return Company(tmp_path / "own")


@pytest.mark.usefixtures("own")
def test_a_crash_loses_no_finished_trial(
    made: tuple[Path, Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: Counter[str] = Counter()
    run = stage_run

    def until_the_end_of_ssd(job: Job, *rest: object) -> object:
        if job.spec.get("method") == "gradient_ascent":
            raise MethodError("the machine is gone")
        ran[job.key] += 1
        return run(job, *rest)  # type: ignore[arg-type]

    def counted(job: Job, *rest: object) -> object:
        ran[job.key] += 1
        return run(job, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(sweeps.erasure.jobs, "run", until_the_end_of_ssd)
    ended = inline_command(*PREPARE, f"out={KIT}")
    assert (ended.status, ended.said.splitlines()[-1]) == (1, "launch.py: the machine is gone")
    assert not Path(KIT).exists()
    first = len(ran)
    assert first == 1 + 1 + 1 + 1 + 4  # index, cache, requests, preparation, trials

    monkeypatch.setattr(sweeps.erasure.jobs, "run", counted)
    assert inline_command(*PREPARE, f"out={KIT}").status == 0
    assert len(ran) == first + 4
    assert set(ran.values()) == {1}
    assert not Path(f"{KIT}.unfinished").exists()
    for file in (made[0] / KIT).iterdir():
        assert (Path(KIT) / file.name).read_bytes() == file.read_bytes()


def test_people_are_held_out_where_the_table_does_not_say_it(own: Company) -> None:
    table = pd.read_csv(own.folder / "train.csv").drop(columns="set")
    table.to_csv("unsaid.csv", index=False)
    loaded = load_table(Path("unsaid.csv"))
    assert read_sets(Path("unsaid.csv")) is None
    split, words = divided(loaded, None, seed=0)
    assert not set(split.train) & set(split.val)
    assert {*split.train, *split.val} == set(loaded.identity.tolist())
    held = np.isin(loaded.identity, split.val).mean()
    assert 0.2 <= held <= 0.3
    assert f"{len(split.val)} of its 24 people were held out by chance" in words
    assert "if it was trained on them" in words
    again, _ = divided(loaded, None, seed=1)
    assert set(again.val) != set(split.val)
    with pytest.raises(InputError, match="train and val need people each"):
        divided(loaded, ("train",) * len(loaded), seed=0)


def test_the_tables_own_sets_are_kept(own: Company) -> None:
    table = load_table(own.folder / "train.csv")
    split, words = divided(table, read_sets(own.folder / "train.csv"), seed=0)
    drawn = own.split
    assert (set(split.train), set(split.val)) == (set(drawn.train), set(drawn.val))
    assert "never saw 7 of its 24 people" in words
    assert table.class_names == tuple(f"class {letter}" for letter in "abcdef")


def test_a_method_that_gains_nothing_is_not_chosen(made: tuple[Path, Ended]) -> None:
    """What S says for it does not count: simulated requests must show that it gains."""
    kit = json.loads((made[0] / KIT / "kit.json").read_text())
    ssd = next(method for method in kit["methods"] if method["name"] == "ssd")
    assert set(ssd["expected"]) == {str(ssd["nothing"])}
    assert "ssd: no point is shown to gain" in made[1].said
