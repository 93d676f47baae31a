"""The forms of the comparative table: terminal, Markdown and LaTeX say the same."""

from __future__ import annotations

import dataclasses
import io
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from support.result_frames import frame_of, row

from sweeps.inference.evidence import Evidence
from sweeps.report import formats, tables
from sweeps.report.summary import summarise


@pytest.fixture
def frame() -> pd.DataFrame:
    return frame_of(
        [
            row("retrain", 0, 1.0, unlearn_seconds=28.4),
            row("retrain", 1, 1.0, unlearn_seconds=29.4),
            row("pretrain", 0, 0.75),
            row("pretrain", 1, 0.85),
            row("ssd", 0, 0.8, unlearn_seconds=0.5, prepare_seconds=12.0, forget_gap=0.031),
            row("ssd", 1, None),
            row("jit", 0, 0.9),
            row("jit", 1, 0.91),
            row("gradient_ascent", 0, None),
            row("gradient_ascent", 1, None),
        ]
    )


@pytest.fixture
def two_sizes(frame: pd.DataFrame) -> pd.DataFrame:
    other = frame[frame["method"] != "gradient_ascent"].assign(num_forget=5)
    return pd.concat([frame.iloc[:1], other, frame.iloc[1:]])


def printed(frame: pd.DataFrame, **console: Any) -> str:
    stream = io.StringIO()
    formats.terminal(summarise(frame), Console(file=stream, **console))
    return stream.getvalue()


def test_forget_sizes_of_a_dataset_stand_side_by_side(two_sizes: pd.DataFrame) -> None:
    (table,) = tables.tables_of(summarise(two_sizes))
    assert table.title == "synthetic, 20 and 5 forget identities"
    jit = next(line for line in table.lines if line.method == "jit")
    assert jit.counts == {20: "2/2", 5: "2/2"}
    assert str(jit.cells[5, "tow"]) == str(jit.cells[20, "tow"]) == "90.5 ± 0.7"


def test_a_row_that_one_size_does_not_have_is_shown_as_missing(two_sizes: pd.DataFrame) -> None:
    (table,) = tables.tables_of(summarise(two_sizes))
    line = next(line for line in table.lines if line.method == "gradient_ascent")
    assert line.counts == {20: "0/2", 5: "-"}
    assert {str(cell) for cell in line.cells.values()} == {"-"}


def test_many_sizes_make_several_tables(frame: pd.DataFrame) -> None:
    many = pd.concat([frame.assign(num_forget=size) for size in (1, 5, 10, 20)])
    found = tables.tables_of(summarise(many))
    assert [table.sizes for table in found] == [(1, 5, 10), (20,)]
    assert tables.sizes_title("faces", [1]) == "faces, 1 forget identity"


def test_a_rule_separates_rows_that_saw_different_things(frame: pd.DataFrame) -> None:
    (table,) = tables.tables_of(summarise(frame))
    ruled = [line.method for place, line in enumerate(table.lines) if table.rule_before(place)]
    assert table.lines[0].method == "pretrain"
    assert ruled == ["jit", "ssd", "retrain"]
    lines = printed(frame, width=80).splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("retrain "))
    assert set(lines[place - 1]) == {"─"}
    assert lines[place - 2].startswith("ssd")


@pytest.mark.parametrize("sizes", [[20], [5, 20], [5, 10, 20]])
def test_terminal_keeps_within_100_columns_of_a_log(frame: pd.DataFrame, sizes: list[int]) -> None:
    text = printed(pd.concat([frame.assign(num_forget=size) for size in sizes]), width=80)
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text


def test_terminal_shows_every_number(frame: pd.DataFrame) -> None:
    lines = printed(frame, width=80).splitlines()
    rows: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith(("ssd", "pretrain", "gradient", "jit")):
            rows.setdefault(line.split()[0], []).extend(line.split()[3:])
    assert len(rows["gradient_ascent"]) == sum(len(panel) for panel in tables.PANELS[:2])
    assert set(rows["gradient_ascent"]) == {"-"}
    assert rows["pretrain"][0] == "80.0±7.1"
    assert "+3.1" in rows["ssd"]
    assert {"0.50", "12.0"} <= set(rows["ssd"])
    assert all(line.split()[2] == "1/2" for line in lines if line.startswith("ssd"))


def test_a_log_gives_long_names_a_line_of_their_own(two_sizes: pd.DataFrame) -> None:
    name = "a_method_with_quite_a_long_name_of_more_than_fifty_letters"
    two_sizes["method"] = two_sizes["method"].replace("pretrain", name)
    lines = printed(two_sizes, width=80).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[lines.index(name) + 1].startswith("  S")


@pytest.mark.parametrize("width", [80, 100, 160])
def test_terminal_keeps_to_the_width_of_a_terminal(frame: pd.DataFrame, width: int) -> None:
    text = printed(frame, width=width, force_terminal=True, color_system=None, no_color=True)
    table = [line for line in text.splitlines() if "±" in line and "mean" not in line]
    assert table
    assert max(map(len, table)) <= width


def test_seconds_have_the_digits_that_they_deserve() -> None:
    for seconds, shown in ((0.456, "0.46"), (45.67, "45.7"), (4567.8, "4568")):
        summary = summarise(frame_of([row("ssd", 0, 0.5, unlearn_seconds=seconds)]))
        (line,) = tables.tables_of(summary)[0].lines
        assert line.cells[20, "unlearn_seconds"].mean == shown


def test_the_spread_of_seconds_stands_where_there_is_room(frame: pd.DataFrame) -> None:
    assert "| 28.9 ± 0.7 | - |" in formats.markdown(summarise(frame))
    source = formats.latex(summarise(frame))
    assert r"- & - & 28.9 & - \\" in source
    lines = printed(frame, width=80).splitlines()
    assert [line.split()[-2:] for line in lines if line.startswith("retrain ")][-1] == ["28.9", "-"]


def test_the_terminal_has_short_titles(frame: pd.DataFrame) -> None:
    heads = [line for line in printed(frame, width=80).splitlines() if line.startswith("method")]
    titles = [title for head in heads for title in head.split()[3:]]
    assert titles == (
        [
            "retain",
            "forget",
            "test",
            "ToW",
            "MIA",
            "ToWn",
            "Δret",
            "Δfor",
            "Δtest",
            "MIAacc",
            "RMIA",
            "sec",
            "prep",
            "s",
        ]
    )


def test_gaps_carry_their_sign_and_zero_none_that_misleads() -> None:
    for gap, shown in ((0.0312, "+3.1"), (-0.0312, "-3.1"), (-0.0001, "+0.0")):
        summary = summarise(frame_of([row("ssd", 0, 0.5, forget_gap=gap)]))
        (line,) = tables.tables_of(summary)[0].lines
        assert line.cells[20, "forget_gap"].mean == shown


@pytest.fixture
def ranked() -> pd.DataFrame:
    levels = {"retrain": 0.96, "retrain_again": 0.962, "a": 0.961, "b": 0.8, "c": 0.7}
    wobble = (0.0, 0.002, 0.001)
    return frame_of(
        [
            row(m, s, v + wobble[(s + place) % 3])
            for place, (m, v) in enumerate(levels.items())
            for s in (0, 1, 2)
        ]
    )


def test_best_second_best_and_noise_are_marked_in_every_form(ranked: pd.DataFrame) -> None:
    summary = summarise(ranked)
    text = printed(ranked, width=100)
    assert "*96.2±0.1≈" in text
    assert "°80.1±0.1 " in text
    page = formats.markdown(summary)
    assert "**96.2 ± 0.1** ≈ |" in page
    assert "| _80.1 ± 0.1_ |" in page
    source = formats.latex(summary)
    assert r"\textbf{96.2}{\tiny$\pm$0.1}$\approx$" in source
    assert r"\underline{80.1}{\tiny$\pm$0.1}" in source


def test_notes_say_what_as_good_as_retrained_means_or_that_nothing_says_it(
    ranked: pd.DataFrame,
) -> None:
    summary = summarise(ranked)
    (alike,) = tables.notes(summary, Evidence.of(ranked, margin=0.03))
    assert "its mean within 3 points of what retrained models have among themselves" in alike
    assert "synthetic, 20 forget identities: 99.4 on average of 3 seeds, 98.8 at the low" in alike
    once = ranked[ranked["method"] != "retrain_again"]
    (none,) = tables.notes(summarise(once), Evidence.of(once))
    assert none.startswith("No cell was retrained twice")
    assert "retrain_again" in none


def test_tables_of_few_people_show_loss_and_margin_too() -> None:
    values = {"forget_loss_gap": 0.1234, "forget_margin_gap": -1.25, "requests": 20}
    (few, many) = (
        tables.tables_of(summarise(frame_of([row("ssd", 0, 0.5, num_forget=size, **values)])))[0]
        for size in (1, 20)
    )
    assert few.panels == tables.PANELS
    assert many.panels == tables.PANELS[:2]
    (line,) = few.lines
    assert str(line.cells[1, "forget_loss_gap"]) == "+0.12"
    assert str(line.cells[1, "forget_margin_gap"]) == "-1.25"
    retrain = frame_of([row("retrain", 0, 1.0, num_forget=1, **values)])
    (itself,) = tables.tables_of(summarise(retrain))[0].lines
    assert str(itself.cells[1, "forget_margin_gap"]) == tables.MISSING
    assert few.title.startswith("synthetic, 1 forget identity, 20 requests per seed")
    frame = frame_of([row("ssd", 0, 0.5, num_forget=1)])
    assert tables.FEW_NOTE in tables.notes(summarise(frame), Evidence.of(frame))


def test_seeds_that_do_not_vary_everything_are_spoken_of() -> None:
    assert tables.fixed_notes("all") == ()
    (note,) = tables.fixed_notes("training")
    assert note.startswith("Seeds vary the training alone (sweep.vary=training): what is shown")


def test_what_is_true_by_definition_is_no_number() -> None:
    frame = frame_of(
        [
            row(m, s, v, retain_gap=g, forget_gap=g, test_gap=g)
            for m, v, g in (("pretrain", 0.7, 0.1), ("retrain", 1.0, 0.0), ("ssd", 0.8, 0.05))
            for s in (0, 1, 2)
        ]
    )
    (table,) = tables.tables_of(summarise(frame))
    cells = {line.method: line.cells for line in table.lines}
    for measure in ("tow", "retain_gap", "forget_gap", "test_gap", "tow_normalised"):
        assert str(cells["retrain"][20, measure]) == tables.MISSING, measure
    assert str(cells["pretrain"][20, "tow_normalised"]) == tables.MISSING
    assert str(cells["pretrain"][20, "tow"]).startswith("70.0")
    assert str(cells["retrain"][20, "forget_score"]).startswith("100.0")


def test_what_is_shown_against_doing_nothing_is_marked_in_every_form() -> None:
    gains = {"pretrain": (0.5, 0.5, 0.51), "a": (0.6, 0.61, 0.61), "b": (0.4, 0.39, 0.4)}
    frame = frame_of([row(m, s, v) for m, values in gains.items() for s, v in enumerate(values)])
    text = printed(frame, width=100)
    assert "60.7±0.6↑" in text
    assert "39.7±0.6↓" in text
    assert "60.7 ± 0.6** ↑ |" in formats.markdown(summarise(frame))
    assert "39.7±0.6" in text
    source = formats.latex(summarise(frame))
    assert r"{\tiny$\pm$0.6}$\downarrow$ & -10.7$^{**}$ &" in source.replace("$-$", "-")
    assert r"ToW & vs pretrain &" in source
    assert "Against pretrain: ToW minus its, in points" in source


def test_rows_that_forget_too_much_are_marked_in_every_form() -> None:
    attacks = {"a": (0.3, 0.31, 0.29), "b": (0.6, 0.61, 0.62)}
    frame = frame_of(
        [row(m, s, 0.8, mia_auc=v) for m, own in attacks.items() for s, v in enumerate(own)]
    )
    summary = summarise(frame)
    assert "30.0±1.0▽" in printed(frame, width=100)
    assert tables.OVERFORGETS_NOTE in printed(frame, width=100)
    assert "30.0 ± 1.0 ▽ |" in formats.markdown(summary)
    assert r"30.0{\tiny$\pm$1.0}$\bigtriangledown$ " in formats.latex(summary)
    assert tables.overforgets_note(summary).startswith("▽ forgets too much: ")
    assert tables.overforgets_note(summary[summary["method"] == "b"]) == ""


def test_a_long_table_has_no_panel_of_a_single_column() -> None:
    names = ["a_method_of_thirty_letters_here", "ssd", "jit"]
    long = frame_of([row(m, s, 0.5 + s / 10, tuning="simulated") for m in names for s in (0, 1)])
    heads = [line for line in printed(long, width=80).splitlines() if line.startswith("method")]
    counts = [len(head.replace("prep s", "prep").split()) - 4 for head in heads]
    assert sum(counts) == sum(len(panel) for panel in tables.PANELS[:2])
    assert max(counts) - min(counts) <= 1


def test_comparisons_are_texts_by_what_they_ask() -> None:
    gains = {"pretrain": (0.5, 0.5, 0.51), "a": (0.6, 0.61, 0.6), "b": (0.7, 0.69, 0.7)}
    frame = frame_of([row(m, s, v) for m, values in gains.items() for s, v in enumerate(values)])
    asked = dict(tables.comparison_tables(Evidence.of(frame)))
    assert [(len(lines), lines[0].method) for lines in asked.values()] == [
        (2, "a"),
        (1, "b"),
        (2, "a"),
    ]
    first = next(iter(asked.values()))[0]
    assert (first.request, first.measure, first.other, first.num) == (
        "synthetic, 20 forget identities",
        "ToW",
        "pretrain",
        "3",
    )
    assert (first.difference, first.interval) == ("+10.0", "+7.5 to +12.5")
    assert (first.people, first.is_shown) == (tables.MISSING, True)


def test_rows_over_all_datasets_are_texts() -> None:
    frame = frame_of(
        [
            row("ssd", s, v + s / 100, dataset=d)
            for d, v in (("x", 0.5), ("y", 0.7))
            for s in (0, 1, 2)
        ]
    )
    ((name, datasets, values, mean, interval, *_),) = tables.overall_lines(
        Evidence.of(frame).overall
    )
    assert (name, datasets, values, mean) == ("ssd", "2", "6", "61.0")
    low, high = map(float, interval.split(" to "))
    assert low < 61 < high


@pytest.mark.parametrize(
    ("protections", "said"),
    [
        (["landlock 7", "landlock 7", None], None),
        ([None, None, None], None),
        (["landlock 7", "landlock 5", "landlock 7"], "landlock 7 in 2 of 3 rows, landlock 5 in 1"),
        (["audit", None, "audit"], "audit in 2 of 2 rows. Under audit, native code can open files"),
    ],
)
def test_a_note_says_when_the_kernel_did_not_keep_all_from_the_data_alike(
    protections: list[str | None], said: str | None
) -> None:
    frame = frame_of([row("ssd", s, 0.9, protection=p) for s, p in enumerate(protections)])
    notes = tables.protection_notes(frame)
    assert len(notes) == (said is not None)
    assert (said or "") in "".join(notes)


def test_markdown_has_one_cell_per_column(two_sizes: pd.DataFrame) -> None:
    page = formats.markdown(summarise(two_sizes), ["A note."])
    blocks = [b.splitlines() for b in page.split("\n\n") if b.startswith("|")]
    for lines, panel in zip(blocks, tables.PANELS, strict=True):  # one size is 5
        assert {line.count("|") for line in lines} == {3 + 2 * (1 + len(panel))}
    assert "| `retrain` (reference) | D_f, D_r | 2/2 | 100.0 ± 0.0 |" in page
    assert page.endswith("A note.\n")


def test_latex_escapes_what_latex_would_read() -> None:
    name = r"50%_of$all&{#}^~\x"
    text = formats.latex(summarise(frame_of([row(name, 0, 0.5), row("retrain", 0, 1.0)])))
    escaped = r"50\%\_of\$all\&\{\#\}\textasciicircum{}\textasciitilde{}\textbackslash{}x"
    assert f"{escaped} & S & 1/1 & 50.0" in text
    assert "retrain & $D_f$, $D_r$ & 1/1 & 100.0" in text


def test_latex_puts_forget_sizes_of_tuned_rows_under_heads_of_their_own() -> None:
    rows = [
        row(method, seed, tow, num_forget=size, tuning=tuning)
        for size in (1, 5)
        for method, tow, tuning in (("a", 0.5, "oracle"), ("ssd", 0.25, None))
        for seed in (0, 1)
    ]
    tables_of = formats.latex(summarise(frame_of(rows)), ["Noted: 5 %."]).split("\n\n")
    assert tables_of[0] == r"% needs \usepackage{booktabs}"
    assert len(tables_of) == 1 + 4  # 15 measures of two sizes, 8 numbers beside each other
    lines = tables_of[1].splitlines()
    assert lines[:2] == [
        r"\begin{table*}",
        r"\centering\scriptsize\setlength{\tabcolsep}{2.5pt}",
    ]
    title = "synthetic, 1 and 5 forget identities"
    assert lines[2].startswith(rf"\caption[{title}]{{{title}. Retain, forget")
    assert lines[2].endswith(r"never ranked. Noted: 5 \%.}")
    assert lines[3:] == [
        r"\label{tab:synthetic-n1-5-1}",
        r"\begin{tabular}{lllrrrrrrrrrr}",
        r"\toprule",
        r" &  &  & \multicolumn{5}{c}{1 identity} & \multicolumn{5}{c}{5 identities} \\ "
        r"\cmidrule(lr){4-8} \cmidrule(lr){9-13}",
        r"method & data seen & tuned & $n$ & retain & forget & test & ToW "
        r"& $n$ & retain & forget & test & ToW \\",
        r"\midrule",
        r"a & S & ORACLE" + 2 * (r" & 2/2" + 4 * r" & 50.0{\tiny$\pm$0.0}") + r" \\",
        r"\midrule",
        r"ssd & S + prep. & no" + 2 * (r" & 2/2" + 4 * r" & 25.0{\tiny$\pm$0.0}") + r" \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table*}",
    ]
    assert "Noted" not in "".join(tables_of[2:])


def test_markdown_says_sizes_and_tuning_in_its_heads() -> None:
    rows = [row("a", 0, 0.5, num_forget=size, tuning="simulated") for size in (1, 5)]
    page = formats.markdown(summarise(frame_of(rows)), ["One.", "Two."])
    assert page.startswith(
        "### synthetic, 1 and 5 forget identities\n\n"
        "| method | data seen | tuned | n (1) | retain (1) | forget (1) | test (1) | ToW (1) "
        "| MIA AUC (1) | n (5) | retain (5) | forget (5) | test (5) | ToW (5) | MIA AUC (5) |\n"
        "| --- | --- | --- |" + 12 * " ---: |" + "\n"
        "| `a` | S | sim | 1/1 |" + 5 * " 50.0 |" + " 1/1 |" + 5 * " 50.0 |" + "\n\n"
        "| method | data seen | tuned | n (1) | ToW norm (1) |"
    )
    assert tables.TUNING_NOTE in page
    assert page.endswith("and are never ranked.\n\nOne.\n\nTwo.\n")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles_with_booktabs_alone_and_fits_the_page(
    two_sizes: pd.DataFrame, ranked: pd.DataFrame, tmp_path: Path
) -> None:
    everything = pd.concat([two_sizes, two_sizes.assign(dataset=r"a_b%\c"), ranked])
    notes = tables.notes(summarise(ranked), Evidence.of(ranked))
    source = tmp_path / "t.tex"
    source.write_text(
        "\\documentclass[a4paper,twocolumn]{article}\n\\usepackage{booktabs}\n"
        "\\usepackage[margin=2cm]{geometry}\n"
        "\\begin{document}\n" + formats.latex(summarise(everything), notes) + "\\end{document}\n"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", source.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_rows_whose_jobs_were_not_computed_alike_are_marked_wherever_they_stand() -> None:
    cpu = {"device": "cpu", "precision": "float32", "versions": "torch 2", "commit": "abc"}
    gpu = {**cpu, "device": "NVIDIA H200", "precision": "bfloat16"}
    both = {**cpu, "device": "NVIDIA H200 + cpu"}
    frame = frame_of(
        [
            *(row("pretrain", seed, 0.5, **cpu) for seed in (0, 1)),
            row("ssd", 0, 0.8, **cpu),
            row("ssd", 1, 0.8, **gpu),
            *(row("jit", seed, 0.7, **both) for seed in (0, 1)),
        ]
    )
    summary = summarise(frame)
    mixed = dict(zip(summary["method"], summary["mixed"], strict=True))
    assert mixed == {"pretrain": "", "ssd": "device, precision", "jit": "device"}
    (table,) = tables.tables_of(summary)
    assert [line.title for line in table.lines] == ["pretrain", "jit †", "ssd †"]
    *_, note = tables.notes(summary, Evidence.of(frame))
    assert note.startswith("† the jobs behind the row differ in device and precision:")
    assert "`ssd †`" in formats.markdown(summary)
    assert r"ssd $\dagger$ &" in formats.latex(summary)
    text = printed(frame)
    assert "jit †" in text
    assert "† the jobs behind the row differ" in text
    alike = summary.assign(mixed="")
    assert tables.mixture_note(alike) == ""
    assert "†" not in formats.markdown(alike)


def test_rows_whose_hyperparameters_saw_the_truth_are_marked_everywhere() -> None:
    rows = [
        row(name, seed, 0.8, hyperparameters_from=origin)
        for name, origin in (("pretrain", None), ("ssd", "tuned"), ("jit", "truth_in_view"))
        for seed in (0, 1)
    ]
    summary = summarise(frame_of(rows))
    (table,) = tables.tables_of(summary)
    assert [line.title for line in table.lines] == ["pretrain", "jit ‡", "ssd"]
    note = tables.notes(summary, Evidence.of(frame_of(rows)))[-1]
    assert note.startswith("‡ hyperparameters found with retrained models of reported cells in")
    for text in (formats.markdown(summary, [note]), printed(frame_of(rows))):
        assert "jit ‡" in text
        assert "ssd ‡" not in text
        assert "‡ hyperparameters found" in text
    assert r"jit $\ddagger$" in formats.latex(summary, [note])
    both = dataclasses.replace(table.lines[1], is_mixed=True)
    assert both.title == "jit † ‡"
    honest = summary.assign(hyperparameters_from="given")
    assert "‡" not in " ".join(tables.notes(honest, Evidence.of(frame_of(rows))))
    assert "‡" not in formats.markdown(honest)
