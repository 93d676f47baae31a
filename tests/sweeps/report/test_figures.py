"""Figures are drawn of what is finished, and show it."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation, Text
from PIL import Image
from support.inline_sweep import inline_sweep
from support.result_frames import frame_of
from support.result_frames import row as made_up

from oneshui.spec import Role
from sweeps.config import load
from sweeps.graph.plan import expand
from sweeps.inference.retrained import level_of
from sweeps.report import analyses, page, people
from sweeps.report.figures import catalogue
from sweeps.report.figures.style import DPI, GREYS, PALETTE, Material, looks_of, style
from sweeps.report.results import results_frame
from sweeps.report.summary import summarise
from sweeps.store import DamagedEntryError, Entry
from sweeps.store.status import scan

PLAN = expand(load(["sweep=smoke", "sweep.datasets=[synthetic_tiny]"]).sweep)


def row(
    method: str, seed: int, value: float | None, num_forget: int = 20, **more: Any
) -> dict[str, Any]:
    named = {"dataset": "faces $x_1$/y", "num_forget": num_forget, "forget_gap": value}
    return made_up(method, seed, value, unlearn_seconds=value, access="support", **named, **more)


def material_of(rows: list[dict[str, Any]], entries: Mapping[str, Entry] | None = None) -> Material:
    frame = frame_of(rows)
    return Material(plan=PLAN, entries=entries or {}, frame=frame, summary=summarise(frame))


def drawn(rows: list[dict[str, Any]], folder: Path) -> list[Path]:
    return catalogue.draw(material_of(rows), folder)


def kinds(paths: list[Path]) -> list[str]:
    return list(dict.fromkeys(path.name.split("-")[0] for path in paths))


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    values = {"pretrain": 0.78, "ssd": 0.8, "jit": 0.7, "retrain": 1.0, "retrain_again": 0.97}
    found = [row(m, seed, v - seed / 100) for m, v in values.items() for seed in (0, 1)]
    return [*found, row("metaunlearn", 0, None), row("metaunlearn", 1, None)]


def test_every_figure_is_a_legible_png_and_a_pdf(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    paths = drawn(rows, tmp_path / "figures")
    stem = "faces__x_1__y-n20"
    assert [path.name for path in paths] == [
        f"{kind}-{stem}.{suffix}"
        for kind in ("forgetting_utility", "tow", "loss_mia")
        for suffix in ("png", "pdf")
    ]
    for path in paths:
        if path.suffix == ".pdf":
            assert path.read_bytes().startswith(b"%PDF")
            continue
        with Image.open(path) as image:
            assert image.width > 1000
            assert round(image.info["dpi"][0]) == DPI
            assert np.asarray(image.convert("L")).std() > 10


def test_equal_results_give_equal_files(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    first, second = drawn(rows, tmp_path / "a"), drawn(rows, tmp_path / "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_a_forget_size_without_results_is_left_out(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    paths = drawn([*rows, row("pretrain", 0, None, num_forget=5)], tmp_path)
    assert len(paths) == 6
    assert not any("n5" in path.name for path in paths)


def test_nothing_finished_draws_nothing(tmp_path: Path) -> None:
    assert drawn([row("pretrain", 0, None)], tmp_path / "figures") == []


@pytest.mark.parametrize("methods", [["retrain"], ["ssd"]])
def test_any_single_row_can_be_drawn(methods: list[str], tmp_path: Path) -> None:
    assert len(drawn([row(method, 0, 0.9) for method in methods], tmp_path)) == 6


def test_progress_counts_the_figures(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    catalogue.draw(material_of(rows), tmp_path, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_twenty_methods_have_different_looks() -> None:
    looks = looks_of(frame_of([row(f"method_{i}", 0, 0.5) for i in range(20)]))
    assert len({(look.colour, look.marker) for look in looks.values()}) == 20


def test_a_colour_belongs_to_a_name_whatever_else_is_there() -> None:
    def colours(*names: str) -> dict[str, str]:
        looks = looks_of(frame_of([made_up(name, 0, 0.5) for name in names]))
        return {name: look.colour for name, look in looks.items()}

    assert colours("jit", "pgu", "lfssd")["pgu"] == colours("pgu")["pgu"]
    demo = load(["sweep=demo"]).sweep
    ranked = [r.name for r in demo.rows[demo.cells[0]] if r.role == "method" and r.access != "full"]
    assert len(ranked) == 12
    assert len({*colours(*ranked).values()}) == 12
    # References are grey: their red, green and blue are about the same.
    grey = colours("scrub")["scrub"]
    levels = [int(grey[at : at + 2], 16) for at in (1, 3, 5)]
    assert max(levels) - min(levels) < 20


def luminance(colour: str) -> float:
    """As WCAG 2 defines it."""
    levels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in levels]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("ground", ["#ffffff", "#14171b"])
def test_colours_are_seen_on_both_grounds(ground: str) -> None:
    style_sheet = (Path(catalogue.__file__).parents[1] / "templates/page/style.css").read_text()
    assert "--page: #14171b" in style_sheet
    for colour in (*PALETTE, *(GREYS if ground == "#ffffff" else ())):
        light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3, colour


def mpl_style() -> contextlib.AbstractContextManager[None]:
    import matplotlib as mpl

    return mpl.rc_context(style())


def one(kind: str, material: Material, place: int = 0) -> Figure:
    with mpl_style():
        return list(catalogue.KINDS[kind].drawings(material))[place].make()


def widths(axes: Axes) -> list[float]:
    return [bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)]


def test_retraining_again_and_doing_nothing_are_marked(rows: list[dict[str, Any]]) -> None:
    figure = one("tow", material_of(rows))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "doing nothing",
        "as near as retraining again (within 2)",
    ]
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["pretrain", "ssd", "jit", "retrain_again"]
    assert [text.get_text() for text in axes.texts] == ["77.5", "79.5", "69.5", "96.5"]
    (band,) = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    level = level_of(frame_of(rows))
    assert level is not None
    ends = (100 * level.tow - 2, min(100, 100 * level.tow + 2))
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx(ends)
    dashed = next(line for line in axes.lines if line.get_linestyle() == "--")
    assert np.asarray(dashed.get_xdata()).tolist() == pytest.approx([77.5, 77.5])


def test_rows_look_as_their_role_says_whatever_they_are_called() -> None:
    roles = {
        "nothing": Role.PRETRAIN,
        "gold": Role.RETRAIN,
        "silver": Role.RETRAIN_AGAIN,
        "retrain_free": Role.METHOD,
        "pretrain_less": Role.METHOD,
    }
    looks = looks_of(frame_of([row(name, 0, 0.5, role=role) for name, role in roles.items()]))
    shown = {name: (look.colour, look.marker) for name, look in looks.items() if not look.is_own}
    assert shown == {
        "nothing": ("#000000", "X"),
        "gold": ("#4d4d4d", "*"),
        "silver": ("#4d4d4d", "p"),
    }
    assert {looks[name].colour for name in ("retrain_free", "pretrain_less")} <= {*PALETTE}
    names = {"gold": "retrain", "retrain_free": "method", "nothing": "pretrain"}
    levels = {"gold": 0.9, "retrain_free": 0.8, "nothing": 0.7}
    rows = [row(name, s, levels[name], role=role) for name, role in names.items() for s in (0, 1)]
    figure = one("tow", material_of(rows))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["nothing", "retrain_free"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["doing nothing"]


def test_the_box_of_retrained_models_is_drawn_from_them() -> None:
    rows = [row("retrain", s, 0.9 + s / 100, test_score=0.7 + s / 50) for s in (0, 1, 2)]
    rows += [row("ssd", s, 0.5) for s in (0, 1, 2)]
    (box,) = one("forgetting_utility", material_of(rows)).axes[0].patches
    assert isinstance(box, Rectangle)
    assert (*box.get_xy(), box.get_width(), box.get_height()) == pytest.approx((90, 70, 2, 4))
    once = [r for r in rows if r["seed"] == 0]
    assert not one("forgetting_utility", material_of(once)).axes[0].patches


def test_a_row_far_off_is_an_arrow_at_the_edge_and_the_axis_says_where_it_begins() -> None:
    levels = {"pretrain": 0.7, "a": 0.72, "b": 0.74, "jit": 0.8, "scrub": 0.9, "far": 0.2}
    material = material_of([row(m, s, v) for m, v in levels.items() for s in (0, 1)])
    (axes,) = one("tow", material).axes
    low, _ = axes.get_xlim()
    assert 60 < low < 70
    assert axes.get_xlabel().endswith(f"the axis begins at {low:.0f}")
    arrows = [c for c in axes.collections if not c.get_clip_on()]
    assert [np.asarray(arrow.get_offsets()).tolist() for arrow in arrows] == [[[low, 5]]]
    labels = [text.get_text() for text in one("forgetting_utility", material).axes[0].texts]
    assert sorted(labels) == ["a", "b", "far (beyond the axes)", "jit", "pretrain", "scrub"]


def test_no_letter_is_below_eight_pixels_where_an_inch_is_shortest(real: Material) -> None:
    for kind in catalogue.KINDS:
        for drawing in catalogue.KINDS[kind].drawings(real):
            with mpl_style():
                figure = drawing.make()
                sizes = [float(t.get_fontsize()) for t in figure.findobj(Text) if t.get_text()]
            assert min(sizes) / 72 * page.LEAST_PIXELS >= 8, kind


def test_tow_by_size_needs_two_sizes_and_shows_them(rows: list[dict[str, Any]]) -> None:
    assert not list(catalogue.KINDS["tow_by_size"].drawings(material_of(rows)))
    smaller = [row(r["method"], r["seed"], 0.6, num_forget=5) for r in rows if r["tow"]]
    figure = one("tow_by_size", material_of([*rows, *smaller]))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["5", "20"]
    names = [text.get_text() for text in axes.texts]
    assert names == ["jit", "pretrain", "ssd", "retrain_again"]
    colour = looks_of(material_of(rows).summary)["ssd"].colour
    bars = [c for c in axes.containers if isinstance(c, ErrorbarContainer)]
    (line,) = [one.lines[0] for one in bars if one.lines[0].get_color() == colour]
    assert np.allclose(line.get_ydata(), [60, 79.5])


def test_ablation_compares_rows_of_one_method() -> None:
    names = ["gradient_ascent", "gradient_ascent_classifier", "ssd", "pretrain"]
    rows = [row(name, seed, 0.8) for name in names for seed in (0, 1)]
    (drawing,) = catalogue.KINDS["ablation"].drawings(material_of(rows))
    assert drawing.name.endswith("n20-gradient_ascent")
    axes = drawing.make().axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == names[:2]
    assert [text.get_text() for text in axes.texts] == ["80.0", "80.0"]
    assert axes.get_xlabel() == f"ToW (%); the axis begins at {axes.get_xlim()[0]:.0f}"


def entry(stage: Any, key: str, **cost: Any) -> Entry:
    return Entry(
        stage=stage,
        key=key,
        folder=Path("/nowhere"),
        files={},
        value={},
        content=key,
        inputs={},
        cost=cost,
    )


def test_cost_adds_up_by_stage() -> None:
    entries = {
        "a": entry("pretrain", "a", seconds=3.0, peak_bytes=2**31),
        "b": entry("pretrain", "b", seconds=4.0, peak_bytes=2**30),
        "c": entry("score", "c", seconds=1.0),
    }
    time, memory = one("cost", material_of([], entries)).axes
    assert [label.get_text() for label in time.get_yticklabels()] == ["pretrain", "score"]
    assert widths(time) == [7, 1]
    assert widths(memory) == [2]


def test_the_timeline_is_drawn_of_jobs_that_know_worker_and_start() -> None:
    without = {"a": entry("score", "a", seconds=1.0)}
    assert not list(catalogue.KINDS["timeline"].drawings(material_of([], without)))
    entries = without | {
        "b": entry("pretrain", "b", seconds=10.0, started=1000.0, worker="one:1"),
        "c": entry("unlearn", "c", seconds=2.0, started=1010.5, worker="one:1"),
        "d": entry("retrain", "d", seconds=5.0, started=1001.0, worker="two:7"),
    }
    figure = one("timeline", material_of([], entries))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one:1", "two:7"]
    bars = [path.get_extents() for c in axes.collections for path in c.get_paths()]
    assert sorted((box.x0, box.x1) for box in bars) == [(0, 10), (1, 6), (10.5, 12.5)]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["pretrain", "retrain", "unlearn"]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """A small sweep that was really run."""
    folder = tmp_path_factory.mktemp("real")
    sweep = inline_sweep(
        folder,
        "sweep=smoke",
        "sweep.datasets=[synthetic_tiny]",
        "sweep.methods=[pretrain,retrain,retrain_again,ssd,gradient_ascent]",
        "+sweep.rows.retrain_again={method: retrain, reseed: 1}",
    )
    entries = scan(sweep.plan, sweep.store, discard=False).entries
    frame = results_frame(sweep.plan, entries)
    assert frame["tow"].notna().all()
    tables = analyses.write(sweep.plan, entries, folder)
    return Material(
        plan=sweep.plan, entries=entries, frame=frame, summary=summarise(frame), tables=tables
    )


def test_a_real_sweep_has_every_figure_that_it_can(real: Material, tmp_path: Path) -> None:
    found = kinds(catalogue.draw(real, tmp_path))
    assert set(catalogue.KINDS) - set(found) <= {
        "tow_by_size",
        "ablation",
        "timeline",
        "tuning",
        "saturation",
        "sequence",
        "reversal",
        "recovery",
        "likelihood_roc",
        "memorisation",
        "hardness_memorised",
    }
    # Retraining again is no variant of a method.
    assert "ablation" not in found


def test_the_roc_begins_where_ten_test_images_decide(real: Material) -> None:
    (axes,) = one("rmia_roc", real).axes
    labels = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    named = {label.split(":")[0]: line for label, line in labels.items()}
    assert {"pretrain", "ssd", "retrain_again"} <= set(named)
    assert "retrain" not in named
    (mark,) = [name for name in named if name.startswith("ten test images")]
    splits = [e for e in real.entries.values() if e.stage == "split"]
    largest = max(e.value["num_images"]["test"] for e in splits)
    assert named[mark].get_xdata()[0] == pytest.approx(10 / largest)
    assert named["ssd"].get_xdata().min() == pytest.approx(10 / largest)
    rising = named["ssd"].get_ydata()
    assert (np.diff(rising) >= 0).all()
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_the_roc_says_the_area_with_its_interval_over_people(tmp_path: Path) -> None:
    sweep = inline_sweep(
        tmp_path,
        "sweep=smoke",
        "sweep.datasets=[synthetic_tiny]",
        "sweep.forget_sizes=[6]",
        "sweep.methods=[pretrain,retrain,gradient_ascent]",
    )
    entries = scan(sweep.plan, sweep.store, discard=False).entries
    frame = results_frame(sweep.plan, entries)
    drawn, summary = people.resamples(sweep.plan, entries), summarise(frame)
    material = Material(
        plan=sweep.plan, entries=entries, frame=frame, summary=summary, people=drawn
    )
    (axes,) = one("rmia_roc", material).axes
    rows = frame[frame["method"] == "gradient_ascent"]
    ends = people.mean_interval(rows, drawn[drawn["method"] == "gradient_ascent"], "rmia_auc")
    assert ends is not None
    low, high = (round(100 * end) for end in ends)
    expected = f"gradient_ascent: {100 * rows['rmia_auc'].mean():.0f} [{low}, {high}]"
    assert expected in axes.get_legend_handles_labels()[1]
    splits = [e.value["num_images"] for e in entries.values() if e.stage == "split"]
    forget, test = (sorted({split[name] for split in splits}) for name in ("forget", "test"))
    assert axes.get_ylabel() == (
        f"true-positive rate ({' to '.join(map(str, forget))} forget images of 6 people)"
    )
    assert f"{' to '.join(map(str, test))} test images of 10 people" in axes.get_xlabel()


@pytest.mark.parametrize("kind", ["hardness", "retain_drop"])
def test_every_row_has_a_panel_with_its_fit(real: Material, kind: str) -> None:
    shown = [axes for axes in one(kind, real).axes if axes.get_visible()]
    first, last = {"hardness": ("pretrain", []), "retain_drop": ("", ["retrain"])}[kind]
    titles = [*filter(None, [first]), "gradient_ascent", "ssd", *last, "retrain_again"]
    assert [axes.get_title() for axes in shown] == titles
    fits = real.tables[f"{kind}_fits.csv"].set_index("method")
    for axes in shown:
        line = axes.lines[-1]
        slope = np.diff(line.get_ydata())[0] / np.diff(line.get_xdata())[0]
        assert slope == pytest.approx(100 * float(fits["slope"][axes.get_title()]), rel=1e-6)


def panels(rows: list[dict[str, Any]], gaps: Mapping[str, Any]) -> dict[str, Axes]:
    """Figure 4 of made-up people, the same in both seeds, by the names of the rows."""
    people, seed = np.tile(np.arange(15), 2), np.repeat([0, 1], 15)
    distance = 0.2 + people / 100 + seed / 10
    parts = [
        pd.DataFrame(
            {
                "dataset": "faces $x_1$/y",
                "num_forget": 20,
                "method": method,
                "seed": seed,
                "identity": people,
                "distance": distance,
                "gap": make(people) + 0.4 * seed,
            }
        )
        for method, make in gaps.items()
    ]
    points = pd.concat(parts)
    fits = analyses.fits(points, "gap", {"retrain_again"})
    tables = {"hardness.csv": points, "hardness_fits.csv": fits}
    figure = one("hardness", dataclasses.replace(material_of(rows), tables=tables))
    figure.canvas.draw()
    return {axes.get_title(): axes for axes in figure.axes}


def wiggle(people: Any) -> Any:
    """A gap that goes up and down and nowhere."""
    return 0.01 * np.cos(3 * people)


def test_a_panel_says_what_its_line_is_worth(rows: list[dict[str, Any]]) -> None:
    shown = panels(
        rows,
        {
            "ssd": lambda people: wiggle(people) + 0.01 * people,
            "jit": lambda people: 0.02 * np.sin(2 * people),
            "pretrain": lambda people: 0.0 * people,
            "retrain_again": wiggle,
        },
    )
    said = {name: axes.texts[0].get_text().split("\n") for name, axes in shown.items()}
    assert list(said) == ["pretrain", "ssd", "jit", "retrain_again"]
    assert [line.split(" [")[0] for line in said["ssd"]] == [
        "slope +9.8",
        "minus noise +10.0",
        "15 people",
    ]
    assert said["jit"][-1] == "15 people show no trend beyond noise"
    assert said["retrain_again"][-1] == "15 people show no trend"
    assert said["pretrain"] == ["slope +0.0", "15 people: no interval"]
    figure = shown["ssd"].get_figure(root=True)
    assert figure is not None
    notes = " ".join(text.get_text() for text in figure.texts)
    assert "Slopes are points per 0.1 of distance." in notes
    assert "Each seed's gaps are moved to one intercept for all." in notes
    boxes = [axes.texts[0].get_window_extent() for axes in shown.values()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_points_of_seeds_lie_around_one_line(rows: list[dict[str, Any]]) -> None:
    (axes,) = panels(rows, {"ssd": lambda people: wiggle(people) + 0.01 * people}).values()
    line, scatter = axes.lines[-1], axes.collections[0]
    assert isinstance(scatter, PathCollection)
    (x0, x1), (y0, y1) = np.asarray(line.get_xydata()).T
    x, y = np.asarray(scatter.get_offsets()).T
    above = (y - y0 - (y1 - y0) / (x1 - x0) * (x - x0)).reshape(2, 15).mean(axis=1)
    assert above == pytest.approx(0, abs=1e-9)
    assert y.mean() == pytest.approx(100 * (wiggle(np.arange(15)).mean() + 0.07 + 0.2))


def test_the_sheet_shows_the_support_pictures_hardest_first(real: Material) -> None:
    shown = [axes for axes in one("support_sheet", real).axes if axes.get_title()]
    gaps = [float(axes.get_title().split(": ")[1]) for axes in shown]
    assert len(shown) == 4
    assert gaps == sorted(gaps, reverse=True)
    shapes = {np.asarray(axes.images[0].get_array()).shape for axes in shown}
    assert shapes == {(32, 32, 3)}
    people = real.tables["per_identity.parquet"]
    first = people[(people["seed"] == 0) & people["method"].isin(["ssd", "gradient_ascent"])]
    expected = first.groupby("identity")["gap"].mean().sort_values(ascending=False)
    assert [axes.get_title().split(":")[0] for axes in shown] == [str(p) for p in expected.index]


def test_a_damaged_file_stops_the_figures_and_is_named(real: Material, tmp_path: Path) -> None:
    damaged = {
        key: dataclasses.replace(entry, folder=tmp_path / "gone")
        for key, entry in real.entries.items()
    }
    for kind in ("rmia_roc", "support_sheet"):
        with pytest.raises(DamagedEntryError):
            list(catalogue.KINDS[kind].drawings(dataclasses.replace(real, entries=damaged)))


@pytest.mark.parametrize("count", [2, 8, 22, 30])
def test_the_names_beside_points_are_never_cut(count: int) -> None:
    methods = ["pretrain", "retrain", *(f"a_method_{i}" for i in range(count - 2))]
    with mpl_style():
        (drawing,) = catalogue.KINDS["forgetting_utility"].drawings(
            material_of([row(method, 0, 0.5) for method in methods])
        )
        figure = drawing.make()
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        boxes = []
        for text in figure.axes[0].texts:
            assert isinstance(text, Annotation)
            text.update_positions(canvas.get_renderer())
            # An annotation's own extent holds its line as well.
            boxes.append(Text.get_window_extent(text))
    assert len(boxes) == count
    assert min(box.y0 for box in boxes) >= 0
    assert max(box.y1 for box in boxes) <= figure.bbox.height
    assert max(box.x1 for box in boxes) <= figure.bbox.width
    heights = sorted((box.y0, box.y1) for box in boxes)
    assert all(below[1] <= above[0] + 1 for below, above in itertools.pairwise(heights))
