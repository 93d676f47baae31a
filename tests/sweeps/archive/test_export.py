"""A sweep in one file: what a stranger gets, what is left out, and that it is told from loss."""

from __future__ import annotations

import dataclasses
import subprocess
import tarfile
from collections.abc import Collection
from pathlib import Path

import pytest
from support.inline_sweep import InlineSweep

from oneshui.errors import InputError
from sweeps.archive.export import Exported, check_target, export
from sweeps.graph.artifacts import PIXELS, SUPPORT, WEIGHTS, Without
from sweeps.graph.plan import Plan
from sweeps.report.analyses import write as write_analyses
from sweeps.report.people import resamples
from sweeps.report.results import results_frame
from sweeps.store import DamagedEntryError, LocalStore
from sweeps.store.base import LeftOutError
from sweeps.store.status import scan

ALL: tuple[Without, ...] = ("weights", "images")


def exported(
    sweep: InlineSweep, to: Path, without: Collection[Without] = ALL, output: Path | None = None
) -> Exported:
    entries = scan(sweep.plan, sweep.store, discard=False).entries
    return export(sweep.plan, entries, output or sweep.env.logs.parent, to, without, {})


def unpacked(archive: Path, folder: Path) -> Path:
    """As a stranger does it."""
    folder.mkdir()
    subprocess.run(["tar", "--zstd", "-xf", str(archive), "-C", str(folder)], check=True)
    (found,) = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def archive(one: InlineSweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("archive") / "one.tar.zst"
    exported(one, to)
    return to


def test_a_stranger_has_every_number_and_no_weights_or_pictures(
    one: InlineSweep, archive: Path, tmp_path: Path
) -> None:
    folder = unpacked(archive, tmp_path / "there")
    assert folder.name == "smoke"
    names = {path.name for path in folder.rglob("*")}
    assert not names & {WEIGHTS, PIXELS, SUPPORT, "prepared.safetensors"}
    check = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    subprocess.run(check, cwd=folder, check=True)
    found = scan(one.plan, LocalStore(folder / "store"), discard=False, is_thorough=True)
    assert not found.reasons
    assert not found.damage
    own = scan(one.plan, one.store, discard=False).entries
    assert results_frame(one.plan, found.entries).equals(results_frame(one.plan, own))
    assert resamples(one.plan, found.entries).equals(resamples(one.plan, own))
    for entries, name in ((own, "own"), (found.entries, "there")):
        (tmp_path / f"{name}-tables").mkdir()
        write_analyses(one.plan, entries, tmp_path / f"{name}-tables")
    for path in (tmp_path / "own-tables").iterdir():
        assert path.read_bytes() == (tmp_path / "there-tables" / path.name).read_bytes()


def test_the_same_results_give_the_same_bytes(
    one: InlineSweep, archive: Path, tmp_path: Path
) -> None:
    """Also where the files are others' and of another time."""
    folder = unpacked(archive, tmp_path / "there")
    store = LocalStore(folder / "store")
    entries = scan(one.plan, store, discard=False).entries
    export(one.plan, entries, folder, tmp_path / "again.tar.zst", ALL, {})
    assert (tmp_path / "again.tar.zst").read_bytes() == archive.read_bytes()
    text = subprocess.run(
        ["tar", "--zstd", "-tvf", str(archive)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert all(line.split()[:2] == ["-rw-r--r--", "0/0"] for line in text)
    assert all(" 1970-01-01 " in line for line in text)


def test_what_was_left_out_is_told_from_what_was_lost(
    one: InlineSweep, archive: Path, tmp_path: Path
) -> None:
    store = LocalStore(unpacked(archive, tmp_path / "there") / "store")
    row = next(row for row in one.plan.results if row.row.name == "ssd")
    entry = store.find("unlearn", row.model_key)
    assert entry is not None
    assert entry.left_out == {WEIGHTS}
    with pytest.raises(LeftOutError, match=f"{WEIGHTS} of unlearn/{row.model_key} was left out"):
        entry.file(WEIGHTS)
    note = entry.folder / "left_out.json"
    note.write_text(note.read_text().replace('"sha256": "', '"sha256": "0'))
    with pytest.raises(DamagedEntryError, match="is damaged"):
        store.find("unlearn", row.model_key)
    score = store.root / "score" / row.score_key
    next(score.glob("*.parquet")).unlink()
    with pytest.raises(DamagedEntryError, match="is damaged"):
        store.find("score", row.score_key)


def test_what_a_new_row_needs_is_computed_again(
    one: InlineSweep, archive: Path, tmp_path: Path
) -> None:
    """And nothing else: what has no use for weights or pictures stays as it is."""
    store = LocalStore(unpacked(archive, tmp_path / "there") / "store")
    row = next(row for row in one.plan.results if row.row.name == "ssd")
    store.remove("unlearn", row.model_key)
    calm = scan(one.plan, store, discard=False)
    assert calm.reasons == {row.model_key: "new"}
    found = scan(one.plan, store, discard=False, to_run=True)
    again = {one.plan.jobs[key].stage for key, why in found.reasons.items() if why == "left out"}
    assert again == {"pretrain", "split", "cache", "prepare"}
    env = dataclasses.replace(one.env, store=store)
    sweep = dataclasses.replace(one, env=env)
    for key, job in one.plan.jobs.items():
        if key in found.reasons:
            assert sweep.execute(job) is None
    assert not scan(one.plan, store, discard=False).reasons
    entry = store.find("pretrain", one.plan.jobs[row.model_key].inputs["pretrained"])
    assert entry is not None
    assert entry.file(WEIGHTS).is_file()


def test_only_what_the_plan_reaches_is_handed_on(
    one: InlineSweep, other: InlineSweep, tmp_path: Path
) -> None:
    entries = scan(other.plan, other.store, discard=False).entries
    entries = {**entries, **scan(one.plan, one.store, discard=False).entries}
    found = export(other.plan, entries, tmp_path, tmp_path / "x.tar.zst", [], {})
    assert found.entries == len(other.plan.jobs) < len(entries)
    assert found.left_out == 0
    folder = unpacked(tmp_path / "x.tar.zst", tmp_path / "there")
    stored = {path.parent.name for path in folder.glob("store/*/*/result.json")}
    assert stored == set(other.plan.jobs)


def test_a_page_with_real_faces_stays_at_home(one: InlineSweep, tmp_path: Path) -> None:
    """Pictures are left out of the report as they are of the results; drawn ones show nobody."""
    report = tmp_path / "report"
    (report / "figures").mkdir(parents=True)
    for name in ("summary.csv", "index.html", "figures/support_sheet-synthetic_tiny-n4.png"):
        (report / name).write_text("x")
    (tmp_path / "outside").write_text("private")
    (report / "link").symlink_to(tmp_path / "outside")
    datasets = one.plan.sweep.datasets
    brought = {
        name: dataclasses.replace(dataset, generate=None) for name, dataset in datasets.items()
    }
    real: Plan = dataclasses.replace(
        one.plan, sweep=dataclasses.replace(one.plan.sweep, datasets=brought)
    )
    held: dict[str, list[str]] = {}
    for which, plan in (("drawn", one.plan), ("real", real)):
        export(plan, {}, tmp_path, tmp_path / f"{which}.tar.zst", ["images"], {})
        folder = unpacked(tmp_path / f"{which}.tar.zst", tmp_path / which)
        held[which] = sorted(path.name for path in (folder / "report").rglob("*.*"))
    assert held["real"] == ["summary.csv"]
    assert held["drawn"] == ["index.html", "summary.csv", "support_sheet-synthetic_tiny-n4.png"]


def test_a_lost_file_ends_the_export_and_leaves_nothing(
    archive: Path, one: InlineSweep, tmp_path: Path
) -> None:
    store = LocalStore(unpacked(archive, tmp_path / "there") / "store")
    entries = scan(one.plan, store, discard=False).entries
    row = one.plan.results[0]
    path = next((store.root / "score" / row.score_key).glob("*.parquet"))
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(DamagedEntryError, match="has changed since it was written"):
        export(one.plan, entries, tmp_path, tmp_path / "x.tar.zst", ALL, {})
    assert [one.name for one in tmp_path.iterdir()] == ["there"]


def test_a_place_that_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end with \.tar\.zst"):
        check_target(tmp_path / "x.zip", replace=False)
    with pytest.raises(InputError, match="there is no folder"):
        check_target(tmp_path / "none" / "x.tar.zst", replace=False)
    (tmp_path / "x.tar.zst").write_text("precious")
    with pytest.raises(InputError, match="is there already; name another file, or say replace"):
        check_target(tmp_path / "x.tar.zst", replace=False)
    check_target(tmp_path / "x.tar.zst", replace=True)


def test_it_is_read_by_nothing_but_tar(archive: Path) -> None:
    """No name leads out of the folder that it unpacks to."""
    import pyarrow as pa

    with (
        pa.CompressedInputStream(str(archive), "zstd") as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        members = tar.getmembers()
    assert all(one.isreg() and one.name.startswith("smoke/") for one in members)
    assert not any(".." in one.name for one in members)
