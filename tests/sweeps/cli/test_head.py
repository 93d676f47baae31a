"""The sign of life: what a driver writes, when, and what its command makes of the end."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from support.inline_command import inline_command
from support.processes import wait_for

from oneshui.errors import InputError
from sweeps.cli import head, reproduce, sending
from sweeps.cli.head import SignOfLife
from sweeps.config import load
from sweeps.graph.launch import Places
from sweeps.store.objects import Bucket

COMMAND = [
    "sweep=smoke",
    "sweep.datasets=[synthetic_tiny]",
    "sweep.methods=[pretrain,retrain]",
    "sweep.seeds=[0]",
]
IN_A_BUCKET = Places(store_uri="s3://bucket/store")


def signing(
    folder: Path, places: Places = IN_A_BUCKET, minutes: int = 120
) -> tuple[SignOfLife, io.StringIO]:
    said = io.StringIO()
    cluster = load([f"cluster.head_idle_minutes={minutes}"]).cluster
    console = Console(file=said, width=300)
    return SignOfLife(cluster, places, console, folder, seconds=0.02), said


def test_a_driver_signs_again_and_again_and_when_it_ends(tmp_path: Path) -> None:
    path = tmp_path / head.SIGN
    sign, said = signing(tmp_path)
    with sign:
        for _ in range(3):
            wait_for(path.exists, "a sign", 20)
            assert path.read_text() == "120\n"
            path.unlink()
        sign.is_done()
        wait_for(lambda: path.exists() and path.read_text() == "10\n", "the sign of the end", 20)
        path.unlink()
    assert path.read_text() == "10\n"
    assert said.getvalue() == ""
    assert list(tmp_path.iterdir()) == [path]


def test_a_head_that_never_ends_itself_is_told_so(tmp_path: Path) -> None:
    sign, _ = signing(tmp_path, minutes=0)
    with sign:
        sign.is_done()
    assert (tmp_path / head.SIGN).read_text() == "0\n"


def test_nothing_is_written_where_there_is_no_guard(tmp_path: Path) -> None:
    sign, said = signing(tmp_path / "none", Places(store_uri=str(tmp_path)))
    with sign:
        pass
    assert not (tmp_path / "none").exists()
    assert said.getvalue() == ""


def test_results_on_the_heads_own_disk_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "not" / "yet" / "store"
    monkeypatch.setattr(head, "ROOT", tmp_path)
    sign, said = signing(tmp_path, Places(store_uri=str(store)))
    with sign:
        pass
    assert (tmp_path / head.KEEP).read_text() == f"{store}\n"
    assert f"the head does not end itself: {store} is on its own disk" in said.getvalue()
    # A later sweep in a bucket makes them no safer.
    with signing(tmp_path)[0]:
        pass
    assert (tmp_path / head.KEEP).exists()


def test_a_folder_of_another_file_system_does_not_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "ROOT", Path("/proc"))
    sign, said = signing(tmp_path, Places(store_uri=str(tmp_path / "store")))
    with sign:
        pass
    assert not (tmp_path / head.KEEP).exists()
    assert said.getvalue() == ""


def test_a_head_that_cannot_be_signed_is_warned_of_once(tmp_path: Path) -> None:
    (tmp_path / head.SIGN / "in the way").mkdir(parents=True)
    sign, said = signing(tmp_path)
    with sign:
        wait_for(lambda: "warning" in said.getvalue(), "the warning", 20)
    assert said.getvalue().count("warning") == 1
    assert "the head may end itself while this sweep runs" in said.getvalue()


@pytest.mark.parametrize("minutes", [-1, 9, 100_001])
def test_minutes_that_make_no_sense_are_refused(minutes: int) -> None:
    with pytest.raises(InputError, match=r"cluster\.head_idle_minutes is"):
        load([f"cluster.head_idle_minutes={minutes}"])


@pytest.mark.slow
def test_a_sweep_that_is_done_and_sent_lets_the_head_end(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    signs = tmp_path / "signs"
    signs.mkdir()
    monkeypatch.setattr(head, "FOLDER", signs)
    command = [*COMMAND, f"output_dir={tmp_path / 'out'}", f"store.uri={address}"]
    command += ["cluster.head_idle_minutes=90"]

    refused = inline_command(*command, "sweep.datasets=[mufac]", f"data_dir={tmp_path}")
    assert refused.status == 2, refused.said
    assert (signs / head.SIGN).read_text() == "90\n"

    done = inline_command(*command)
    assert done.status == 0, done.said
    assert (signs / head.SIGN).read_text() == "10\n"
    there = f"{address}-results/out"
    assert f" files, are at {there}" in done.said
    page = (tmp_path / "out/report/index.html").read_bytes()
    found = Bucket(there).get("report/index.html")
    assert found is not None
    assert found[0] == page

    # Computing a row again keeps the machine as well.
    (signs / head.SIGN).unlink()

    def wait(*_: object) -> bool:
        wait_for((signs / head.SIGN).exists, "a sign", 20)
        return True

    monkeypatch.setattr(reproduce, "reproduce", wait)
    assert inline_command(*command, "mode=why", "run=true", "row=any").status == 0
    assert (signs / head.SIGN).read_text() == "90\n"

    # From a laptop that has neither output folder nor data.
    laptop = tmp_path / "laptop"
    told = ["mode=report", f"output_dir={laptop}", f"store.uri={address}", f"data_dir={laptop}"]
    rebuilt = inline_command(*COMMAND, *told)
    assert rebuilt.status == 0, rebuilt.said
    assert (laptop / "report" / "index.html").stat().st_size > 10_000

    # Done, but not where somebody finds it.
    monkeypatch.setattr(sending, "send", lambda *_: (_ for _ in ()).throw(OSError("no way")))
    again = inline_command(*command)
    assert again.status == 0, again.said
    assert "warning: report and logs were not sent: no way" in again.said
    assert (signs / head.SIGN).read_text() == "90\n"
