"""S3 on loopback: moto, with what it lacks for our purposes put in front of it."""

from __future__ import annotations

import contextlib
import logging
import threading
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

SECRETS = ("nobodys-access-key", "nobodys-secret-key")
Answer = tuple[str, bytes]


class ObjectServer:
    """A server of this process; buckets made by it are forgotten with it.

    moto looks whether an object exists and writes it in two steps, between which another thread may
    write it. A lock makes one step of conditional requests, as the real services do.

    Attributes:
        url: Where it answers.
        requests: How many there were of each kind, such as "GET" and "LIST".
        interfere: Called with the method and the path of every request; what it returns is the
            answer, None lets the request pass.
    """

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.interfere: Callable[[str, str], Answer | None] = lambda _method, _path: None
        self.url = ""
        self._lock = threading.Lock()

    def in_front_of(self, app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
            is_listing = method == "GET" and "list-type" in environ.get("QUERY_STRING", "")
            self.requests["LIST" if is_listing else method] += 1
            refused = self.interfere(method, path)
            if refused is not None:
                status, body = refused
                length = int(environ.get("CONTENT_LENGTH") or 0)
                environ["wsgi.input"].read(length)
                start_response(status, [("Content-Length", str(len(body)))])
                return [body]
            if "HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MATCH" in environ:
                with self._lock:
                    return app(environ, start_response)
            return app(environ, start_response)

        return answer

    def new_bucket(self) -> str:
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        request = urllib.request.Request(f"{self.url}/{name}", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        self.requests.clear()
        return name

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": SECRETS[0],
            "AWS_SECRET_ACCESS_KEY": SECRETS[1],
            "AWS_REGION": "us-east-1",
        }


@contextlib.contextmanager
def object_server() -> Iterator[ObjectServer]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    server = ObjectServer()
    assert moto._server is not None
    moto._server.app = server.in_front_of(moto._server.app)
    host, port = moto.get_host_and_port()
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        moto.stop()
