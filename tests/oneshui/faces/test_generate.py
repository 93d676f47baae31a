"""The generator that writes sets of synthetic faces."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from oneshui.errors import InputError
from oneshui.faces import ATTRIBUTES, picture_labels
from oneshui.faces.generate import (
    ANNOTATION,
    IDENTITY,
    IMAGES,
    MARKER,
    SUMS,
    FacesSpec,
    generate_celebahq,
    picture_jpeg,
    spoiled,
)

SPEC = FacesSpec(identities=12, pictures=3, size=20, seed=4)


def contents(folder: Path) -> dict[str, str]:
    """The digest of every file, by its path in the folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def identities(folder: Path) -> list[int]:
    lines = (folder / IDENTITY).read_text().splitlines()
    assert [line.split(" ")[0] for line in lines] == [f"{i}.jpg" for i in range(len(lines))]
    return [int(line.split(" ")[1]) for line in lines]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "faces"
    assert generate_celebahq(SPEC, folder)
    return folder


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("identities", 9),
        ("pictures", 1),
        ("size", 15),
        ("size", 2049),
        ("seed", -1),
        ("size", 64.0),
        ("seed", True),
    ],
)
def test_a_spec_names_the_field_that_is_out_of_range(field: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"{field} must be an integer .*, not {value!r}"):
        FacesSpec(**{field: value})  # type: ignore[arg-type]


def test_the_layout_is_celebahqs(made: Path) -> None:
    lines = (made / ANNOTATION).read_text().splitlines()
    assert lines[0] == "36"
    assert lines[1].split(" ") == list(ATTRIBUTES)
    assert len(lines) == 2 + 36
    for number, line in enumerate(lines[2:]):
        name, values = line.split("  ")
        assert name == f"{number}.jpg"
        assert len(values.split(" ")) == 40
        assert set(values.split(" ")) <= {"1", "-1"}
    assert {p.name for p in (made / IMAGES).iterdir()} == {f"{i}.jpg" for i in range(36)}
    for path in (made / IMAGES).iterdir():
        with Image.open(path) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (20, 20))
    assert {p.name for p in made.iterdir()} == {MARKER, SUMS, "CelebAMask-HQ"}
    assert [p.name for p in made.parent.iterdir()] == ["faces"]


def test_identities_are_complete_and_mixed(made: Path) -> None:
    owners = identities(made)
    assert sorted(owners) == sorted(list(range(12)) * 3)
    neighbours = sum(a == b for a, b in itertools.pairwise(owners))
    assert neighbours < 12


def test_every_picture_alone_gives_the_same_bytes_and_labels(made: Path) -> None:
    alone = {
        picture_jpeg(SPEC, identity, picture): (identity, picture)
        for identity in reversed(range(12))
        for picture in range(3)
    }
    rows = (made / ANNOTATION).read_text().splitlines()[2:]
    for number, owner in enumerate(identities(made)):
        identity, picture = alone[(made / IMAGES / f"{number}.jpg").read_bytes()]
        assert identity == owner
        labels = picture_labels(SPEC.seed, identity, picture)
        assert rows[number].split("  ")[1] == " ".join("1" if x else "-1" for x in labels)


def test_another_seed_gives_another_set(made: Path, tmp_path: Path) -> None:
    other = FacesSpec(identities=12, pictures=3, size=20, seed=5)
    generate_celebahq(other, tmp_path / "faces")
    first, second = contents(made), contents(tmp_path / "faces")
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first)


def test_two_workers_write_the_same_bytes_and_report_progress(made: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    folder = tmp_path / "deep" / "er" / "faces"
    assert generate_celebahq(SPEC, folder, workers=2, progress=lambda *c: calls.append(c))
    assert contents(folder) == contents(made)
    assert [total for _, total in calls] == [36, 36, 36]
    assert calls[-1] == (36, 36)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_a_finished_set_is_left_as_it_is(made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    assert not generate_celebahq(SPEC, made, progress=lambda *_: pytest.fail("drew something"))
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_an_empty_folder_is_filled(made: Path, tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    assert generate_celebahq(SPEC, tmp_path / "faces")
    assert contents(tmp_path / "faces") == contents(made)


def test_a_set_that_lost_files_gets_only_those_back(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    generate_celebahq(SPEC, folder)
    (folder / IMAGES / "5.jpg").unlink()
    (folder / IMAGES / "6.jpg").write_bytes(b"")
    (folder / IDENTITY).unlink()
    (folder / "notes.txt").write_text("mine")
    kept = (folder / IMAGES / "7.jpg").stat().st_mtime_ns
    calls: list[tuple[int, int]] = []
    assert generate_celebahq(SPEC, folder, progress=lambda *c: calls.append(c))
    assert calls == [(2, 2)]
    assert (folder / IMAGES / "7.jpg").stat().st_mtime_ns == kept
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "notes.txt").unlink()
    assert contents(folder) == contents(made)
    assert [p.name for p in tmp_path.iterdir()] == ["faces"]


@pytest.mark.parametrize("name", [f"{IMAGES}/7.jpg", IDENTITY, MARKER, SUMS])
@pytest.mark.parametrize("damage", ["a bit", "a folder in its place"])
def test_what_is_not_as_it_was_drawn_is_drawn_again(
    made: Path, tmp_path: Path, name: str, damage: str
) -> None:
    folder = tmp_path / "faces"
    shutil.copytree(made, folder)
    assert not generate_celebahq(SPEC, folder)
    assert spoiled("celebahq", SPEC, folder) == []
    data = bytearray((folder / name).read_bytes())
    if damage == "a bit":
        data[len(data) // 2] ^= 4
        (folder / name).write_bytes(data)
    else:
        (folder / name).unlink()
        (folder / name / "within").mkdir(parents=True)
    lost = spoiled("celebahq", SPEC, folder)
    assert lost == [name] if name != SUMS else len(lost) == 36 + 2 + 1
    assert generate_celebahq(SPEC, folder)
    assert contents(folder) == contents(made)
    assert not generate_celebahq(SPEC, folder)


def test_a_set_of_an_earlier_version_stays_as_it_is(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    shutil.copytree(made, folder)
    (folder / SUMS).unlink()
    (folder / IMAGES / "7.jpg").write_bytes(b"of another library")
    assert not generate_celebahq(SPEC, folder)
    (folder / IMAGES / "8.jpg").unlink()
    assert generate_celebahq(SPEC, folder)
    assert (folder / IMAGES / "7.jpg").read_bytes() == b"of another library"
    assert not (folder / SUMS).exists()


def test_a_set_that_lost_all_its_pictures_is_repaired(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    folder.mkdir()
    (folder / MARKER).write_text((made / MARKER).read_text())
    assert generate_celebahq(SPEC, folder)
    assert contents(folder) == contents(made)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("holiday.jpg", "a picture of mine", "has no faces.json"),
        (MARKER, "{", "cannot be read"),
        (MARKER, "[]", "none of ours"),
        (MARKER, '{"seed": 4, "size": 20, "pictures": 3}', "identities is None there and 12 here"),
    ],
)
def test_a_folder_with_something_else_is_refused_and_kept(
    tmp_path: Path, name: str, text: str, reason: str
) -> None:
    folder = tmp_path / "faces"
    folder.mkdir()
    (folder / name).write_text(text)
    with pytest.raises(InputError, match=reason) as caught:
        generate_celebahq(SPEC, folder)
    assert str(folder) in str(caught.value)
    assert "choose another folder, or remove this one" in str(caught.value)
    assert [p.name for p in folder.iterdir()] == [name]
    assert (folder / name).read_text() == text


def test_another_set_is_refused_with_what_differs(made: Path) -> None:
    before = contents(made)
    with pytest.raises(InputError, match="size is 20 there and 24 here"):
        generate_celebahq(FacesSpec(identities=12, pictures=3, size=24, seed=4), made)
    assert contents(made) == before


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "faces").write_text("x")
    with pytest.raises(InputError, match="is a file; give a folder"):
        generate_celebahq(SPEC, tmp_path / "faces")


def test_no_workers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="workers must be at least 1, not 0"):
        generate_celebahq(SPEC, tmp_path / "faces", workers=0)


def test_a_parent_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"cannot write synthetic faces into .*/file/deep"):
        generate_celebahq(SPEC, tmp_path / "file" / "deep" / "faces")


def test_a_parent_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # chmod would not stop root, who may run the tests
    with pytest.raises(InputError) as caught:
        generate_celebahq(SPEC, tmp_path / "faces")
    assert f"{tmp_path}: Permission denied" in str(caught.value)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(InputError, match="No space left on device"):
        generate_celebahq(SPEC, tmp_path / "faces")
    assert list(tmp_path.iterdir()) == []


UNGUARDED = """
import sys
from pathlib import Path
from oneshui.errors import InputError
from oneshui.faces.generate import FacesSpec, generate_celebahq
try:
    generate_celebahq(FacesSpec(identities=12, pictures=3, size=20), Path(sys.argv[1]), workers=2)
except InputError as error:
    print("refused:", error)
"""


def test_a_script_without_a_guard_is_told_so_at_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "faces")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.count("refused: ") == 1
    assert (
        '`if __name__ == "__main__":`, or let it use one process alone (workers=1)' in done.stdout
    )
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]


def test_a_worker_that_is_killed_is_said(tmp_path: Path) -> None:
    def kill(_done: int, _total: int) -> None:
        for worker in multiprocessing.active_children():
            worker.kill()

    with pytest.raises(InputError, match="was ended, perhaps for lack of memory"):
        generate_celebahq(
            FacesSpec(identities=40, pictures=8, size=20),
            tmp_path / "faces",
            workers=2,
            progress=kill,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interruption_leaves_nothing(tmp_path: Path, workers: int) -> None:
    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_celebahq(SPEC, tmp_path / "faces", workers=workers, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_after_a_kill_the_next_run_finishes_and_cleans_up(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    code = (
        "import os, signal, sys; from pathlib import Path;"
        "from oneshui.faces.generate import FacesSpec, generate_celebahq;"
        "spec = FacesSpec(identities=12, pictures=3, size=20, seed=4);"
        "generate_celebahq(spec, Path(sys.argv[1]),"
        " progress=lambda d, t: os.kill(os.getpid(), signal.SIGKILL))"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not folder.exists()
    assert len(list(tmp_path.glob(".faces.*.partial"))) == 1
    assert generate_celebahq(SPEC, folder)
    assert contents(folder) == contents(made)
    assert [p.name for p in tmp_path.iterdir()] == ["faces"]


def test_the_second_of_two_generators_waits_and_finds_the_set(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    begun, answers = threading.Event(), []

    def second() -> None:
        begun.wait()
        answers.append(generate_celebahq(SPEC, folder))

    def hold(_done: int, _total: int) -> None:
        begun.set()
        time.sleep(0.05)

    thread = threading.Thread(target=second)
    thread.start()
    assert generate_celebahq(SPEC, folder, progress=hold)
    thread.join()
    assert answers == [False]
    assert contents(folder) == contents(made)
    assert [p.name for p in tmp_path.iterdir()] == ["faces"]


@pytest.mark.parametrize("answer", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_generators_without_locks_do_no_harm(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int
) -> None:
    folder = tmp_path / "faces"

    def no_lock(*_: object) -> None:
        raise OSError(answer, "no locks here")

    monkeypatch.setattr(fcntl, "flock", no_lock)
    nested: list[bool] = []

    def meanwhile(_done: int, _total: int) -> None:
        if not nested:
            nested.append(True)
            assert generate_celebahq(SPEC, folder)

    assert generate_celebahq(SPEC, folder, progress=meanwhile)
    assert contents(folder) == contents(made)
    assert [p.name for p in tmp_path.iterdir()] == ["faces"]
