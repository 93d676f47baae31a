"""What people do with the page: sort, filter, copy, ask where a number comes from, print, phone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.browser import Browser, browser, needs_browser
from support.result_frames import frame_of, row

from sweeps.config import load
from sweeps.graph.plan import expand
from sweeps.inference.evidence import Evidence
from sweeps.report import page
from sweeps.report.figures import catalogue
from sweeps.report.summary import summarise

pytestmark = needs_browser

LEVELS = {"pretrain": 0.7, "retrain": 1.0, "ssd": 0.75, "jit": 0.8, "scrub": 0.9, "pgu": 0.72}
IDS = "[...document.querySelectorAll('#{} tr[id]:not(.none)')].map((row) => row.id.split('-')[2])"
PINNED = ["pretrain", "retrain"]
COPIED = """(() => { globalThis.copied = [];
  navigator.clipboard.writeText = async (text) => { globalThis.copied.push(text); }; })()"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page over two forget sizes, without figures."""
    parts = ["sweep=smoke", "sweep.forget_sizes=[4,2]", "sweep.datasets=[synthetic_tiny]"]
    names = ",".join(LEVELS)
    plan = expand(load([*parts, f"sweep.methods=[{names}]"]).sweep)
    retain: dict[str, Any] = {"jit": 0.6, "ssd": 0.9, "pgu": 0.8}
    frame = frame_of(
        [
            row(
                m,
                s,
                v + s / 100,
                num_forget=size,
                dataset="synthetic_tiny",
                retain_score=retain.get(m, 0.95),
            )
            for size in (4, 2)
            for m, v in LEVELS.items()
            for s in (0, 1)
        ]
    )
    evidence, folder = Evidence.of(frame), tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "draw", lambda *_: [])
        known = (plan, frame, summarise(frame, evidence), evidence, {}, (), (), folder, parts)
        return page.write_report(*known).as_uri()


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def shown(window: Browser, written: str) -> Iterator[Browser]:
    window.errors.clear()
    window.look(width=1440, height=1000)
    window.open(written)
    yield window
    assert window.errors == []


def rows(window: Browser, block: str = "synthetic_tiny-n4") -> list[str]:
    return list(window.evaluate(IDS.format(block)))


def test_a_click_sorts_what_competes_and_leaves_the_rest_where_it_is(shown: Browser) -> None:
    assert rows(shown) == [*PINNED, "jit", "ssd", "pgu", "scrub"]
    head = "document.querySelector('#table [data-key=retain_score]')"
    shown.evaluate(f"{head}.click()")
    assert rows(shown) == [*PINNED, "ssd", "pgu", "jit", "scrub"]
    assert rows(shown, "synthetic_tiny-n2") == [*PINNED, "ssd", "pgu", "jit", "scrub"]
    assert shown.evaluate(f"{head}.getAttribute('aria-sort')") == "descending"
    key = "new KeyboardEvent('keydown', {key: 'Enter', bubbles: true})"
    shown.evaluate(f"{head}.dispatchEvent({key})")
    assert rows(shown) == [*PINNED, "jit", "pgu", "ssd", "scrub"]
    shown.evaluate("document.querySelector('#table [data-sort=text]').click()")
    assert rows(shown)[2:] == ["jit", "pgu", "ssd", "scrub"]
    # Nothing is known of these: the order stays.
    shown.evaluate("document.querySelector('#table [data-key=unlearn_seconds]').click()")
    assert rows(shown) == [*PINNED, "jit", "ssd", "pgu", "scrub"]


def test_words_data_seen_and_request_filter(shown: Browser) -> None:
    def choose(name: str, value: str) -> None:
        found = f"document.getElementById('{name}')"
        shown.evaluate(f"{found}.value = '{value}'; {found}.dispatchEvent(new Event('input'))")

    def count() -> str:
        return str(shown.evaluate("document.getElementById('count').textContent"))

    assert count() == "12 of 12 rows"
    choose("find", "SS")
    assert rows(shown) == ["ssd"]
    assert count() == "2 of 12 rows"
    choose("find", "")
    choose("seen", "full")
    assert rows(shown) == [*PINNED, "scrub"]
    choose("block", "synthetic_tiny-n2")
    assert rows(shown) == []
    assert count() == "3 of 12 rows"


def test_a_table_is_copied_as_latex(shown: Browser) -> None:
    shown.evaluate(COPIED)
    shown.evaluate("document.querySelector('#synthetic_tiny-n2 .block button').click()")
    shown.wait("globalThis.copied.length")
    (text,) = shown.evaluate("globalThis.copied")
    assert r"\label{tab:synthetic_tiny-n2-1}" in text
    assert r"vs pretrain" in text
    assert "copied" in shown.evaluate(
        "document.querySelector('#synthetic_tiny-n2 .block button').textContent"
    )


def test_a_number_says_where_it_comes_from(shown: Browser) -> None:
    cell = "#synthetic_tiny-n4-ssd td:has(a)"
    shown.evaluate(f"document.querySelector('{cell} a').click()")
    shown.wait("document.getElementById('why').open")
    text = shown.evaluate("document.getElementById('why').innerText")
    assert "synthetic_tiny 4 ssd: ToW" in text
    assert "method ssd (source " in text
    assert 'mode=why row="synthetic_tiny 4 ssd tow"' in text
    shown.evaluate("for (const part of document.querySelectorAll('#why details')) part.open = true")
    text = shown.evaluate("document.getElementById('why').innerText")
    for said in ("seed 0", "seed 1", "score/", "pretrain/", "index/", "no result", "inputs: "):
        assert said in text
    shown.evaluate("document.querySelector('#why .close').click()")
    assert not shown.evaluate("document.getElementById('why').open")


def test_a_phone_shows_three_numbers_and_the_rest_of_a_row_on_request(
    shown: Browser, written: str
) -> None:
    shown.look(width=390, height=800, phone=True)
    shown.open(written)
    assert shown.evaluate("document.documentElement.scrollWidth") == 390
    visible = """[...document.querySelectorAll('#synthetic_tiny-n4-jit > *')]
      .filter((cell) => cell.offsetParent).map((cell) => cell.innerText.trim())"""
    closed = shown.evaluate(visible)
    assert [text.replace("▸ ", "") for text in closed] == ["jit", "80.5 ", "60.0", "-"] or (
        closed[0].endswith("jit") and len(closed) == 4
    )
    shown.evaluate("document.querySelector('#synthetic_tiny-n4-jit summary').click()")
    assert len(shown.evaluate(visible)) > 15
    assert shown.evaluate("document.documentElement.scrollWidth") == 390


def test_without_scripts_all_is_there_and_on_paper_all_is_open(
    shown: Browser, written: str
) -> None:
    shown.call("Emulation.setEmulatedMedia", media="print")
    shown.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert shown.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    assert shown.evaluate("getComputedStyle(document.getElementById('tools')).display") == "none"
    shown.evaluate("dispatchEvent(new Event('afterprint'))")
    assert shown.evaluate("document.querySelectorAll('details:not([open])').length") > 0
    shown.call("Emulation.setEmulatedMedia", media="")
    shown.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        shown.open(written)
        assert rows(shown) == [*PINNED, "jit", "ssd", "pgu", "scrub"]
        assert shown.evaluate("document.getElementById('tools').hidden")
        links = shown.evaluate(
            "document.querySelectorAll('#table td a[href=\"#provenance\"]').length"
        )
        assert links > 50
    finally:
        shown.call("Emulation.setScriptExecutionDisabled", value=False)
