"""What makes the site of Markdown that reads well in the repository: pages from outside of docs/.

MkDocs calls these functions by their names. Links between files stay as the repository has them;
here they are turned to where the same files are on the site.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[2]
OUTSIDE: Final = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "cluster/README.md": "clusters.md",
}
"""Files that are no part of docs/, and the pages that they are."""
_LINK: Final = re.compile(r"\[([^\]]+)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """All decisions are in the navigation, by their numbers."""
    folder = ROOT / "docs" / "decisions"
    decisions: list[Any] = [f"decisions/{path.name}" for path in sorted(folder.glob("*.md"))]
    assert config.nav is not None
    config.nav[-1] = {"Decisions": decisions}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages from outside of docs/."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links lead to where the files are on the site; folders and code stay words."""
    own = page.file.src_uri
    inside = {page: source for source, page in OUTSIDE.items()}
    folder = posixpath.dirname(inside.get(own, f"docs/{own}"))

    def turned(link: re.Match[str]) -> str:
        text, to, anchor = link.groups()
        target = posixpath.normpath(posixpath.join(folder, to))
        there = OUTSIDE.get(target, target.removeprefix("docs/"))
        if not (ROOT / target).is_file() or there == target:
            return text
        here = posixpath.relpath(there, posixpath.dirname(own) or os.curdir)
        return f"[{text}]({here}{anchor or ''})"

    return _LINK.sub(turned, markdown)
