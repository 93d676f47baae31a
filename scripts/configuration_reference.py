"""Writes docs/configuration.md from the configuration's schema and the shipped files.

``uv run python scripts/configuration_reference.py``; tests/test_configuration_reference.py
holds the committed page to what this writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sweeps.cli.catalogue import Entry, datasets, sweeps
from sweeps.cli.keys import Key, keys

PAGE: Final = Path(__file__).parents[1] / "docs" / "configuration.md"
_HEAD: Final = """\
# Configuration

<!-- Written by scripts/configuration_reference.py; do not edit. -->

Every argument of the command is `key=value`, in Hydra's syntax:

```
uv run launch.py sweep=smoke 'sweep.seeds=[0]'
```

Quote what has brackets, braces or spaces. A map in braces replaces the one that is there, a key
with dots changes one value of it, and a key that does not exist is refused with the nearest that is
there. `mode=list` prints this page's lists in the terminal.
"""
_PARTS: Final = {
    "": ("Everything", "What a command does, and where things go."),
    "tuning.": ("Tuning", "How hyperparameters are found; [how far it can be trusted](tuning.md)."),
    "sweep.": (
        "The sweep",
        "The file of the sweep fills these; `full` is the paper's grid, `demo` the drawn faces'.",
    ),
    "datasets.": (
        "A dataset",
        "Of the user's own or a shipped one; [a table of your own](own_table.md) needs no code.",
    ),
    "cluster.": ("Where jobs run", "What jobs get; [on clusters](../cluster/README.md)."),
}
_LONGEST: Final = 40


def page() -> str:
    """The whole page, in Markdown."""
    parts = [_HEAD, _entries("Sweeps", "sweep=", sweeps()), _entries("Datasets", "", datasets())]
    own = keys()
    for prefix, (title, text) in _PARTS.items():
        others = tuple(one for one in _PARTS if one and one != prefix)
        chosen = [
            key
            for key in own
            if key.name.startswith(prefix) and (prefix or not key.name.startswith(others))
        ]
        parts.append(f"## {title}\n\n{text}\n\n{_table(chosen)}")
    return "\n".join(parts)


def _entries(title: str, prefix: str, entries: Iterable[Entry]) -> str:
    lines = [f"| `{prefix}{one.name}` | {one.text} |" for one in entries]
    return "\n".join([f"## {title}\n", "| name | is |", "|---|---|", *lines, ""])


def _table(chosen: list[Key]) -> str:
    columns = [sweep for sweep in chosen[0].defaults if sweep] or [""]
    titles = [f"in `{sweep}`" if sweep else "default" for sweep in columns]
    lines = [
        " | ".join(["| key", *titles, "values", "is |"]),
        "|---|" + "---|" * len(columns) + "---|---|",
        *(
            " | ".join(
                [
                    f"| `{key.name}`",
                    *(_shown(key, one) for one in columns),
                    key.values,
                    f"{_cell(key.text)} |",
                ]
            )
            for key in chosen
        ),
    ]
    return "\n".join(lines) + "\n"


def _shown(key: Key, sweep: str) -> str:
    value = key.defaults.get(sweep)
    if value is None:
        return ""
    if len(value) > _LONGEST:
        return "see the file" if sweep else ""
    return f"`{value}`"


def _cell(text: str) -> str:
    """The text as a cell of a table, with what would end it or be taken for a tag written out."""
    plain = text.replace("``", "`").replace("|", "\\|")
    return "`".join(
        part if number % 2 else part.replace("<", "&lt;").replace("*", "\\*")
        for number, part in enumerate(plain.split("`"))
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
