"""Faces of real people, and the names of their files, leave the store only on demand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.axes import Axes
from support.inline_command import Ended, inline_command

from oneshui import load_dataset
from oneshui.faces.generate import FacesSpec, generate_celebahq
from sweeps.config import load
from sweeps.graph.plan import expand

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
NAME = "a-private-picture"
SHOW = "report.show_faces=true"
SHEETS = {"support_sheet-mine-n3.png", "support_sheet-mine-n3.pdf"}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of pictures, which nobody can tell from one of photographs."""
    folder = tmp_path_factory.mktemp("faces")
    generate_celebahq(FacesSpec(identities=40, pictures=6, size=32), folder)
    faces = load_dataset("celebahq", folder)
    mine = folder / "mine"
    mine.mkdir()
    names = [f"{NAME}-{place}.jpg" for place in range(len(faces))]
    for path, name in zip(faces.paths, names, strict=True):
        shutil.copyfile(faces.root / path, mine / name)
    columns = {"path": names, "identity": faces.identity}
    pd.DataFrame(columns | {f"a{i}": faces.label[:, i] for i in range(8)}).to_csv(
        mine / "images.csv", index=False
    )
    return mine


def arguments(table: Path, output: Path, *further: str) -> list[str]:
    return [
        "sweep=smoke",
        "scale=toy",
        "profile=paper",
        "sweep.datasets=[mine]",
        "sweep.methods=[pretrain,retrain,random_label]",
        f"+datasets.mine={{layout: table, path: {table.name}, forget_sizes: [3]}}",
        f"data_dir={table.parent}",
        f"output_dir={output}",
        *further,
    ]


def shown(output: Path) -> tuple[set[str], set[str]]:
    """Names of the pictures of people in the report and in MLflow."""
    return tuple(  # type: ignore[return-value]
        {path.name for path in (output / place).rglob("*support_sheet*")}
        for place in ("report", "mlartifacts")
    )


def files(output: Path) -> list[Path]:
    places = [output / "report", output / "mlartifacts", output / "mlflow.db"]
    return [path for place in places for path in (place, *place.rglob("*")) if path.is_file()]


@pytest.mark.long
def test_pictures_of_people_are_shown_on_demand_and_withdrawn(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[object] = []
    draw = Axes.imshow

    def noted(axes: Axes, *args: object, **kwargs: object) -> object:
        drawn.append(args)
        return draw(axes, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Axes, "imshow", noted)

    def run(*further: str) -> Ended:
        drawn.clear()
        ended = inline_command(*arguments(table, tmp_path, *further))
        assert ended.status == 0, ended.said
        assert "warning" not in ended.said
        return ended

    run()
    assert not drawn
    assert shown(tmp_path) == (set(), set())
    assert len(files(tmp_path)) > 20
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "The support pictures of mine show real people and were left out" in page

    ended = run(SHOW)
    assert "nothing to do" in ended.said
    assert len(drawn) == 3
    assert shown(tmp_path) == (SHEETS, SHEETS)
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "show real people</b> (mine): keep this page to yourself" in page

    run()
    assert not drawn
    assert shown(tmp_path) == (set(), set())
    assert not [path for path in files(tmp_path) if NAME.encode() in path.read_bytes()]


def test_the_switch_changes_no_job(table: Path, tmp_path: Path) -> None:
    without, with_ = (
        expand(load(arguments(table, tmp_path, *further)).sweep).jobs for further in ((), (SHOW,))
    )
    assert list(without) == list(with_)


def test_pictures_that_lie_in_a_drawn_set_s_layout_are_of_people_too() -> None:
    from sweeps.report.figures.style import Material

    nothing = pd.DataFrame()
    plans = (
        expand(load([f"sweep={name}", "sweep.methods=[retrain]"]).sweep)
        for name in ("full", "demo")
    )
    real, demo = (Material(plan=plan, entries={}, frame=nothing, summary=nothing) for plan in plans)
    assert not real.may_show("celebahq")
    assert demo.may_show("synthetic")
