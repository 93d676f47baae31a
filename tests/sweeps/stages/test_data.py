"""The first stages: what an index counts, what is decoded how, who is in which set."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from support.inline_sweep import InlineSweep
from support.stage_contexts import (
    changed,
    context_of,
    entry_of,
    identity_of_rows,
    jobs_of,
)

from oneshui.data import cache as decoding
from oneshui.data import contents
from oneshui.data.registry import load_dataset
from oneshui.data.splits import make_split
from oneshui.errors import DataError, InputError
from sweeps.stages import data


def test_an_index_counts_the_people_who_have_pictures(
    cells: InlineSweep, draft: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = jobs_of(cells, "index")
    real = load_dataset

    def load(*arguments: Any) -> Any:
        table = real(*arguments)
        return dataclasses.replace(table, identity_order=(*table.identity_order, 10_000))

    monkeypatch.setattr(data, "load_dataset", load)
    value = data.index(context_of(cells, job, draft))
    table = pd.read_parquet(draft / "images.parquet")
    assert value["num_identities"] == table["identity"].nunique()
    assert value["num_images"] == len(table)
    order = pd.read_parquet(draft / "identities.parquet")["identity"].tolist()
    assert len(order) == value["num_identities"] + 1


@pytest.mark.parametrize("variant", ["corrected", "reference"])
def test_pictures_are_resized_as_the_job_says(
    cells: InlineSweep, draft: Path, variant: Any
) -> None:
    (job,) = jobs_of(cells, "cache", size=32)
    job = changed(job, size=24, variant=variant)
    assert data.cache(context_of(cells, job, draft))["size"] == 24
    (index,) = jobs_of(cells, "index")
    path = pd.read_parquet(entry_of(cells, index.key).folder / "images.parquet")["path"][5]
    table = load_dataset(index.spec["layout"], cells.env.data_folder(index.key))
    expected = decoding.decode((table.root / path).read_bytes(), 24, variant)
    assert np.array_equal(np.load(draft / "images.npy")[5], expected)
    opposite: Any = "corrected" if variant == "reference" else "reference"
    other = decoding.decode((table.root / path).read_bytes(), 24, opposite)
    assert not np.array_equal(expected, other)


def test_pictures_that_changed_since_they_were_indexed_are_refused(
    cells: InlineSweep, draft: Path
) -> None:
    (job,) = jobs_of(cells, "cache", size=32)
    context = context_of(cells, job, draft)
    stale = dataclasses.replace(
        context.entries["index"],
        value={**context.entries["index"].value, "fingerprint": "another"},
    )
    context = dataclasses.replace(context, entries={"index": stale})
    with pytest.raises(DataError, match="changed while the sweep ran"):
        data.cache(context)


def test_pictures_are_hashed_once_for_a_store(
    cells: InlineSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "SETTLED_SECONDS", -1.0)
    (index,) = jobs_of(cells, "index")
    table = load_dataset(index.spec["layout"], cells.env.data_folder(index.key))
    first = data.contents_of(table, cells.store)
    stored = pd.read_parquet(entry_of(cells, index.key).folder / "images.parquet")
    assert stored["content"].tolist() == list(first)
    read = Path.read_bytes

    def unless_a_picture(path: Path) -> bytes:
        assert path.parent != table.root
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", unless_a_picture)
    assert data.contents_of(table, cells.store) == first


def test_a_picture_exchanged_since_it_was_indexed_is_named(
    cells: InlineSweep, draft: Path, tmp_path: Path
) -> None:
    (job,) = jobs_of(cells, "cache", size=32)
    job = changed(job, size=20)
    (index,) = jobs_of(cells, "index")
    copy = tmp_path / "pictures"
    shutil.copytree(cells.env.data_folder(index.key), copy)
    env = dataclasses.replace(cells.env, data_folders={index.key: copy})
    context = dataclasses.replace(context_of(cells, job, draft), env=env)
    root = load_dataset(index.spec["layout"], copy).root
    (root / "7.jpg").write_bytes((root / "8.jpg").read_bytes())
    with pytest.raises(DataError, match=r"1 of \d+ .*7\.jpg \(changed since"):
        data.cache(context)
    # What was decoded is of use once the picture is restored.
    kept = cells.env.data_folder(index.key) / root.relative_to(copy) / "7.jpg"
    (root / "7.jpg").write_bytes(kept.read_bytes())
    assert data.cache(context)["num_images"] == len(load_dataset(index.spec["layout"], copy))
    assert not cells.store.unfinished(job).exists()


def test_a_split_is_drawn_by_its_walk(cells: InlineSweep, draft: Path) -> None:
    job = jobs_of(cells, "split")[0]
    assert job.spec["walk"] == "reference"
    identity = np.repeat(np.arange(25), np.random.default_rng(0).integers(2, 30, size=25))
    drawn = {}
    for walk in ("reference", "corrected"):
        context = context_of(cells, changed(job, num_forget=2, split_seed=0, walk=walk), draft)
        rows = len(context.identities)
        context.__dict__["identities"] = np.resize(identity, rows)
        data.split(context)
        drawn[walk] = json.loads((draft / "split.json").read_text())["train"]
    assert drawn["reference"] != drawn["corrected"]


def test_people_need_as_many_pictures_as_the_job_says(cells: InlineSweep, draft: Path) -> None:
    job = jobs_of(cells, "split")[0]
    most = int(np.unique(identity_of_rows(cells), return_counts=True)[1].max())
    data.split(context_of(cells, changed(job, min_images=most), draft))
    with pytest.raises(InputError, match=f" 0 have the {most + 1} images"):
        data.split(context_of(cells, changed(job, min_images=most + 1), draft))


def test_a_split_keeps_out_whom_reported_cells_forget(cells: InlineSweep, draft: Path) -> None:
    first, second = jobs_of(cells, "split")
    of_first, of_second = (
        json.loads((entry_of(cells, job.key).folder / "split.json").read_text())
        for job in (first, second)
    )
    for others, reserved in (
        ([second], set(of_second["forget"])),
        ([first, second], {*of_first["forget"], *of_second["forget"]}),
    ):
        series = {"reported": tuple(job.key for job in others)}
        data.split(context_of(cells, dataclasses.replace(first, series=series), draft))
        document = json.loads((draft / "split.json").read_text())
        assert document["reserved"] == sorted(reserved)
        assert len(document["forget"]) == len(of_first["forget"])
        assert not set(document["forget"]) & reserved
        for name in ("train", "val", "test"):
            assert document[name] == of_first[name]
    assert "reserved" not in of_first


def test_a_split_is_drawn_by_its_two_seeds(cells: InlineSweep, draft: Path) -> None:
    job = changed(jobs_of(cells, "split")[0], num_forget=2, split_seed=3, support_seed=8)
    data.split(context_of(cells, job, draft))
    identity = identity_of_rows(cells)
    (index,) = jobs_of(cells, "index")
    order = pd.read_parquet(entry_of(cells, index.key).folder / "identities.parquet")
    known = make_split(identity, order["identity"].tolist(), num_forget=2, seed=3, support_seed=8)
    document = json.loads((draft / "split.json").read_text())
    for name in ("train", "val", "test", "forget", "retain", "support"):
        assert document[name] == list(getattr(known, name)), name
    others = [
        make_split(identity, order["identity"].tolist(), num_forget=2, seed=seed, support_seed=s)
        for seed, s in ((3, 3), (8, 8))
    ]
    assert known.support not in [other.support for other in others]
    stored = load_file(draft / "support.safetensors")
    assert stored["identities"].tolist() == document["forget"]
    pixels = np.load(entry_of(cells, job.inputs["cache"]).folder / "images.npy")
    assert np.array_equal(stored["images"].numpy(), pixels[document["support"]])
    table = pd.read_parquet(entry_of(cells, index.key).folder / "images.parquet")
    labels = np.stack(table["label"].to_list())[document["support"]]
    assert torch.equal(stored["labels"], torch.from_numpy(labels).float())
