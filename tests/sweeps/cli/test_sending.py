"""Where report and logs are sent, and that what was withdrawn does not stay there."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from support.buckets import names

from oneshui.errors import InputError
from sweeps.cli.sending import destination, send, send_away
from sweeps.config import load
from sweeps.store.objects import Bucket


def written(output: Path, *files: str) -> None:
    for name in files:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text(f"of {name}")


def at(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("given", "to"),
    [
        ([], ""),
        (["store.uri=s3://b/store"], ""),
        (["cluster.head_idle_minutes=60"], ""),
        (["cluster.head_idle_minutes=60", "store.uri=s3://b/store"], "s3://b/store-results/full 1"),
        (["cluster.head_idle_minutes=60", "store.uri=s3://b/store", "report.copy_to=''"], ""),
        (["report.copy_to=gs://b/x/"], "gs://b/x"),
        (["report.copy_to=/shared/x"], "/shared/x"),
    ],
)
def test_the_destination(given: list[str], to: str) -> None:
    assert destination(load([*given, "output_dir='runs/full 1'"])) == to.replace(" ", "-")


def test_an_address_of_no_service_is_refused() -> None:
    with pytest.raises(InputError, match=r"report\.copy_to 'ftp://b/x' is not supported"):
        destination(load(["report.copy_to=ftp://b/x"]))


LIST = "report/.sent.json"
FILES = ("report/index.html", "report/figures/faces.png", "report/.state", "logs/a.log")


def test_a_folder_has_what_the_output_folder_has(tmp_path: Path) -> None:
    output, to = tmp_path / "out", tmp_path / "to"
    written(output, *FILES, "store/big")
    (output / "report/link").symlink_to("/etc/passwd")
    assert send(output, str(to)) == 4
    assert at(to) == {*FILES, LIST}
    assert (to / "report/index.html").read_text() == "of report/index.html"
    written(to, "report/somebody's.txt")
    (output / "report/figures/faces.png").unlink()
    (output / "logs/a.log").rename(output / "logs/b.log")
    send(output, f"file://{to}")
    own = {"report/index.html", "report/.state", LIST, "logs/a.log", "logs/b.log"}
    assert at(to) == {*own, "report/somebody's.txt"}


def test_a_bucket_has_what_the_output_folder_has(tmp_path: Path, address: str) -> None:
    output, to = tmp_path / "out", f"{address}-results/full"
    written(output, *FILES)
    assert send(output, to) == 4
    assert set(names(Bucket(to))) == {*FILES, LIST}
    Bucket(to).put("report/somebody's.txt", b"")
    (output / "report/figures/faces.png").unlink()
    (output / "logs/a.log").unlink()
    send(output, to)
    left = {*FILES, LIST, "report/somebody's.txt"} - {"report/figures/faces.png"}
    assert set(names(Bucket(to))) == left


@pytest.mark.parametrize("text", ['["../kept", "report/../kept", "kept", 3]', "{", "{}"])
def test_a_list_that_was_changed_takes_nothing_else_away(text: str, tmp_path: Path) -> None:
    output, to = tmp_path / "out", tmp_path / "to"
    written(output, *FILES)
    written(to, "kept", LIST)
    (to / LIST).write_text(text)
    send(output, str(to))
    assert at(to) == {*FILES, LIST, "kept"}


def test_without_a_report_the_one_that_is_there_stays(tmp_path: Path) -> None:
    output, to = tmp_path / "out", tmp_path / "to"
    written(to, "report/index.html")
    written(output, "logs/a.log")
    assert send(output, str(to)) == 1
    assert at(to) == {"report/index.html", "logs/a.log"}
    assert send(tmp_path / "none", str(to)) == 0


def test_what_cannot_be_sent_ends_nothing(tmp_path: Path) -> None:
    said = io.StringIO()
    written(tmp_path, "logs/a.log", "file")
    console = Console(file=said, width=200)
    assert not send_away(tmp_path, str(tmp_path / "file" / "below"), console)
    assert "warning: report and logs were not sent: " in said.getvalue()
    assert not send_away(tmp_path, "", console)
    assert send_away(tmp_path, str(tmp_path / "to"), console)
    assert f"report and logs, 1 file, are at {tmp_path / 'to'}" in said.getvalue()
