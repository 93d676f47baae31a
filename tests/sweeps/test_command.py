from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from sweeps.command import lasting, override_key, program, quoted, shell_line, without_secrets

AWKWARD = [
    "sweep=smoke",
    "sweep.rows.x={method: scrub, a: [1, 2]}",
    "output_dir=runs/*?/$HOME `id` 'it' \"is\" ~ !! \\ #",
    "=ls",
    "row=two\nlines \x1b[31m",
]


@pytest.mark.parametrize(
    ("argv", "typed", "uv", "words"),
    [
        (["launch.py", "a=1"], ["python3", "launch.py", "a=1"], False, ["python3", "launch.py"]),
        (["launch.py"], ["/v/bin/python", "launch.py"], True, ["uv", "run", "launch.py"]),
        (["/o/launch.py"], ["py", "-X", "dev", "/o/launch.py"], False, ["py", "-X", "dev"]),
        (["/v/bin/oneshui", "a=1"], ["/v/python", "/v/bin/oneshui", "a=1"], False, ["oneshui"]),
        (["/v/bin/oneshui"], ["/v/python", "/v/bin/oneshui"], True, ["uv", "run", "oneshui"]),
        (
            ["/s/oneshui/__main__.py", "a=1"],
            ["python3", "-X", "dev", "-m", "oneshui", "a=1"],
            False,
            ["python3", "-X", "dev", "-m", "oneshui"],
        ),
        (
            ["/s/oneshui/__main__.py"],
            ["/v/bin/python", "-m", "oneshui"],
            True,
            ["uv", "run", "python", "-m", "oneshui"],
        ),
        (["/v/bin/pytest", "-q"], ["python", "-m", "pytest"], False, ["python", "launch.py"]),
    ],
)
def test_a_command_begins_with_what_was_typed(
    argv: list[str],
    typed: list[str],
    uv: bool,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", typed)
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)
    if uv:
        monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    assert program()[: len(words)] == words
    assert len(program()) == len(words) + (argv[0] == "/o/launch.py")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_shells_give_back_every_word(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    words = " ".join(map(quoted, AWKWARD))
    said = subprocess.run(
        [shell, "-c", f"printf '%s\\0' {words}"], capture_output=True, text=True, check=True
    )
    assert said.stdout.split("\0")[:-1] == AWKWARD


def test_what_a_shell_would_expand_is_quoted() -> None:
    assert shell_line(["a=[1]", "b={c}", "d=*", "e=?", "f=g h", "=i", "j=k"]) == (
        "python launch.py 'a=[1]' 'b={c}' 'd=*' 'e=?' 'f=g h' '=i' j=k"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at http://user:pass@host:5000/x now", "at http://host:5000/x now"),
        ("https://token@host", "https://host"),
        ("http://u:with/slash@host/x", "http://host/x"),
        (
            "postgresql://u:p@h/db?password=p&sslmode=on",
            "postgresql://h/db?password=***&sslmode=***",
        ),
        ("http://h/?a=b#/experiments", "http://h/?a=***#/experiments"),
        ("s3://bucket/a@b gs://bucket/a@b", "s3://bucket/a@b gs://bucket/a@b"),
        ("s3://key:secret@bucket/a", "s3://bucket/a"),
        ("nobody@home: no address", "nobody@home: no address"),
    ],
)
def test_addresses_are_shown_without_secrets(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_a_command_hides_the_password_of_the_tracking_server() -> None:
    assert "secret" not in shell_line(["tracking.uri=http://me:secret@host/?token=secret"])


def test_mode_and_row_say_nothing_about_a_sweep() -> None:
    command = ["sweep=demo", "mode=why", "row=a 4 ssd tow", "+sweep.x=1", "~sweep.y"]
    assert lasting(command) == ["sweep=demo", "+sweep.x=1", "~sweep.y"]
    assert [override_key(one) for one in command[3:]] == ["sweep.x", "sweep.y"]
