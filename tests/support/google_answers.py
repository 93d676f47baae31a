"""Google's APIs by recorded answers, asked by Google's own client.

An answer must be what the API's own description says of the method, unknown keys refused, so that
no test passes on a field that Google does not send.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import googleapiclient
import httplib2
from googleapiclient.discovery import build

from cluster.accounts.google import VERSIONS
from cluster.checks.gcp import DOCUMENTS, schema_problems

DISABLED = {
    "code": 403,
    "message": "the API has not been used in this project before, or it is disabled",
    "details": [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "SERVICE_DISABLED",
            "metadata": {"service": "compute.googleapis.com"},
        }
    ],
}


@cache
def _methods(api: str) -> list[tuple[str, re.Pattern[str], dict[str, Any]]]:
    """Verb, pattern of the address and description of each of an API's methods."""
    path = Path(googleapiclient.__file__).parent / DOCUMENTS / f"{api}.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    base = urlsplit(document["rootUrl"] + document["servicePath"]).path

    def every(resource: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        yield from resource.get("methods", {}).values()
        for inner in resource.get("resources", {}).values():
            yield from every(inner)

    return [
        (
            method["httpMethod"],
            re.compile(
                re.sub(
                    r"\\{\w+\\}", "[^/:]+", re.escape(base + method.get("flatPath", method["path"]))
                )
            ),
            method,
        )
        for method in every(document)
    ]


def method_of(api: str, verb: str, path: str) -> dict[str, Any]:
    """The description of the method that an address is of."""
    for its_verb, pattern, method in _methods(api):
        if its_verb == verb and pattern.fullmatch(path):
            return method
    raise AssertionError(f"{api} has no {verb} {path}")


class Recorded:
    """What each address answers; what is asked for and not recorded is not there (404).

    Args:
        answers: By the end of an address, its query left out: parsed JSON, a list of the pages of
            a listing, or an error (a dict with ``code`` and ``message``).
    """

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []

    def __call__(self, name: str) -> Any:
        """The client of an API by its name, as the commands ask for it."""
        http = _Http(self, f"{name}.{VERSIONS[name]}")
        return build(name, VERSIONS[name], http=http, static_discovery=True)


class _Http:
    """What the client takes for ``httplib2.Http``."""

    def __init__(self, recorded: Recorded, api: str) -> None:
        self._recorded, self._api = recorded, api

    def request(self, uri: str, method: str = "GET", **_: Any) -> tuple[httplib2.Response, bytes]:
        split = urlsplit(uri)
        path = unquote(split.path)
        described = method_of(self._api, method, path)
        assert method == "GET" or described["id"].endswith(".getIamPolicy"), "it must only read"
        self._recorded.asked.append(path)
        ends = [end for end in self._recorded.answers if path.endswith(end)]
        if not ends:
            return _error({"code": 404, "message": f"{path} was not found"})
        answer = self._recorded.answers[max(ends, key=len)]
        if isinstance(answer, list):
            page = int(re.search(r"pageToken=(\d+)", split.query)[1]) if "pageToken=" in uri else 0  # type: ignore[index]
            more = {"nextPageToken": str(page + 1)} if page + 1 < len(answer) else {}
            answer = answer[page] | more
        if "code" in answer:
            return _error(answer)
        wrong = list(schema_problems(answer, self._api, described["response"]["$ref"]))
        assert not wrong, f"{described['id']} does not answer so: {wrong}"
        return httplib2.Response({"status": "200"}), json.dumps(answer).encode()

    def close(self) -> None:
        """Nothing is open."""


def _error(told: Mapping[str, Any]) -> tuple[httplib2.Response, bytes]:
    answer = httplib2.Response({"status": str(told["code"]), "content-type": "application/json"})
    answer.reason = "recorded"
    return answer, json.dumps({"error": told}).encode()
