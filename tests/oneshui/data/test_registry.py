from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from oneshui.data import loaders, registry
from oneshui.data.loaders import celeba, mufac
from oneshui.data.registry import Loader, register
from oneshui.errors import InputError
from oneshui.faces.layouts import LAYOUTS
from oneshui.spec import FACES_LAYOUTS
from sweeps.cli.datasets import folder_of
from sweeps.config import load
from sweeps.graph.plan import expand
from sweeps.schedule.estimates import guess
from sweeps.store.datasets import RemoteFolder

TOY = """
from oneshui.data.loaders.own_table import load_table
from oneshui.data.registry import register
from dataclasses import replace


@register(name="toy", folder="toys", task="multiclass", num_images=77_000_000)
def load_toy(data_dir, *, require_files=True):
    table = load_table(data_dir / "toys", require_files=require_files)
    return replace(table, dataset="toy")
"""


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.names()
    monkeypatch.setattr(registry.DATASETS, "known", dict(registry.DATASETS.known))
    monkeypatch.setattr(registry.DATASETS, "_is_complete", True)


def test_what_is_published_of_each_dataset() -> None:
    found = {
        name: (one.folder, one.task, one.num_images, one.walk)
        for name in registry.names()
        for one in [registry.get(name)]
    }
    assert found == {
        "celeba": ("celeba", "multilabel", 202_599, "reference"),
        "celebahq": ("CelebAMask-HQ", "multilabel", 30_000, "reference"),
        "chestxray14": ("chestxray14", "multilabel", 112_120, "corrected"),
        "femnist": ("femnist", "multiclass", 805_263, "corrected"),
        "mufac": ("mufac", "multiclass", 13_068, "reference"),
        "mufac_clean": ("mufac", "multiclass", 13_068, "reference"),
        "orl": ("ORL_faces", "multilabel", 400, "corrected"),
        "table": ("", None, 20_000, "corrected"),
    }


@pytest.mark.usefixtures("fresh")
def test_a_file_in_the_package_is_a_dataset_of_loading_planning_and_fetching(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.setattr(loaders, "__path__", [*loaders.__path__, str(tmp_path)])
    monkeypatch.setattr(registry.DATASETS, "_is_complete", False)
    (tmp_path / "toys").mkdir()
    (tmp_path / "toys" / "a.png").write_bytes(b"not looked at")
    (tmp_path / "toys" / "images.csv").write_text("path,identity,label\na.png,ann,0\n")
    assert registry.load_dataset("toy", tmp_path).paths == ("a.png",)
    spec = load(
        [
            "sweep.datasets=[toy]",
            "sweep.methods=[pretrain]",
            "data_dir=s3://bucket/data",
            "+datasets.toy={layout: toy, forget_sizes: [1]}",
        ]
    )
    assert folder_of(spec.sweep.datasets["toy"], spec.places) == RemoteFolder(
        uri="s3://bucket/data", name="toys"
    )
    jobs = expand(spec.sweep).jobs
    (reading,) = [job for job in jobs.values() if job.stage == "index"]
    assert guess(reading, jobs, gpu=False) == pytest.approx(0.2 + 77_000_000 * 1e-5)


@pytest.mark.usefixtures("fresh")
def test_a_name_belongs_to_one_file(tmp_path: Path) -> None:
    def loader(source: str) -> Loader:
        (tmp_path / source).write_text("def load(data_dir, *, require_files=True): ...")
        scope: dict[str, Loader] = {}
        exec(compile((tmp_path / source).read_text(), str(tmp_path / source), "exec"), scope)
        return scope["load"]

    about: Callable[[Loader], Loader] = register(name="celeba", folder="x", task=None, num_images=1)
    with pytest.raises(TypeError, match="two dataset layouts are called 'celeba'"):
        about(loader("other.py"))
    assert registry.get("celeba").load is celeba.load_celeba
    # The same file again, as a reload does, replaces itself.
    about(celeba.load_celeba)
    assert registry.get("celeba").folder == "x"


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(("name", "task"), [("mufac_too", "multiclass"), ("mufac", "multilabel")])
def test_a_loader_that_contradicts_its_record_is_refused(
    name: str, task: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from oneshui.faces.generate import generate
    from oneshui.spec import FacesSpec

    generate("mufac", FacesSpec(identities=10, pictures=2, size=16), tmp_path)
    about = registry.Dataset(
        name=name,
        folder="mufac",
        task=task,  # type: ignore[arg-type]
        num_images=1,
        walk="reference",
        load=mufac.load_mufac,
    )
    monkeypatch.setitem(registry.DATASETS.known, name, about)
    with pytest.raises(TypeError, match=f"the loader of '{name}' returned 'mufac', multiclass"):
        registry.load_dataset(name, tmp_path)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"dataset layout 'tabel'; did you mean 'table'.*mufac,"):
        registry.get("tabel")


def test_every_layout_that_faces_are_drawn_in_has_a_loader() -> None:
    assert set(FACES_LAYOUTS) == set(LAYOUTS) <= set(registry.names())
