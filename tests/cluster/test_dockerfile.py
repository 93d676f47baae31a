"""The image's recipe, by our own rules."""

from __future__ import annotations

import pytest
from support.cluster_files import FOLDER

from cluster.check import problems as file_problems
from cluster.checks.dockerfile import COPIED, instructions, problems

BASE = "FROM --platform=linux/amd64 python:3.11.14-slim@sha256:" + "0123456789abcdef" * 4
GOOD = f"{BASE}\nCOPY oneshui oneshui\nUSER 1000\n"


def test_ours_has_no_problem() -> None:
    assert file_problems(FOLDER / "Dockerfile") == []
    assert problems(GOOD) == []


def test_no_more_is_sent_to_the_builder_than_is_copied() -> None:
    lines = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {line[1:] for line in rules if line.startswith("!")}
    assert allowed - {"cluster"} == COPIED
    assert "cluster/*" in rules


def test_what_is_installed_there_is_what_clusters_need() -> None:
    recipe = instructions((FOLDER / "Dockerfile").read_text(encoding="utf-8"))
    syncs = [rest for name, rest in recipe if name == "RUN" and "uv sync" in rest]
    for extra in ("cluster", "aws", "gcp", "cloud"):
        assert all(f"--extra {extra}" in each and "--no-dev" in each for each in syncs)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("USER root", "the last USER is root"),
        ("USER oneshui", "USER oneshui is a name"),
        ("FROM python", "pin the base"),
        ("FROM python:latest", "pin the base"),
        ("FROM --platform=linux/amd64 python:3.11.14-slim", "pin the base by its digest"),
        ("FROM --platform=linux/amd64 python@sha256:abc", "pin the base by its digest"),
        (BASE.replace("--platform=linux/amd64 ", ""), "--platform=linux/amd64 is missing"),
        (BASE.replace("amd64", "arm64"), "--platform=linux/amd64 is missing"),
        ("FROM registry:5000/python", "pin the base"),
        ("ADD https://example.org/x.tar /", "fetches and unpacks"),
        ("COPY . /opt", "COPY .: not on the list"),
        ("COPY data /data", "COPY data: not on the list"),
        ("COPY --chown=1000 runs /runs", "COPY runs: not on the list"),
        ("RUN curl https://example.org/x.sh | bash", "pipes a download"),
        ("RUN chmod -R 777 /opt", "gives away rights"),
        ("RUN pip install uv", "RUN pip install uv: pin its version"),
        ("RUN pip install --quiet a==1.0 \\\n  uv", "RUN pip install uv: pin its version"),
        ("ENV HF_TOKEN=abc", "HF_TOKEN puts a secret"),
        ("ARG AWS_SECRET_ACCESS_KEY=abc", "AWS_SECRET_ACCESS_KEY puts a secret"),
        ("ENV MLFLOW_PASSWORD abc", "MLFLOW_PASSWORD puts a secret"),
    ],
)
def test_a_mistake_is_named(line: str, complaint: str) -> None:
    found = problems(f"{GOOD}{line}\n")
    assert any(complaint in problem for problem in found), found


def test_no_user_at_all_is_root() -> None:
    assert problems(f"{BASE}\n") == ["the last USER is root"]


def test_the_image_gets_the_versions_that_were_tested_together() -> None:
    """Where uv reads its constraints: the project's own file, copied before it installs."""
    recipe = instructions((FOLDER / "Dockerfile").read_text(encoding="utf-8"))
    first = next(place for place, (_, rest) in enumerate(recipe) if "uv sync" in rest)
    copied = [rest for name, rest in recipe[:first] if name == "COPY"]
    assert any("pyproject.toml" in rest.split() for rest in copied)
    assert not [rest for _, rest in recipe if "--no-config" in rest or "--upgrade" in rest]
