"""Google Cloud Storage on loopback, as far as a store needs it.

moto knows S3 only, and Google's conditions go by an object's generation instead of its content. So
this is the smallest server that keeps what the XML API promises: objects appear whole, each write
has a new generation, and a write with a condition is one step.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

from support.serving import served

TOKEN = "nobodys-bearer-token"
PAGE = 1000


@dataclass(frozen=True)
class Stored:
    data: bytes
    generation: int
    modified: datetime

    @property
    def tag(self) -> str:
        return f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest()}"'


class GoogleObjects:
    """A WSGI application; all objects in a dictionary under one lock."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        self.requests: Counter[str] = Counter()
        self._objects: dict[str, Stored] = {}
        self._parts: dict[str, dict[int, bytes]] = {}
        self._count = itertools.count(1)
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        path, _, query = environ["RAW_URI"].partition("?")
        bucket, _, name = unquote(path).lstrip("/").partition("/")
        headers: dict[str, str] = {}
        with self._lock:
            if environ.get("HTTP_AUTHORIZATION") != f"Bearer {TOKEN}":
                status, body = "401 Unauthorized", b""
            elif bucket != self.bucket:
                status, body = "404 Not Found", b"<Error><Code>NoSuchBucket</Code>"
            else:
                asked = parse_qs(query, keep_blank_values=True)
                status, headers, body = self._answer(environ, name, asked, body)
        fields = {"Content-Length": str(len(body)), **headers}
        start_response(status, list(fields.items()))
        return [body]

    def _answer(
        self, environ: dict[str, Any], name: str, asked: dict[str, list[str]], body: bytes
    ) -> tuple[str, dict[str, str], bytes]:
        method = environ["REQUEST_METHOD"]
        self.requests["LIST" if "list-type" in asked else method] += 1
        if "list-type" in asked:
            return "200 OK", {}, self._listing(asked)
        if method == "GET":
            return self._read(name, environ.get("HTTP_RANGE", ""))
        if method == "DELETE":
            return ("204 No Content" if self._objects.pop(name, None) else "404 Not Found"), {}, b""
        upload = asked.get("uploadId", [""])[0]
        if "uploads" in asked:
            upload = str(next(self._count))
            self._parts[upload] = {}
            return "200 OK", {}, f"<A><UploadId>{upload}</UploadId></A>".encode()
        if "partNumber" in asked:
            self._parts[upload][int(asked["partNumber"][0])] = body
            return "200 OK", {"ETag": '"part"'}, b""
        if upload:
            parts = self._parts.pop(upload)
            stored = self._write(name, b"".join(parts[number] for number in sorted(parts)))
            return "200 OK", _headers(stored), f"<A><ETag>{stored.tag}</ETag></A>".encode()
        source = environ.get("HTTP_X_GOOG_COPY_SOURCE")
        if source:
            found = self._objects.get(unquote(source).partition("/")[2])
            if found is None:
                return "404 Not Found", {}, b""
            body = found.data
        condition = environ.get("HTTP_X_GOOG_IF_GENERATION_MATCH")
        now = self._objects[name].generation if name in self._objects else 0
        if condition is not None and int(condition) != now:
            return "412 Precondition Failed", {}, b""
        return "200 OK", _headers(self._write(name, body)), b"<A/>"

    def _write(self, name: str, data: bytes) -> Stored:
        self._objects[name] = Stored(data, next(self._count), datetime.now(UTC))
        return self._objects[name]

    def _read(self, name: str, span: str) -> tuple[str, dict[str, str], bytes]:
        found = self._objects.get(name)
        if found is None:
            return "404 Not Found", {}, b"<Error><Code>NoSuchKey</Code></Error>"
        if not span:
            return "200 OK", _headers(found), found.data
        first, last = (int(each) for each in span.removeprefix("bytes=").split("-"))
        piece = found.data[first : last + 1]
        if not piece:
            return "416 Range Not Satisfiable", {}, b""
        said = f"bytes {first}-{first + len(piece) - 1}/{len(found.data)}"
        return "206 Partial Content", {**_headers(found), "Content-Range": said}, piece

    def _listing(self, asked: dict[str, list[str]]) -> bytes:
        prefix = asked.get("prefix", [""])[0]
        after = asked.get("continuation-token", asked.get("start-after", [""]))[0]
        names = sorted(name for name in self._objects if name.startswith(prefix) and name > after)
        folders: list[str] = []
        if "delimiter" in asked:
            below = {name: name[len(prefix) :] for name in names}
            folders = sorted(
                {prefix + rest.split("/")[0] + "/" for rest in below.values() if "/" in rest}
            )
            names = [name for name in names if "/" not in below[name]]
        page, rest = names[:PAGE], names[PAGE:]
        lines = [
            f"<CommonPrefixes><Prefix>{escape(it)}</Prefix></CommonPrefixes>" for it in folders
        ]
        for name in page:
            one = self._objects[name]
            lines.append(
                f"<Contents><Key>{escape(name)}</Key><Size>{len(one.data)}</Size>"
                f"<LastModified>{one.modified:%Y-%m-%dT%H:%M:%S.%fZ}</LastModified>"
                f"<ETag>{escape(one.tag)}</ETag></Contents>"
            )
        more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if rest else ""
        return f"<ListBucketResult>{more}{''.join(lines)}</ListBucketResult>".encode()


def _headers(stored: Stored) -> dict[str, str]:
    return {
        "ETag": stored.tag,
        "x-goog-generation": str(stored.generation),
        "Last-Modified": f"{stored.modified:%a, %d %b %Y %H:%M:%S} GMT",
    }


@contextlib.contextmanager
def google_server(bucket: str) -> Iterator[tuple[str, GoogleObjects]]:
    """Where it answers, and the application."""
    app = GoogleObjects(bucket)
    with served(app) as address:
        yield address, app
