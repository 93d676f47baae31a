"""What a person gets wrong is answered with one sentence and status 2, and leaves nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import ONE, launch

from oneshui.faces.generate import FacesSpec, generate_celebahq
from oneshui.spec import Range
from sweeps.cli import main
from sweeps.report.studies.results import JOURNAL
from sweeps.sampler import StudyToShow, write_journal

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


def assert_refused(status: int, out: str, err: str, says: str) -> None:
    assert status == 2, out + err
    assert says in err
    assert err.count("\n") == 1
    assert "Traceback" not in out + err


def refuse(*arguments: str, says: str) -> None:
    done = launch(*arguments)
    assert_refused(done.status, done.out, done.err, says)


@pytest.fixture
def refuse_here(capfd: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """The command in this process, for what is refused before anything is drawn or started."""

    def refuse_here(*arguments: str, says: str) -> None:
        status = main(arguments)
        assert_refused(status, *capfd.readouterr(), says)

    return refuse_here


def test_the_command_ends_with_the_status_and_the_sentence_of_main(tmp_path: Path) -> None:
    refuse("sweep=smoek", f"output_dir={tmp_path / 'out'}", says="did you mean 'smoke'")


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("sweep=smoek", "did you mean 'smoke'"),
        ("sweep.methods=[jot]", "did you mean 'jit'"),
        ("sweep.sedes=[0]", "did you mean 'sweep.seeds'"),
        ("sweep.rows.sdd.alpha=1", "did you mean 'ssd'"),
        ("sweep.rows.ssd.alpha=inf", "sweep.rows.ssd.alpha is inf, but numbers must be finite"),
        ("sweep.seeds=[1", "the argument 'sweep.seeds=[1' cannot be read: its brackets"),
        ("sweep.name=a\x1b[31m\nb", r"the argument $'sweep.name=a\x1b[31m\nb' cannot be read"),
    ],
)
def test_a_wrong_word_is_named_with_the_nearest_right_one(
    argument: str, says: str, tmp_path: Path, refuse_here: Callable[..., None]
) -> None:
    arguments = [argument] if argument.startswith("sweep=") else ["sweep=smoke", argument]
    refuse_here(*arguments, f"output_dir={tmp_path / 'out'}", says=says)


def test_more_people_to_forget_than_there_are(tmp_path: Path) -> None:
    refuse(
        "sweep=smoke",
        "sweep.forget_sizes=[5000]",
        f"output_dir={tmp_path / 'out'}",
        says="forget size 5000 is too large",
    )


TUNED = ("sweep=smoke", "sweep.datasets=[synthetic_tiny]", "sweep.methods=[ssd]", "profile=tuned")


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("tuning.trials=0", "tuning.trials is 0"),
        ("tuning.rows=[sdd]", "did you mean 'ssd'"),
        ("tuning.objective=oracle", "tuning.i_know=true"),
        ("tuning.seeds=[1]", "tuning.seeds holds 1, which sweep.seeds holds too"),
        ("sweep.rows.ssd.space={alpha: [9, 9]}", "its range 9 to 9 is empty"),
        ("sweep.rows.ssd.space={alhpa: [1, 9]}", "did you mean 'alpha'"),
    ],
)
def test_what_cannot_be_tuned(
    argument: str, says: str, tmp_path: Path, refuse_here: Callable[..., None]
) -> None:
    refuse_here(*TUNED, argument, f"output_dir={tmp_path / 'out'}", says=says)


def test_more_people_in_a_request_than_can_play_it(tmp_path: Path) -> None:
    refuse(
        *TUNED,
        "sweep.forget_sizes=[16]",
        "tuning.cells=own",
        f"output_dir={tmp_path / 'out'}",
        says="tuning simulates requests of 16 people",
    )


def test_more_people_in_reported_cells_than_leave_some_to_tune_with(tmp_path: Path) -> None:
    refuse(
        *TUNED,
        "sweep.forget_sizes=[16]",
        f"output_dir={tmp_path / 'out'}",
        says="say tuning.cells=own or use profile=paper",
    )


def test_a_study_of_another_space(tmp_path: Path, refuse_here: Callable[..., None]) -> None:
    space = {"alpha": Range(low=1, high=2), "dampening": Range(low=0.1, high=1)}
    shown = StudyToShow(space=space, metric="simulated ToW", trials=[])
    write_journal(tmp_path / JOURNAL, {"ssd synthetic_tiny n4 s1000": shown})
    refuse_here(*TUNED, f"output_dir={tmp_path}", says="was made with the search space")


def test_an_absent_data_folder(tmp_path: Path, refuse_here: Callable[..., None]) -> None:
    refuse_here(
        *REAL,
        f"data_dir={tmp_path / 'nowhere'}",
        f"output_dir={tmp_path / 'out'}",
        says=f"{tmp_path / 'nowhere' / 'CelebAMask-HQ'} is absent",
    )
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700, "a new folder is the user's alone"


def test_an_output_folder_that_cannot_be_written(
    tmp_path: Path, refuse_here: Callable[..., None]
) -> None:
    (tmp_path / "file").write_text("")
    refuse_here("sweep=smoke", f"output_dir={tmp_path / 'file' / 'out'}", says="cannot be written")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_output_folder(tmp_path: Path, refuse_here: Callable[..., None]) -> None:
    tmp_path.chmod(0o500)
    refuse_here("sweep=smoke", f"output_dir={tmp_path / 'out'}", says="cannot be written")


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
    # Whole pictures need not be decoded again once the others are mended.
    assert {path.name.partition("-")[0] for path in (store / ".work").iterdir()} <= {"cache"}


@pytest.mark.slow
@pytest.mark.ray
def test_a_method_that_does_not_fit_is_refused_before_anything_trains(tmp_path: Path) -> None:
    refuse(
        "sweep=smoke",
        "sweep.datasets=[synthetic_tiny_mufac]",
        "sweep.methods=[wrong]",
        "sweep.rows.wrong={method: scrub, divergence: bernoulli}",
        f"output_dir={tmp_path}",
        says="scrub cannot be used here",
    )
    finished = {path.parts[-3] for path in (tmp_path / "store").glob("[a-z]*/*/result.json")}
    assert finished <= {"index"}


WITH_A_SMALL_DISK = """
mount -t tmpfs -o size=4m none "$0" || exit 77
"$@"
status=$?
ls "$0"/out/store
exit $status
"""
"""A disk of 4 MB: enough for the faces, too little for the results.

It is mounted in a namespace of its own, which the kernel takes down, disk and all, with the last
process in it: nothing is left of it, whoever is killed.
"""


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_is_full_ends_the_sweep_with_one_sentence(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    done = launch(
        "sweep=smoke",
        ONE,
        "sweep.seeds=[0]",
        "sweep.methods=[pretrain,retrain]",
        f"output_dir={disk / 'out'}",
        within=["unshare", "--mount", "bash", "-c", WITH_A_SMALL_DISK, str(disk)],
    )
    if done.status == 77:
        pytest.skip("this root may not mount a small disk")
    assert done.status == 2, done.out + done.err
    assert "Traceback" not in done.out + done.err
    assert "No space left on device" in done.err
    assert "set output_dir to another disk, and run the same command again" in done.err
    assert "index" in done.out.splitlines(), "finished jobs are kept"
    assert not disk.is_mount()
    assert not list(disk.iterdir())


@pytest.mark.slow
@pytest.mark.ray
def test_a_request_that_no_machine_can_hold_is_refused_before_the_first_job(tmp_path: Path) -> None:
    done = launch(
        "sweep=smoke",
        ONE,
        "datasets.synthetic_tiny.resources.score.memory_gb=1e6",
        f"output_dir={tmp_path}",
    )
    assert done.status == 2, done.out + done.err
    assert "no machine of the cluster has that" in done.err
    assert "Traceback" not in done.out + done.err
    assert not (tmp_path / "store" / "split").exists()
