"""What a person gets wrong is answered with one sentence and status 2, and leaves nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.commands import ONE, launch

from oneshui.faces.generate import FacesSpec, generate_celebahq
from oneshui.spec import Range
from sweeps.report.studies import JOURNAL
from sweeps.sampler import Point, write_journal

REAL = (
    "sweep=smoke",
    "sweep.datasets=[celebahq]",
    "sweep.forget_sizes=[2]",
    "sweep.methods=[pretrain,retrain]",
)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    generate_celebahq(FacesSpec(identities=40, pictures=4, size=16), tmp_path / "data")
    return tmp_path / "data"


def refuse(*arguments: str, says: str) -> None:
    done = launch(*arguments)
    assert done.status == 2, done.out + done.err
    assert says in done.err
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.out + done.err


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("sweep=smoek", "did you mean 'smoke'"),
        ("sweep.methods=[jot]", "did you mean 'jit'"),
        ("sweep.sedes=[0]", "did you mean 'sweep.seeds'"),
        ("sweep.forget_sizes=[5000]", "forget size 5000 is too large"),
    ],
)
def test_a_wrong_word_is_named_with_the_nearest_right_one(
    argument: str, says: str, tmp_path: Path
) -> None:
    arguments = [argument] if argument.startswith("sweep=") else ["sweep=smoke", argument]
    refuse(*arguments, f"output_dir={tmp_path / 'out'}", says=says)


TUNED = ("sweep=smoke", "sweep.datasets=[synthetic_tiny]", "sweep.methods=[ssd]", "profile=tuned")


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("tuning.trials=0", "tuning.trials is 0"),
        ("tuning.rows=[sdd]", "did you mean 'ssd'"),
        ("tuning.objective=oracle", "tuning.i_know=true"),
        ("+sweep.rows.ssd.space={alpha: [9, 9]}", "its range 9 to 9 is empty"),
        ("+sweep.rows.ssd.space={alhpa: [1, 9]}", "did you mean 'alpha'"),
        ("sweep.forget_sizes=[16]", "tuning simulates requests of 16 people"),
    ],
)
def test_what_cannot_be_tuned(argument: str, says: str, tmp_path: Path) -> None:
    refuse(*TUNED, argument, f"output_dir={tmp_path / 'out'}", says=says)


def test_a_study_of_another_space(tmp_path: Path) -> None:
    space = {"alpha": Range(low=1, high=2), "dampening": Range(low=0.1, high=1)}
    point: Point = {"alpha": 1.5, "dampening": 0.5}
    write_journal(tmp_path / JOURNAL, {"ssd synthetic_tiny n4": (space, [(point, 0.5, {})])})
    refuse(*TUNED, f"output_dir={tmp_path}", says="was made with the search space")


def test_an_absent_data_folder(tmp_path: Path) -> None:
    refuse(
        *REAL,
        f"data_dir={tmp_path / 'nowhere'}",
        f"output_dir={tmp_path / 'out'}",
        says=f"{tmp_path / 'nowhere' / 'CelebAMask-HQ'} is absent",
    )


def test_an_output_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refuse("sweep=smoke", f"output_dir={tmp_path / 'file' / 'out'}", says="cannot be written")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_output_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    refuse("sweep=smoke", f"output_dir={tmp_path / 'out'}", says="cannot be written")


def cut(folder: Path) -> None:
    path = folder / "CelebA-HQ-img" / "5.jpg"
    path.write_bytes(path.read_bytes()[:300])


def lose(folder: Path) -> None:
    (folder / "CelebA-HQ-img" / "5.jpg").unlink()


def garble(folder: Path) -> None:
    path = folder / "CelebAMask-HQ-attribute-anno.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:6], lines[6].replace("1", "2", 1), *lines[7:]]) + "\n")


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize(
    ("damage", "says"),
    [(cut, "5.jpg"), (lose, "absent"), (garble, "line 7")],
    ids=["truncated picture", "missing picture", "annotation line"],
)
def test_damaged_data(
    damage: Callable[[Path], None], says: str, data_dir: Path, tmp_path: Path
) -> None:
    damage(data_dir / "CelebAMask-HQ")
    before = sorted(path for path in data_dir.rglob("*"))
    refuse(*REAL, f"data_dir={data_dir}", f"output_dir={tmp_path / 'out'}", says=says)
    assert sorted(path for path in data_dir.rglob("*")) == before
    store = tmp_path / "out" / "store"
    finished = {path.parts[-3] for path in store.glob("[a-z]*/*/result.json")}
    assert finished <= {"index"}
    assert not list((store / ".work").iterdir())


@pytest.mark.slow
@pytest.mark.ray
def test_a_method_that_does_not_fit_is_refused_before_anything_trains(tmp_path: Path) -> None:
    refuse(
        "sweep=smoke",
        "sweep.datasets=[synthetic_tiny_mufac]",
        "sweep.methods=[wrong]",
        "+sweep.rows.wrong={method: scrub, divergence: bernoulli}",
        f"output_dir={tmp_path}",
        says="scrub cannot be used here",
    )
    finished = {path.parts[-3] for path in (tmp_path / "store").glob("[a-z]*/*/result.json")}
    assert finished <= {"index"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB: enough for the faces, too little for the results."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)], check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_is_full_ends_the_sweep_with_one_sentence(small_disk: Path) -> None:
    done = launch(
        "sweep=smoke",
        ONE,
        "sweep.seeds=[0]",
        "sweep.methods=[pretrain,retrain]",
        f"output_dir={small_disk / 'out'}",
    )
    assert done.status == 2, done.out + done.err
    assert "Traceback" not in done.out + done.err
    assert "No space left on device" in done.err
    assert "set output_dir to another disk, and run the same command again" in done.err
    assert (small_disk / "out" / "store" / "index").is_dir(), "finished jobs are kept"


@pytest.mark.parametrize(
    "argument",
    ["+cluster.stages.retrain.gpus=1", "+datasets.synthetic_tiny.resources.score.memory_gb=1e6"],
)
def test_a_request_that_no_machine_can_hold_is_refused_before_the_first_job(
    argument: str, tmp_path: Path
) -> None:
    done = launch("sweep=smoke", ONE, argument, f"output_dir={tmp_path}")
    assert done.status == 2, done.out + done.err
    assert "no machine of the cluster has that" in done.err
    assert "Traceback" not in done.out + done.err
    assert not (tmp_path / "store" / "split").exists()
