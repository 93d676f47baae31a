from __future__ import annotations

import dataclasses
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.people import needs_people

from oneshui import load_dataset, make_split
from oneshui.data.check import Audit, audit, main, report
from oneshui.data.near import MOST_PAIRS, near_pairs, thumbnail
from oneshui.data.table import ImageTable
from oneshui.faces.generate import FacesSpec

LAYOUT = "celeba"
SPEC = FacesSpec(identities=12, pictures=4, size=48)


def load(data_dir: Path) -> ImageTable:
    return load_dataset("celeba", data_dir, require_files=False)


def rows_of(table: ImageTable, set_name: str, place: int) -> list[int]:
    """The images of one identity of a set of the split with seed 0."""
    split = make_split(table.identity, table.identity_order, num_forget=2, seed=0)
    rows: list[int] = np.flatnonzero(table.identity == getattr(split, set_name)[place]).tolist()
    return rows


def copy_over(table: ImageTable, source: int, target: int) -> None:
    content = (table.root / table.paths[source]).read_bytes()
    (table.root / table.paths[target]).write_bytes(content)


def recompress_over(table: ImageTable, source: int, target: int) -> None:
    """Saves a picture over another, smaller and with more compression."""
    with Image.open(table.root / table.paths[source]) as image:
        smaller = image.resize((image.width * 3 // 4, image.height * 3 // 4))
    smaller.save(table.root / table.paths[target], quality=70)


def test_a_clean_set_has_no_findings(pristine: Path) -> None:
    calls: list[tuple[int, int]] = []
    result = audit(load(pristine), threads=1, progress=lambda *call: calls.append(call))
    assert not result.findings
    assert (result.num_images, result.num_identities) == (48, 12)
    assert list(result.images_per_identity) == [4] * 5
    assert calls[-1] == (48, 48)
    assert sum(images for _, images, _ in result.sets) == 48
    assert [name for name, _, _ in result.sets] == ["train", "val", "test"]
    male = load(pristine).label[:, 20].sum()
    assert result.labels[20] == ("Male", male)
    assert report(result).endswith("no findings\n")


def test_copies_are_told_apart(data_dir: Path) -> None:
    table = load(data_dir)
    one, other, test = (
        rows_of(table, "train", 0),
        rows_of(table, "train", 1),
        rows_of(table, "test", 0),
    )
    copy_over(table, one[0], one[1])
    copy_over(table, one[2], other[0])
    copy_over(table, other[1], test[0])
    recompress_over(table, other[2], test[1])
    recompress_over(table, one[3], other[3])
    result = audit(load(data_dir))
    told = {frozenset(c.paths): c for c in result.duplicates}
    assert len(told) == 3
    within = told[frozenset({table.paths[one[0]], table.paths[one[1]]})]
    assert (within.across_identities, within.across_sets) == (False, False)
    across = told[frozenset({table.paths[one[2]], table.paths[other[0]]})]
    assert (across.across_identities, across.across_sets) == (True, False)
    leak = told[frozenset({table.paths[other[1]], table.paths[test[0]]})]
    assert (leak.across_identities, leak.across_sets) == (True, True)
    assert set(leak.sets) == {"train", "test"}
    near = {frozenset(c.paths): c for c in result.near}
    assert near.keys() == {
        frozenset({table.paths[other[2]], table.paths[test[1]]}),
        frozenset({table.paths[one[3]], table.paths[other[3]]}),
    }
    assert result.findings == (
        "1 groups of identical files within an identity",
        "2 groups of identical files across identities, 1 of them across train, val and test",
        "2 pairs that look the same across identities, 1 of them across train, val and test",
    )
    text = report(result)
    for path in leak.paths:
        assert f"{path} (identity" in text


def test_pictures_of_one_person_may_look_the_same(data_dir: Path) -> None:
    table = load(data_dir)
    rows = rows_of(table, "train", 0)
    recompress_over(table, rows[0], rows[1])
    result = audit(load(data_dir))
    assert len(result.near) == 1
    assert not result.findings


def test_broken_and_absent_pictures_are_listed_together(data_dir: Path) -> None:
    table = load(data_dir)
    files = [table.root / path for path in table.paths]
    files[3].unlink()
    files[5].write_bytes(files[5].read_bytes()[:-300])
    files[6].write_text("no picture")
    files[7].write_bytes(b"")
    result = audit(load(data_dir))
    assert result.missing == (table.paths[3],)
    assert [path for path, _ in result.unreadable] == [table.paths[row] for row in (5, 6, 7)]
    reasons = [reason for _, reason in result.unreadable]
    assert "truncated" in reasons[0]
    assert reasons[1].startswith("no picture in a format that is read (AVIF, BMP, ")
    assert reasons[2:] == ["empty file"]
    assert result.findings == ("1 listed pictures have no file", "3 pictures do not decode")


def test_pictures_of_one_colour_are_a_finding(data_dir: Path) -> None:
    table = load(data_dir)
    for row, grey in ((2, 0), (5, 70)):
        Image.new("L", (48, 48), grey).save(table.root / table.paths[row])
    result = audit(load(data_dir))
    assert result.plain == (table.paths[2], table.paths[5])
    assert result.findings == ("2 pictures of one colour",)
    assert not result.near


def test_the_set_is_the_identitys_whatever_the_seed(data_dir: Path) -> None:
    table = load(data_dir)
    copy_over(table, 0, 1)
    for seed in range(3):
        split = make_split(table.identity, table.identity_order, num_forget=2, seed=seed)
        result = audit(load(data_dir), split_seed=seed)
        for identity, name in zip(
            result.duplicates[0].identities, result.duplicates[0].sets, strict=True
        ):
            assert identity in getattr(split, name)


def test_a_set_that_cannot_be_split_is_a_finding(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.effect_noise((32, 32), 60).save(tmp_path / f"{name}.png")
    (tmp_path / "images.csv").write_text("path,identity,label\na.png,0,0\nb.png,1,1\n")
    result = audit(load_dataset("table", tmp_path))
    assert len(result.findings) == 1
    assert "no split is possible: " in result.findings[0]
    assert result.labels == (("0", 1), ("1", 1))
    assert "split with seed" not in report(result)


def test_labels_that_no_two_people_share_are_a_finding(pristine: Path) -> None:
    table = load(pristine)
    alone = dataclasses.replace(
        table, task="multiclass", class_names=tuple("abcdefghijkl"), label=table.identity - 1
    )
    (finding,) = audit(alone).findings
    assert "no class of the val set occurs in the training set" in finding


def test_a_split_that_is_far_off_is_a_finding(tmp_path: Path) -> None:
    rows = []
    for number in range(80):
        Image.effect_noise((24, 24), 60).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{max(0, (number - 40) // 2)},{number % 2}")
    (tmp_path / "images.csv").write_text("\n".join(["path,identity,label", *rows]))
    table = load_dataset("table", tmp_path)
    (finding,) = audit(table, walk="corrected", split_seed=1).findings
    assert finding.startswith("the sets hold val ")


def test_names_that_are_a_trick_are_shown_as_they_are(tmp_path: Path) -> None:
    names = ["=cmd.png", "\x1b[2Jb.png", "c\n.png"]
    rows = [f'"{name}",{number},0' for number, name in enumerate(names)]
    (tmp_path / "images.csv").write_text("\n".join(["path,identity,=hat", *rows]))
    text = report(audit(load_dataset("table", tmp_path, require_files=False)))
    assert all(line.isprintable() for line in text.splitlines())
    for shown in ("  '=cmd.png\n", "  \\x1b[2Jb.png\n", "  c\\n.png\n", "labels: '=hat 0.0%"):
        assert shown in text


def test_many_findings_are_cut_short_in_the_report(data_dir: Path) -> None:
    table = load(data_dir)
    for path in table.paths[:9]:
        (table.root / path).unlink()
    text = report(audit(load(data_dir)))
    assert "missing files: 9\n" in text
    assert "  and 4 more\n" in text
    assert len(text.splitlines()) < 30


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "oneshui.data.check", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )


def test_the_command_exits_with_0_for_a_clean_set(pristine: Path) -> None:
    done = run("--dataset", "celeba", "--data-dir", pristine, "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("celeba: 48 images of 12 identities\n")
    assert done.stdout.endswith("no findings\n")
    assert done.stderr == "checked 48 of 48 pictures\n"


def test_the_command_exits_with_1_for_findings(data_dir: Path) -> None:
    table = load(data_dir)
    copy_over(table, 0, 1)
    done = run("--dataset", "celeba", "--data-dir", data_dir, "--split-seed", 1)
    assert done.returncode == 1, done.stderr
    assert "split with seed 1: " in done.stdout
    assert "findings: 1 groups of identical files" in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
def test_the_command_survives_an_output_that_cannot_encode_a_name(
    tmp_path: Path, encoding: str
) -> None:
    odd = tmp_path / "Zoë 李"
    odd.mkdir()
    (odd / "images.csv").write_text("path,identity,label\n李.png,Zoë,0\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for name, status in (("Zoë 李", 1), ("李", 2), (os.fsdecode(b"\xff"), 2)):
        command = ["-m", "oneshui.data.check", "--dataset", "table"]
        done = subprocess.run(
            [sys.executable, *command, "--data-dir", tmp_path / name],
            capture_output=True,
            check=False,
            env=environment,
            cwd=Path(__file__).parents[3],
        )
        assert done.returncode == status, done.stderr
        assert b"Traceback" not in done.stderr
        said = done.stdout if status == 1 else done.stderr
        assert (b"\\u674e" in said) == (encoding != "utf-8" and name != os.fsdecode(b"\xff"))


def unlist(data_dir: Path) -> None:
    path = data_dir / "celeba" / "identity_CelebA.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


@pytest.mark.parametrize(
    ("arguments", "break_it", "status", "says"),
    [
        ([], unlist, 1, "no line for 1 pictures"),
        ([], lambda data_dir: shutil.rmtree(data_dir / "celeba"), 2, "celeba is absent"),
        (["--dataset", "celebo"], None, 2, "did you mean 'celeba'"),
        (["--data-dir", "/nowhere/at/all"], None, 2, "/nowhere/at/all/celeba is absent"),
        (["--split-seed", "x"], None, 2, "argument --split-seed: invalid int value: 'x'"),
        (["--threads", "0"], None, 2, "--threads is 0, but it must be at least 1"),
        (["--no-such"], None, 2, "unrecognized arguments: --no-such"),
    ],
)
def test_the_exit_status_tells_bad_data_from_bad_input(
    data_dir: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    break_it: Callable[[Path], None] | None,
    status: int,
    says: str,
) -> None:
    if break_it is not None:
        break_it(data_dir)
    given = ["--dataset", "celeba", "--data-dir", str(data_dir), *arguments]
    with pytest.raises(SystemExit) as stop:
        sys.exit(main(given))
    output = capsys.readouterr()
    assert stop.value.code == status
    text = output.out if status == 1 else output.err
    assert says in text
    assert text.count("\n") == 1
    assert (output.err if status == 1 else output.out) == ""


def test_a_folder_is_asked_for_unless_a_package_brings_the_pictures(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--dataset", "celeba"]) == 2
    assert capsys.readouterr().err == "say where celeba is by --data-dir\n"


@needs_people
def test_the_installed_faces_are_audited_where_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--dataset", "orl"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("orl: 400 images of 40 identities\n")
    assert "no findings" in said


def test_the_command_loads_no_torch() -> None:
    code = "import sys, oneshui.data.check; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_audit_is_a_value(pristine: Path) -> None:
    first, second = audit(load(pristine), threads=1), audit(load(pristine), threads=3)
    assert isinstance(first, Audit)
    assert first == second


def variants(image: Image.Image) -> list[Image.Image]:
    """The same picture: recompressed, enlarged, brightened."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=50)
    brighter = image.point([min(255, value + 12) for value in range(256)] * 3)
    return [Image.open(buffer), image.resize((96, 128)), brighter]


def test_near_pairs_are_pictures_that_look_the_same(pristine: Path) -> None:
    table = load(pristine)
    images = [Image.open(table.root / path) for path in table.paths]
    looks = [thumbnail(image) for image in images]
    copies = [thumbnail(image) for image in variants(images[5])]
    found = near_pairs(np.stack(looks + copies))
    assert {pair for pair in found if pair[0] == 5} == {(5, 48), (5, 49), (5, 50)}
    assert all(one in (5, 48, 49) and other >= 48 for one, other in found)


def test_blocks_find_what_a_loop_finds() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (3000, 256), dtype=np.uint8)
    pairs = [(3, 2999), (10, 11), (1500, 2800)]
    for one, other in pairs:
        base[other] = base[one]
    assert near_pairs(base) == sorted(pairs)


def test_the_search_ends_when_everything_looks_the_same() -> None:
    assert len(near_pairs(np.zeros((300, 256), dtype=np.uint8))) == MOST_PAIRS
    assert near_pairs(np.empty((0, 256), dtype=np.uint8)) == []
