from __future__ import annotations

from typing import Any

import pytest

from oneshui.errors import InputError
from sweeps.overrides import apply, parse


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("a.b=1", 1),
        ("+a.b=[1,two words]", [1, "two words"]),
        ("++a.b={c: null}", {"c": None}),
        ("a.b=", ""),
        ("a.b=\"quoted, 'text'\"", "quoted, 'text'"),
        ("a.b=1e400", float("inf")),
    ],
)
def test_a_value_is_what_hydra_reads_with_any_sign(argument: str, value: Any) -> None:
    change = parse(argument)
    assert (change.key, change.value, change.is_deletion) == ("a.b", value, False)


@pytest.mark.parametrize("key", ["data_dir", "tracking.uri", "sweep.model.weights", "row"])
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("/a b/c", "/a b/c"),
        ("/données/a=b,(c)#d", "/données/a=b,(c)#d"),
        ("2024", "2024"),
        ("inf", "inf"),
        ('"/quoted, é"', "/quoted, é"),
        ("null", None),
    ],
)
def test_paths_and_addresses_stand_for_themselves(key: str, text: str, value: str | None) -> None:
    assert parse(f"{key}={text}").value == value


def test_the_home_folder_may_be_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert parse("data_dir=~/data").value == "/home/me/data"


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("20", "'20' is not of the form key=value.*in quotes as a whole"),
        ("=1", "'' in the argument '=1' is no key"),
        ("a b=1", "'a b' in the argument 'a b=1' is no key"),
        ("a[0]=1", r"'a\[0\]' in the argument"),
        ("a.=1", "'a.' in the argument a.=1 is no key"),
        ("sweep@x=1", "'sweep@x' in the argument sweep@x=1 is no key"),
        (
            "a={b:",
            r"argument 'a={b:' cannot be read: its brackets .* as in 'a=\{a: 1, b: \[2, 3\]\}'$",
        ),
        ("a=[1", r"argument 'a=\[1' cannot be read: its brackets .* as in 'a=\[1, 2\]'$"),
        ("a=[1}", "its brackets or quotes do not match"),
        ('a="b', "its brackets or quotes do not match"),
        ("a=[é]", r"in double quotes, as in 'a=\[\"two, words\", 3\]'$"),
        ("a={b: é}", r"in double quotes, as in 'a=\{a: \"two, words\"\}'$"),
        ("a=é#", "quote its value, as in 'a=\"é#\"'$"),
        ("a=it's", """as in 'a="it'"'"'s"'$"""),
        ("a=" + "9" * 5000, "cannot be read: quote its value"),
        ("a=0,1", r"gives several values, .* as in 'a=\[0,1\]'$"),
        ("a=range(1,3)", "gives several values"),
    ],
)
def test_what_cannot_be_read_is_named_with_a_way_to_quote_it(argument: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse(argument)


def test_no_secret_is_repeated() -> None:
    with pytest.raises(InputError, match=r"tracking\.url=http://host") as caught:
        parse("tracking.url=http://me:secret@host/#?")
    assert "secret" not in str(caught.value)


def test_what_a_message_suggests_can_be_read() -> None:
    assert parse('a="it\'s"').value == "it's"
    assert parse('a=["two, words", 3]').value == ["two, words", 3]


def test_a_map_replaces_what_was_there_and_a_key_goes_where_none_was() -> None:
    tree: dict[str, Any] = {"a": {"b": {"c": 1, "d": 2}, "list": [0]}, "none": None}
    for argument in ("a.b={e: 3}", "new.key=4", "none.x=5", "~a.list"):
        assert apply(parse(argument), tree)
    assert tree == {"a": {"b": {"e": 3}}, "none": {"x": 5}, "new": {"key": 4}}


def test_nothing_goes_through_what_is_no_map_and_only_what_is_there_is_deleted() -> None:
    tree: dict[str, Any] = {"a": [0]}
    with pytest.raises(InputError, match=r"a\.0 cannot be set, because a is \[0\] and no map"):
        apply(parse("a.0=1"), tree)
    assert not apply(parse("~a.0"), tree)
    assert not apply(parse("~b"), tree)
    assert tree == {"a": [0]}
