"""The record of one request: as JSON for programs, as a page for people, in HTML and PDF.

It says what was seen, done and measured, and as plainly what was not and cannot be.
"""

from __future__ import annotations

import io
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from oneshui.erasure.weights import Step, Weights, file_hash
from oneshui.errors import InputError
from oneshui.printable import printable

FORMAT = 1
DOCUMENT = "certificate.json"
_COLUMNS, _LINES = 92, 68
"""Of a page of the PDF."""

NOT_MEASURED = (
    "This is the record of a computation. It does not prove that the model has forgotten anybody, "
    "and it does not say that a duty to erase is met.",
    "Whether the model now behaves as if it had never been trained on these people (ToW) is not "
    "known: that takes the training data and a model trained again without them.",
    "Whether an attacker can still tell that these people were in the training data (MIA, RMIA) is "
    "not known, for the same reason.",
    "Whether these people were in the training data at all is not known: nothing that was kept "
    "tells. Of somebody who was not, the model had nothing to forget.",
    "What the model does to everybody else's pictures was not measured: none were there.",
)


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """The requests that a model went through before.

    Attributes:
        requests: As certificates list them, the first one first; "photos" is null where the
            certificate of that request was not at hand.
        certificate: sha256 of the last certificate's file; None if it was not at hand.
    """

    requests: tuple[Mapping[str, Any], ...]
    certificate: str | None


def earlier_of(weights: Weights) -> Earlier:
    """What weights and the certificate beside them say of earlier requests.

    Raises:
        InputError: The certificate beside them is of other weights.
    """
    known: list[dict[str, Any]] = [{**asdict(step), "photos": None} for step in weights.steps]
    beside = weights.path.with_name(DOCUMENT)
    if not known or not beside.is_file():
        return Earlier(requests=tuple(known), certificate=None)
    try:
        document = json.loads(beside.read_bytes())
        listed = document["requests"]
        same = [{**one, "photos": None} for one in listed] == known
        has_photos = all(one["photos"] is None or list(map(str, one["photos"])) for one in listed)
    except (OSError, ValueError, KeyError, TypeError):
        same = has_photos = False
    if not (same and has_photos):
        raise InputError(
            f"{beside} is not the certificate of the weights beside it: put the one there that "
            "erase wrote with them, or move it away"
        )
    return Earlier(requests=tuple(listed), certificate=file_hash(beside))


def step_of(document: Mapping[str, Any]) -> Step:
    """The last request of a certificate, as weights carry it."""
    return Step(**{name: it for name, it in document["requests"][-1].items() if name != "photos"})


def write_certificate(document: Mapping[str, Any], folder: Path) -> None:
    """Write a certificate's three files into a folder."""
    text = json.dumps(document, indent=1) + "\n"
    (folder / DOCUMENT).write_text(text, encoding="utf-8")
    (folder / "request.html").write_text(as_html(document), encoding="utf-8")
    (folder / "request.pdf").write_bytes(as_pdf(document))


Section = tuple[str, list[tuple[str, str]], list[str]]
"""A title, labels with their values, and sentences."""


def sections(document: Mapping[str, Any]) -> list[Section]:
    """The page, section by section."""
    seen, method, made = document["data_seen"], document["method"], document["made"]
    weights = document["weights"]
    return [
        (
            "Data seen",
            [
                ("pictures", str(len(seen["photos"]))),
                *((photo["file"], f"sha256 {photo['sha256']}") for photo in seen["photos"]),
                ("beside them", seen["beside"]),
            ],
            [],
        ),
        (
            "Method",
            [
                ("method", method["method"]),
                *((name, _number(it)) for name, it in method["hyperparameters"].items()),
                ("seed", str(method["seed"])),
                ("chosen", method["chosen"]),
                ("kept from other files by", method["protection"]),
            ],
            [],
        ),
        (
            "Model",
            [
                ("network", str(document["model"].get("factory") or document["model"]["name"])),
                ("outputs", ", ".join(document["outputs"])),
                *(
                    (f"weights {when}: {what}", weights[when][key])
                    for when in ("before", "after")
                    for key, what in (("sha256", "file, sha256"), ("tensors", "tensors, sha256"))
                ),
            ],
            [],
        ),
        ("Kit", *_kit(document["kit"])),
        ("Measured on the photos", _measured(document["measured"]), []),
        ("Expected from simulated requests", *_expected(document["expected"])),
        ("Not measured, and not to be known here", [], list(document["not_measured"])),
        (
            "Requests of this model",
            [
                (
                    f"request {one['number']}",
                    f"{one['date']}, {several(one['people'], 'person')}, {one['method']}",
                )
                for one in document["requests"]
            ],
            list(document["notes"]),
        ),
        ("Made with", [(name, str(it)) for name, it in made.items()], []),
    ]


def several(count: int, what: str) -> str:
    """A number of things: 1 person, 2 people, 3 requests."""
    many = {"person": "people"}.get(what, f"{what}s")
    return f"{count} {what if count == 1 else many}"


def _kit(found: Mapping[str, Any] | None) -> tuple[list[tuple[str, str]], list[str]]:
    if found is None:
        return [], ["There was none."]
    data = found["data"]
    rows = [
        ("sha256", found["sha256"]),
        ("made for requests of", several(found["num_forget"], "person")),
        (
            "made from",
            f"{data['pictures']['train']} pictures of {data['people']['train']} people, and "
            f"{data['pictures']['val']} of {data['people']['val']} whom the model never saw",
        ),
        ("their table, sha256", data["fingerprint"]),
        ("stale by", several(found["stale_by"], "request")),
    ]
    return rows, [f"When it was made, {data['held_out']}."]


def _measured(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        (f"{what}, before and after", f"{_number(it['before'])} and {_number(it['after'])}")
        for what, it in (("loss", found["loss"]), ("mAP or accuracy", found["score"]))
    ]
    rows.append(("weights moved, as a share of their norm", _number(found["relative_movement"])))
    if found["movement"] is not None:
        rows.append(("movement, weighted by importance", _number(found["movement"])))
    return rows


_WORDS = {
    "tow": "simulated ToW, 1 is best",
    "forget": "change on the pictures to forget",
    "retain": "change on other training pictures",
    "val": "change on people never seen",
}


def _expected(found: Mapping[str, Any] | None) -> tuple[list[tuple[str, str]], list[str]]:
    if found is None:
        return [], ["Nothing is expected: there was no kit, so no simulated requests."]
    chosen, nothing = found["chosen"], found["nothing"]
    rows = []
    for name, words in _WORDS.items():
        if chosen["is_finite"]:
            rows.append((words, _spread(chosen[name])))
    if nothing["is_finite"]:
        rows.append(("simulated ToW of leaving the model as it is", _spread(nothing["tow"])))
    return rows, [
        f"Mean and standard deviation over {several(chosen['requests'], 'simulated request')} of "
        f"{several(found['num_forget'], 'person')} of the training data; changes are of mAP or "
        "accuracy, as fractions.",
        *([] if found["is_shown_to_gain"] else [
            "Simulated requests do not show that this is better than leaving the model as it is."
        ]),
    ]  # fmt: skip


def _spread(found: Mapping[str, Any]) -> str:
    spread = found["spread"]
    return f"{found['mean']:.4f}" + ("" if spread is None else f" ± {spread:.4f}")


def _number(value: Any) -> str:
    if value is None:
        return "not defined"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _title(document: Mapping[str, Any]) -> str:
    return f"Request {document['request']} of this model"


def as_html(document: Mapping[str, Any]) -> str:
    """The page as one file of HTML, which loads nothing."""
    from jinja2 import Environment, StrictUndefined

    text = resources.files("oneshui.erasure").joinpath("request.html.j2").read_text("utf-8")
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda it: printable(it, keep="\n") if type(it) is str else it,
    )
    return environment.from_string(text).render(
        title=_title(document), date=document["date"], sections=sections(document)
    )


def as_pdf(document: Mapping[str, Any]) -> bytes:
    """The page as PDF, on as many sheets as it takes."""
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = FontProperties(family="monospace", size=8.5)
    known = get_font(findfont(font)).get_charmap()
    lines = _lines(document)
    sheets = [lines[start : start + _LINES] for start in range(0, len(lines), _LINES)]
    stream = io.BytesIO()
    with PdfPages(stream, metadata={"Title": _title(document), "CreationDate": None}) as pdf:
        for number, sheet in enumerate(sheets, 1):
            figure = Figure(figsize=(8.27, 11.69))
            text = "\n".join([*sheet, *[""] * (_LINES - len(sheet)), "", ""])
            text += f"{document['date']}, sheet {number} of {len(sheets)}"
            shown = "".join(
                c if c == "\n" or ord(c) in known else c.encode("unicode_escape").decode("ascii")
                for c in printable(text, keep="\n")
            )
            figure.text(
                0.08, 0.96, shown, va="top", fontproperties=font, linespacing=1.3, parse_math=False
            )
            pdf.savefig(figure)
    return stream.getvalue()


def _lines(document: Mapping[str, Any]) -> list[str]:
    lines = [_title(document), document["date"]]
    for title, rows, sentences in sections(document):
        lines += ["", title, "-" * len(title)]
        for label, value in rows:
            lines += _wrapped(f"{label}: {value}", "  ")
        for sentence in sentences:
            lines += _wrapped(sentence, "")
    return lines


def _wrapped(text: str, indent: str) -> Sequence[str]:
    return textwrap.wrap(printable(text), _COLUMNS, subsequent_indent=indent) or [""]
