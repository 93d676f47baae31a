"""The page of a request: what it says, and that nothing in it can do anything."""

from __future__ import annotations

import re
import zlib
from typing import Any

import pytest

from oneshui.erasure.certificate import as_html, as_pdf, sections

SPREAD = {"mean": 0.5, "spread": 0.25, "each": [0.25, 0.75]}
EXPECTED = {
    "requests": 2,
    "is_finite": True,
    **dict.fromkeys(("tow", "forget", "retain", "val"), SPREAD),
}


def _document(**changes: Any) -> dict[str, Any]:
    request = {"number": 1, "date": "2031-01-01", "people": 1, "method": "ssd"}
    return {
        "date": "2031-01-02",
        "request": 2,
        "model": {"name": "resnet18"},
        "outputs": ["happy", "sad"],
        "weights": {when: {"sha256": "a", "tensors": "b"} for when in ("before", "after")},
        "data_seen": {"photos": [{"file": "ann.png", "sha256": "c"}], "beside": "nothing"},
        "method": {
            "method": "ssd",
            "hyperparameters": {"alpha": 0.1 + 0.2},
            "chosen": "by hand",
            "seed": 0,
            "protection": "landlock 7",
        },
        "measured": {
            "loss": {"before": 1.0, "after": 2.0},
            "score": {"before": None, "after": None},
            "relative_movement": 0.5,
            "movement": None,
        },
        "expected": None,
        "kit": None,
        "not_measured": ["It does not say that a duty to erase is met."],
        "requests": [request, {**request, "number": 2, "people": 3}],
        "notes": [],
        "made": {"device": "cpu"},
        **changes,
    }


def _said(document: dict[str, Any]) -> str:
    return str(sections(document))


def test_what_others_wrote_is_text_and_nothing_else() -> None:
    evil = "<script>alert(1)</script>\x1b[31m\u202e$x^2$ 王.png"
    seen = {"photos": [{"file": evil, "sha256": "c"}], "beside": "nothing"}
    page = as_html(_document(data_seen=seen))
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", page)
    assert not re.search(r"(src|href)=|url\(|@import", page)
    assert as_pdf(_document(data_seen=seen)).startswith(b"%PDF")


def test_what_is_not_known_is_not_a_number() -> None:
    said = _said(_document())
    assert "not defined and not defined" in said
    assert "There was none." in said
    assert "Nothing is expected: there was no kit" in said
    assert "3 people, ssd" in said
    assert "1 person, ssd" in said
    assert "0.3'" in said


@pytest.mark.parametrize("is_shown", [True, False])
def test_what_is_expected_has_its_spread(is_shown: bool) -> None:
    found = {"chosen": EXPECTED, "nothing": EXPECTED, "is_shown_to_gain": is_shown}
    said = _said(_document(expected={**found, "num_forget": 1}))
    assert said.count("0.5000 ± 0.2500") == 5
    assert "2 simulated requests of 1 person" in said
    assert ("do not show that this is better" in said) is not is_shown


def test_the_pdf_takes_as_many_sheets_as_it_needs() -> None:
    photos = [{"file": f"{number}.png", "sha256": "c"} for number in range(200)]
    pdf = as_pdf(_document(data_seen={"photos": photos, "beside": "nothing"}))
    assert len(re.findall(rb"/Type /Page\b", pdf)) == 4
    assert len(re.findall(rb"/Type /Page\b", as_pdf(_document()))) == 1
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    drawn = [zlib.decompress(one) for one in streams if one[:1] == b"x"]
    assert sum(b"BT" in one for one in drawn) >= 4
