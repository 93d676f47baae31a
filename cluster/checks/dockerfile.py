"""Our rules for the image: not root, nothing unpinned, neither data nor secrets inside."""

from __future__ import annotations

import re
from collections.abc import Iterator

# What may be copied into the image: an allow-list, because faces and keys have many names.
COPIED = {
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "launch.py",
    "oneshui",
    "sweeps",
    "cluster/mlflow.sh",
    "cluster/once.sh",
}
SECRET_WORDS = ("TOKEN", "SECRET", "PASSWORD", "API_KEY")
ROOT = {"root", "0", "0:0", "root:root"}


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, continuation lines joined, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\s*\n", " ", "\n".join(lines))
    pairs = [line.strip().partition(" ") for line in joined.splitlines() if line.strip()]
    return [(name.upper(), rest.strip()) for name, _, rest in pairs]


def problems(text: str) -> list[str]:
    """Everything that is wrong with a Dockerfile."""
    found: list[str] = []
    users = []
    for name, rest in instructions(text):
        if name == "USER":
            users.append(rest)
        found += _RULES[name](rest) if name in _RULES else []
    if not users or users[-1] in ROOT:
        found.append("the last USER is root")
    elif not re.fullmatch(r"\d+(:\d+)?", users[-1]):
        found.append(f"USER {users[-1]} is a name: Kubernetes' runAsNonRoot needs a number")
    return found


def _from(rest: str) -> Iterator[str]:
    options = [word for word in rest.split() if word.startswith("--")]
    (image, *_) = (word for word in rest.split() if not word.startswith("--"))
    if not re.search(r"@sha256:[0-9a-f]{64}$", image):
        yield (
            f"FROM {image}: pin the base by its digest (docker buildx imagetools inspect {image} "
            "shows it)"
        )
    if "--platform=linux/amd64" not in options:
        yield f"FROM {image}: --platform=linux/amd64 is missing: it would be the builder's own"


def _add(rest: str) -> Iterator[str]:
    yield f"ADD {rest}: fetches and unpacks; use COPY"


def _copy(rest: str) -> Iterator[str]:
    *sources, _ = [word for word in rest.split() if not word.startswith("--")]
    for source in sources:
        if source.strip("./") not in COPIED:
            yield f"COPY {source}: not on the list of what belongs into the image"


def _run(rest: str) -> Iterator[str]:
    if re.search(r"\b(curl|wget)\b[^|;&]*\|", rest):
        yield "RUN pipes a download into a program"
    if re.search(r"\bsudo\b|chmod\s+(-R\s+)?0?777", rest):
        yield "RUN gives away rights (sudo, chmod 777)"
    for command in re.findall(r"\bpip install\b([^|;&]*)", rest):
        for word in command.split():
            if not word.startswith("-") and "==" not in word:
                yield f"RUN pip install {word}: pin its version"


def _variables(rest: str) -> Iterator[str]:
    for name, value in re.findall(r"(\w+)(?:=|\s+)(\S*)", rest):
        is_secret = any(word in name.upper() for word in SECRET_WORDS)
        if value and is_secret and not name.upper().endswith(("_MODE", "_PATH")):
            yield f"{name} puts a secret into the image"


_RULES = {
    "FROM": _from,
    "ADD": _add,
    "COPY": _copy,
    "RUN": _run,
    "ENV": _variables,
    "ARG": _variables,
}
