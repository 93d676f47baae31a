"""The documentation as a reader meets it: README, pages, commands, messages, and the site."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from oneshui.errors import InputError
from sweeps.cli.keys import keys
from sweeps.config import load

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "cluster" / "README.md",
    *(ROOT / "docs").rglob("*.md"),
]
COMMAND = re.compile(r"(?:uv run (?:--extra \w+ )?|python )launch\.py(?: ([^\n`#]*))?")
TITLE = "Unlearning Personal Data from a Single Image"


def arguments(given: str) -> tuple[str, ...]:
    """What a command in a document says, without the dots that stand for whatever one wants."""
    given = given.partition(" &&")[0].replace("...", "").strip().rstrip("\\")
    try:
        words = shlex.split(given)
    except ValueError:  # a quote around the whole command ends here
        words = shlex.split(given.removesuffix("'"))
    return tuple(word for word in words if "=" in word)


COMMANDS = {
    arguments(given): page
    for page in PAGES
    for given in COMMAND.findall(page.read_text(encoding="utf-8"))
}


@pytest.mark.parametrize("given", COMMANDS, ids=" ".join)
def test_every_command_in_the_documents_is_one_that_parses(
    given: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (method,) = re.findall(r"```python\n(.*?)```", PAGES[0].read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "shrink.py").write_text(method, encoding="utf-8")
    if "plugins=[shrink.py]" in given:
        monkeypatch.chdir(tmp_path)
    if any(one.startswith("sweep.model.weights=/") for one in given):
        with pytest.raises(InputError, match="cannot be read"):
            load(given)
        return
    # On a head `ray up` leaves the file that says which machines may come.
    cloud = [one.partition("=")[2] for one in given if one in ("cluster=aws", "cluster=gcp")]
    file = [f"cluster.machines_file={ROOT / 'cluster' / one}.yaml" for one in cloud]
    load([*given, *file])


def test_every_sweep_and_mode_that_a_document_names_is_there() -> None:
    choices = {key.name: key.values.removesuffix(" or null").split(", ") for key in keys()}
    named = re.compile(r"(?:^|[ '`])(sweep|mode|scale|profile|cluster)=(\w+)(?=$|[ '`])")
    found = 0
    for page in PAGES:
        for span in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")):
            for key, value in named.findall(span):
                found += 1
                assert value in choices[key], f"{page}: {key}={value}"
    assert found > 50


def test_the_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 1200


def test_the_paper_has_its_name_its_authors_and_its_numbers() -> None:
    for path in (ROOT / "README.md", ROOT / "CITATION.cff", ROOT / "docs" / "benchmark.md"):
        text = path.read_text(encoding="utf-8")
        for said in (TITLE, "2407.12069", "VxC4PZ71Ym", "One-Shot Unlearning of Personal Identit"):
            assert said in text, f"{path} does not say {said}"
        authors = [text.index(name) for name in ("De Min", "Mancini", "Lathuili", "Roy", "Ricci")]
        assert authors == sorted(authors)


def messages() -> list[str]:
    """What the code can print: every string in it, with dots where values are filled in."""
    found = []
    for package in ("oneshui", "sweeps"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [
                        part.value if isinstance(part, ast.Constant) else "…"
                        for part in node.values
                    ]
                    found.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return found


QUOTED = re.findall(r"^> `(.+)`$", (ROOT / "docs" / "faq.md").read_text("utf-8"), re.MULTILINE)


def test_every_message_that_is_explained_is_one_that_the_code_prints() -> None:
    assert len(QUOTED) > 15
    said = "\n".join(messages())
    for message in QUOTED:
        for part in re.split(r"…s?", message):
            assert part.strip(" ;,:()") in said, f"nothing prints {part!r} of {message!r}"


class Fetched(HTMLParser):
    """What a page makes a browser load: addresses of scripts, styles, fonts and pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.addresses.append(given.get("src") or "")
        if tag == "link" and given.get("rel") in ("stylesheet", "preconnect", "preload", "icon"):
            self.addresses.append(given.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="needs the group docs: uv sync --group docs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        [*command, "--config-file", str(ROOT / "docs" / "site" / "mkdocs.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_has_every_page_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = {str(path.relative_to(site)) for path in site.rglob("*.html")} - {"404.html"}
    own = {str(path.relative_to(ROOT / "docs").with_suffix(".html")) for path in PAGES[3:]}
    assert pages == own | {"index.html", "contributing.html", "clusters.html"}
    for path in site.rglob("*.html"):
        parser = Fetched()
        parser.feed(path.read_text(encoding="utf-8"))
        assert parser.addresses
        assert not [one for one in parser.addresses if re.match(r"(https?:)?//", one)], path
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?https?:", style.read_text("utf-8")), style


def test_links_of_the_readme_lead_to_pages_of_the_site(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    for page in (
        "guide.html",
        "faq.html",
        "clusters.html",
        "contributing.html",
        "configuration.html",
    ):
        assert f'href="{page}"' in text
    assert 'src="images/table.png"' in text
