"""What a person sees of a finished sweep: report and MLflow's pages, in a real browser."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.browser import Browser, browser, needs_browser
from support.commands import launch, start
from support.inline_sweep import inline_sweep
from support.processes import children

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COMMAND = [
    "sweep=smoke",
    "sweep.datasets=[synthetic_tiny]",
    "sweep.methods=[pretrain,retrain,ssd,jit,gradient_ascent]",
]
ROWS = ("pretrain", "retrain", "ssd", "jit", "gradient_ascent")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep with its report and MLflow's view."""
    folder = tmp_path_factory.mktemp("review")
    inline_sweep(folder, *COMMAND)
    done = launch(*COMMAND, f"output_dir={folder}", "mode=report")
    assert done.status == 0, done.out + done.err
    assert "paper_numbers.csv: not filled" in done.out
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as page:
        yield page


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "height"), [(1366, 768), (390, 844)])
def test_the_report_reads_well(
    folder: Path, page: Browser, tmp_path: Path, dark: bool, width: int, height: int
) -> None:
    page.look(width=width, height=height, dark=dark, phone=width < 500)
    page.errors.clear()
    page.open((folder / "report" / "index.html").as_uri())
    assert page.errors == []
    # Wide tables scroll within themselves, the page as a whole does not.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 300)")
    assert len(page.evaluate("[...document.images].map(i => i.alt)")) >= 8
    luminance = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)[0]"
    )
    assert (luminance < 60) == dark
    assert page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)") >= 16
    text = page.text()
    for said in ("Which method brings", "10 of 10 results", "Where the numbers come from", *ROWS):
        assert said in text
    page.screenshot(tmp_path / "report.png")
    assert (tmp_path / "report.png").stat().st_size > 20_000


@dataclass(frozen=True)
class UI:
    process: subprocess.Popen[str]
    links: dict[str, str]


@pytest.fixture(scope="module")
def ui(folder: Path) -> Iterator[UI]:
    process = start(*COMMAND, f"output_dir={folder}", "mode=ui")
    links: dict[str, str] = {}
    said: list[str] = []
    ready = threading.Event()

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if found := re.match(r"  (.+): (http://127\.0\.0\.1:\S+)$", line):
                links[found.group(1)] = found.group(2)
            if "Ctrl-C" in line:
                ready.set()
        ready.set()

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        assert ready.wait(180)
        assert links, "".join(said)
        yield UI(process, links)
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGINT)
        process.wait(30)
        listener.join()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


@needs_browser
def test_the_leaderboard_shows_rows_and_columns(ui: UI, page: Browser, tmp_path: Path) -> None:
    page.look(width=1900, height=900)
    page.open(ui.links["leaderboard"])
    page.wait("document.body.innerText.includes('Leaderboard by ToW')")
    page.wait("document.body.innerText.includes('retrain synthetic_tiny n4')")
    # The table is drawn column by column.
    page.wait(
        "[...document.querySelectorAll('[role=columnheader]')]"
        ".some(head => head.innerText.trim() === 'test')"
    )
    text = page.text()
    for row in ROWS:
        assert f"{row} synthetic_tiny n4" in text
    heads = page.evaluate(
        "[...document.querySelectorAll('[role=columnheader]')].map(h => h.innerText)"
    )
    known = [head.strip() for head in heads]
    assert {"forget", "retain", "test"} <= set(known)
    assert known.index("ToW") < known.index("forget")
    # Sorted by ToW, which rows that do not compete have not.
    names = re.findall(r"(\w+) synthetic_tiny n4", text)
    assert names[0] not in ("pretrain", "retrain")
    page.screenshot(tmp_path / "leaderboard.png")


@needs_browser
def test_the_charts_show_ranked_rows_by_name(ui: UI, page: Browser, tmp_path: Path) -> None:
    page.look(width=1900, height=900)
    page.open(ui.links["charts of the ranked rows"])
    page.wait("document.body.innerText.includes('ToW of the ranked rows')")
    page.wait("document.querySelectorAll('.plotly .bars path, .js-plotly-plot path').length > 0")
    text = page.text()
    assert "ssd synthetic_tiny n4" in text
    assert "retrain synthetic_tiny n4" not in text
    page.screenshot(tmp_path / "charts.png")


@needs_browser
def test_the_run_of_the_sweep_has_its_table_and_figures(ui: UI, page: Browser) -> None:
    page.look(width=1900, height=1200)
    link = ui.links["this sweep, tables and figures"]
    page.open(link)
    page.wait("document.body.innerText.includes('synthetic_tiny, 4 forget identities')")
    page.wait("document.querySelectorAll('table td, table th').length > 10")
    place, query = link.split("?")
    page.open(f"{place}/artifacts/report/figures?{query}")
    page.wait("document.body.innerText.includes('forgetting_utility-synthetic_tiny-n4.png')")


@needs_browser
def test_all_seeds_have_a_page(ui: UI, page: Browser) -> None:
    page.look(width=1900, height=900)
    page.open(ui.links["all seeds"])
    page.wait("document.body.innerText.includes('ssd synthetic_tiny n4 s1')")


def test_the_server_is_on_loopback_alone_and_ctrl_c_ends_it_whole(ui: UI) -> None:
    below = children(ui.process.pid)
    assert any("mlflow" in name for _, name in below)
    assert not any("job" in name.lower() and "runner" in name.lower() for _, name in below)
    port = ui.links["leaderboard"].split("/")[2].split(":")[1]
    listening = _listening(int(port))
    assert listening == {"0100007F"}, "loopback in hexadecimal, and nothing else"
    os.kill(ui.process.pid, signal.SIGINT)
    assert ui.process.wait(30) == 0
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid, _ in below):
        assert time.monotonic() < deadline, "a child outlived the command"
        time.sleep(0.1)


def _listening(port: int) -> set[str]:
    """Addresses on which somebody listens at this port, as the kernel writes them."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    lines += [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    return {
        fields[1].split(":")[0]
        for fields in lines
        if fields[3] == "0A" and int(fields[1].split(":")[1], 16) == port
    }


def test_ui_before_anything_was_published_is_bad_input(tmp_path: Path) -> None:
    done = launch(*COMMAND, f"output_dir={tmp_path}", "mode=ui")
    assert done.status == 2
    assert "there is no MLflow database" in done.err
    assert "Traceback" not in done.err


def test_why_prints_the_way_of_a_number(folder: Path) -> None:
    done = launch(*COMMAND, f"output_dir={folder}", "mode=why", "row=synthetic_tiny 4 ssd tow")
    assert done.status == 0, done.err
    assert "n=2 of 2 seeds" in done.out
    assert "'sweep.methods=[retrain,ssd]' output_dir=runs/why" in done.out
    asked = launch(*COMMAND, f"output_dir={folder}", "mode=why", "row=synthetic_tiny 4 sdd tow")
    assert asked.status == 2
    assert asked.err.count("\n") == 1
    assert "ssd" in asked.err
