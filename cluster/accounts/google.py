"""Google's APIs as far as they are read: their clients, and what an error of theirs means.

The APIs' descriptions come with google-api-python-client, so nothing but answers is fetched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

VERSIONS = {
    "compute": "v1",
    "iam": "v1",
    "storage": "v1",
    "cloudresourcemanager": "v1",
    "file": "v1",
}
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
Client = Callable[[str], Any]


def clients() -> Client:
    """Clients of the APIs by name, with the credentials of this machine.

    Raises:
        google.auth.exceptions.DefaultCredentialsError: There are none.
    """
    import google.auth
    from googleapiclient.discovery import build

    credentials, _ = google.auth.default(scopes=[SCOPE])

    def client(name: str) -> Any:
        return build(name, VERSIONS[name], credentials=credentials, static_discovery=True)

    return client


def errors_of_the_account() -> tuple[type[Exception], ...]:
    """What is raised where an account does not answer, or refuses."""
    import httplib2
    from google.auth.exceptions import GoogleAuthError
    from googleapiclient.errors import HttpError

    return GoogleAuthError, HttpError, httplib2.HttpLib2Error, OSError


def told(error: Exception) -> str:
    """What an error says, in one line; the remedy too where credentials lack or an API is off."""
    from google.auth.exceptions import DefaultCredentialsError
    from googleapiclient.errors import HttpError

    if isinstance(error, DefaultCredentialsError):
        return "no credentials on this machine: gcloud auth application-default login"
    if not isinstance(error, HttpError):
        return " ".join(str(error).split())
    try:
        answer = json.loads(error.content)["error"]
    except (ValueError, KeyError, TypeError):
        return f"{error.status_code}: {error.reason}"
    service = _service_off(answer)
    if service:
        return f"{service} is off: gcloud services enable {service}"
    return f"{error.status_code}: {' '.join(answer['message'].split())}"


def is_off(error: Any) -> bool:
    """Whether an ``HttpError`` says that the API was never turned on in this project."""
    try:
        return bool(_service_off(json.loads(error.content)["error"]))
    except (ValueError, KeyError, TypeError):
        return False


def _service_off(answer: Any) -> str:
    """Name of the service that is off; "" if the error is another."""
    for detail in answer.get("details", ()):
        if detail.get("reason") == "SERVICE_DISABLED":
            return str(detail["metadata"]["service"])
    return ""


def asked(request: Callable[[], Any], missing: str, found: list[Any]) -> Iterator[str]:
    """The sentence if a read finds nothing, or what else the API says; else the answer in found.

    Args:
        request: Makes a request of a client.
        missing: What to say where the thing does not exist (404).
        found: The answer is appended to it.
    """
    from googleapiclient.errors import HttpError

    try:
        found.append(request().execute())
    except HttpError as error:
        is_missing = error.status_code == 404
        yield missing if is_missing else f"{told(error)}; so not known is whether {missing}"


def pages(
    collection: Any, method: str = "list", next_method: str = "list_next", **asked_for: Any
) -> Iterator[Any]:
    """All pages of a listing."""
    request = getattr(collection, method)(**asked_for)
    while request is not None:
        answer = request.execute()
        yield answer
        request = getattr(collection, next_method)(request, answer)
