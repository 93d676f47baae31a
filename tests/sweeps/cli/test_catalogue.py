"""``mode=list`` and ``--help``: what there is, in words that are written elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from oneshui import methods
from sweeps.cli import catalogue, main
from sweeps.cli.catalogue import Entry, show_help, show_list
from sweeps.composition import shipped, sweep_names
from sweeps.graph.launch import Listed


def text_of(entries: list[Entry], name: str) -> str:
    (found,) = [one.text for one in entries if one.name == name]
    return found


def shown(width: int = 80, what: Listed | None = None) -> str:
    to = io.StringIO()
    show_list(Console(file=to, width=width, highlight=False, markup=False), what)
    return to.getvalue()


def test_everything_that_can_be_named_is_there() -> None:
    assert [one.name for one in catalogue.sweeps()] == sweep_names()
    assert [one.name for one in catalogue.datasets()] == list(shipped("demo")["datasets"])
    assert [one.name for one in catalogue.all_methods()] == list(methods.names())
    entries = [*catalogue.sweeps(), *catalogue.datasets(), *catalogue.all_methods()]
    assert not [one.name for one in [*entries, *catalogue.all_keys()] if len(one.text) < 8]


def test_the_words_are_those_of_files_and_docstrings() -> None:
    assert text_of(catalogue.sweeps(), "large") == "Hundreds of people ask at once."
    assert text_of(catalogue.datasets(), "celeba") == (
        "CelebA as users have it: celeba/ with 202,599 pictures of 10,177 people."
    )
    assert text_of(catalogue.datasets(), "mufac_clean").startswith("MUFAC without the pictures")
    assert text_of(catalogue.datasets(), "synthetic") == (
        "Drawn faces in the layout celebahq: 400 people, 8 pictures each, 64 px."
    )


def test_a_file_with_two_methods_describes_each_of_them() -> None:
    found = catalogue.all_methods()
    assert text_of(found, "scrub") == (
        "Forget steps on D_f, then retain steps on D_r. Sees D_f, D_r."
    )
    assert text_of(found, "scrub_support").endswith("nothing to repair with. Sees S.")
    assert text_of(found, "ssd").startswith("Selective synaptic dampening: shrink the weights")


@pytest.mark.parametrize(
    ("key", "end"),
    [
        ("cluster.workers", "(or per GPU share); default 0"),
        ("sweep.views", "membership attack; default 2 in demo, 8 in full"),
        ("sweep.seeds", "forget size; default [0, 1, 2]"),
        ("tuning.rows", "only these rows"),
        ("cluster.stages", "What jobs of a stage get instead."),
    ],
)
def test_a_default_is_said_where_it_says_something(key: str, end: str) -> None:
    assert text_of(catalogue.all_keys(), key).endswith(end)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_too_long_and_no_word_is_broken(width: int) -> None:
    lists = shown(width)
    assert max(map(len, lists.splitlines())) <= width
    words = set(lists.split())
    for one in [*catalogue.sweeps(), *catalogue.all_methods(), *catalogue.all_keys()]:
        assert set(one.text.split()) | {one.name} <= words


def test_one_list_can_be_asked_for() -> None:
    assert shown(what="methods").startswith("\nmethods\n  assd ")
    assert "sweep.seeds" not in shown(what="methods")
    assert "\nkeys\n" in shown()


def test_help_has_the_lists_and_the_keys_that_every_sweep_has() -> None:
    to = io.StringIO()
    show_help(Console(file=to, width=80, highlight=False, markup=False))
    for part in ("\nsweeps\n", "\ndatasets\n", "\nmethods\n", "\n  output_dir ", "\n  store.uri "):
        assert part in to.getvalue()
    assert "\n  sweep.seeds" not in to.getvalue()


@pytest.mark.parametrize("arguments", [["--help"], ["mode=list"], ["mode=list", "what=keys"]])
def test_the_command_prints_them_within_80_columns(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/oneshui", *arguments])
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "output_dir" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_an_unknown_list_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mode=list", "what=metods"]) == 2
    assert "'sweeps', 'datasets', 'methods' or 'keys'" in capsys.readouterr().err
