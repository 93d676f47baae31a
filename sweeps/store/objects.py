"""Objects in a bucket of S3 or Google Cloud Storage: the only door to obstore.

A further service is one entry of ``SERVICES``.

Credentials, region and endpoint come from the environment of the process that asks. What a service
answers may repeat parts of them, so no text of it leaves this file.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from oneshui.errors import InputError, OneshuiError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

T = TypeVar("T")
RETRY_SECONDS = 30.0
"""How long a request is repeated when a service does not answer, or answers that it is busy."""

PIECE_BYTES = 8 * 1024 * 1024
PARALLEL = 8
_TIMEOUT_SECONDS = 60.0
_MOST_PARTS = 9_000
_NO_CREDENTIALS = re.compile(
    r"/latest/(api/token|meta-data)|computeMetadata|[Tt]oken request|OpenCredentials|"
    r"service account|AssumeRole|CredentialsError|MissingAccount"
)
_DENIED = frozenset(
    {"AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"}
)
_ELSEWHERE = frozenset(
    {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}
)


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service that has buckets.

    Attributes:
        client: Name of its class in ``obstore.store``.
        options: What that class needs to be told, so that a conditional write is one.
        endpoints: Variables of the environment that name another endpoint, the first that is set.
        credentials: How a machine comes by credentials, for a message.
    """

    client: str
    options: Mapping[str, Any] = field(default_factory=dict)
    endpoints: tuple[str, ...]
    credentials: str


#: By the scheme of their addresses.
SERVICES: Mapping[str, Service] = {
    "s3": Service(
        client="S3Store",
        options={"conditional_put": "etag"},
        endpoints=("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        credentials="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role",
    ),
    "gs": Service(
        client="GCSStore",
        endpoints=("GOOGLE_BASE_URL",),
        credentials="set GOOGLE_APPLICATION_CREDENTIALS, or give the machine a service account",
    ),
}


def is_bucket(uri: str) -> bool:
    """Whether an address is one of a service, supported or not, rather than a folder."""
    return "://" in uri and not uri.startswith("file://")


class StoreUnreachableError(OneshuiError, OSError):
    """A service did not answer, or not as it should, for as long as it was worth waiting."""


class MissingCredentialsError(StoreUnreachableError):
    """This machine has nothing to show to the service."""


class _ConflictError(OneshuiError):
    """The object is there already, or not as it was."""


@dataclass(frozen=True, kw_only=True)
class Object:
    """An object of a listing.

    Attributes:
        name: Below the bucket's prefix.
        size: Bytes.
        tag: Changes with the content.
        modified: By the clock of the service.
    """

    name: str
    size: int
    tag: str
    modified: datetime


@dataclass(frozen=True, kw_only=True)
class Version:
    """Which content of an object is meant.

    Attributes:
        tag: Changes with the content.
        number: Of the version, where the service counts them.
    """

    tag: str
    number: str = ""


def _version(said: Any) -> Version:
    return Version(tag=said["e_tag"] or "", number=said["version"] or "")


def _is_loopback(host: str) -> bool:
    import ipaddress

    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Bucket:
    """The objects below an address ``s3://bucket/prefix`` or ``gs://bucket/prefix``.

    Every method may raise StoreUnreachableError, or InputError where only the user can help.
    Another process opens it again from its address, with its own credentials.
    """

    def __init__(self, uri: str, *, key: str = "store.uri") -> None:
        """Parse the address; nothing is asked of the service yet.

        Args:
            uri: The address.
            key: Of the configuration that gave it, for messages.

        Raises:
            InputError: It is no such address, or the environment names an endpoint that must not
                be used.
        """
        self._key = key
        scheme, _, rest = uri.partition("://")
        name, _, prefix = rest.partition("/")
        if "@" in name:
            raise InputError(
                f"{key} holds credentials; leave them out, they are read from the environment"
            )
        segments = [segment for segment in prefix.split("/") if segment]
        if scheme not in SERVICES:
            known = " or ".join(f"{scheme}://bucket/prefix" for scheme in SERVICES)
            raise InputError(f"{key} {uri!r} is not supported: give a folder, {known}")
        if not re.fullmatch(r"[\w.-]+", name) or any(
            not re.fullmatch(r"[\w.=-]+", segment) or set(segment) == {"."} for segment in segments
        ):
            raise InputError(
                f"{key} {uri!r} is not of the form {scheme}://bucket/prefix; names may hold "
                "letters, digits and . _ - ="
            )
        self._service, self._name, self._prefix = SERVICES[scheme], name, "/".join(segments)
        self.uri = f"{scheme}://{'/'.join([name, *segments])}"
        self.endpoint = self._endpoint()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Bucket, key=self._key), (self.uri,)

    def __repr__(self) -> str:
        return f"Bucket({self.uri!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bucket) and (self.uri, self.endpoint) == (
            other.uri,
            other.endpoint,
        )

    def __hash__(self) -> int:
        return hash((self.uri, self.endpoint))

    def _endpoint(self) -> str:
        """Host and port that the environment names instead of the service's own."""
        for variable in self._service.endpoints:
            if os.environ.get(variable):
                wrong = InputError(f"{variable} must be of the form https://host:port")
                parts = urlsplit(os.environ[variable])
                host = parts.hostname or ""
                if parts.scheme not in ("http", "https") or not host or parts.username:
                    raise wrong
                try:
                    port = f":{parts.port}" if parts.port else ""
                except ValueError:
                    raise wrong from None
                if parts.scheme == "http" and not _is_loopback(host):
                    raise InputError(
                        f"{variable} names http://{host}, which anybody on the way can read; use "
                        "https (http is for this machine's own services)"
                    )
                return f"{parts.scheme}://{host}{port}"
        return ""

    @cached_property
    def _client(self) -> Any:
        import obstore.store

        client: ClientConfig = {
            "allow_http": self.endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(seconds=_TIMEOUT_SECONDS),
        }
        retry: RetryConfig = {
            "max_retries": 50,
            "retry_timeout": timedelta(seconds=RETRY_SECONDS),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=3),
                "base": 2,
            },
        }
        prefix = self._prefix or None
        with self._told():
            return getattr(obstore.store, self._service.client)(
                self._name,
                prefix=prefix,
                client_options=client,
                retry_config=retry,
                **self._service.options,
            )

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Say what the service did in words of our own."""
        try:
            from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
        except ImportError:
            raise InputError(
                f"{self._key} {self.uri} needs the package obstore: uv sync --extra cloud, or "
                "pip install 'oneshui[cloud]'"
            ) from None
        try:
            yield
        except (AlreadyExistsError, PreconditionError):
            raise _ConflictError from None
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise self._no_bucket() from None
            raise FileNotFoundError(f"no such object below {self.uri}") from None
        except BaseError as error:
            if "status code: 416" in str(error):
                raise FileNotFoundError(f"an object below {self.uri} is too short") from None
            raise self._in_words(str(error), type(error).__name__) from None

    def _no_bucket(self) -> InputError:
        return InputError(
            f"there is no bucket {self._name} for {self._key} {self.uri}; create it, or correct "
            "the address"
        )

    def _in_words(self, text: str, kind: str) -> OneshuiError:
        status = _first(r"status code: (\d{3})", text)
        code = _first(r"<Code>(\w+)</Code>", text)
        reason = " ".join(filter(None, [status, code]))
        if code == "NoSuchBucket":
            return self._no_bucket()
        if _NO_CREDENTIALS.search(text):
            return MissingCredentialsError(
                f"there are no credentials for {self._key} {self.uri}; {self._service.credentials}"
            )
        if code in _ELSEWHERE or "incorrectly configured region" in text:
            return InputError(
                f"the bucket of {self._key} {self.uri} is in another region; set AWS_REGION to it"
            )
        if code in _DENIED or status in ("401", "403") or "Denied" in kind or "Unauth" in kind:
            return InputError(
                f"access to {self._key} {self.uri} is denied ({reason or 'no permission'}); check "
                "the credentials in the environment and their rights to list, read, write and "
                "delete there"
            )
        if not reason:
            reason = "no connection" if "kind: Connect" in text else "no answer"
        at = f" at {self.endpoint}" if self.endpoint else ""
        return StoreUnreachableError(
            f"{self._key} {self.uri} cannot be reached{at} "
            f"({reason}, tried for {RETRY_SECONDS:g} s)"
        )

    def get(self, name: str) -> tuple[bytes, Version] | None:
        """Content and version of an object, None if there is none."""
        try:
            with self._told():
                found = self._client.get(name)
                return bytes(found.bytes()), _version(found.meta)
        except FileNotFoundError:
            return None

    def put(self, name: str, data: bytes | Path) -> None:
        """Write an object whole or not at all, whatever is there."""
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        with self._told():
            self._client.put(
                name,
                data,
                chunk_size=max(PIECE_BYTES, size // _MOST_PARTS),
                max_concurrency=PARALLEL,
            )

    def create(self, name: str, data: bytes) -> Version | None:
        """Write an object that must not exist; None if it does.

        It may then be our own: a request whose answer got lost is sent again.
        """
        return self._conditionally(name, data, "create")

    def replace(self, name: str, data: bytes, version: Version) -> Version | None:
        """Write an object that must be of this version still; None if it is not."""
        known = {"e_tag": version.tag, "version": version.number}
        return self._conditionally(name, data, {key: it for key, it in known.items() if it})

    def _conditionally(self, name: str, data: bytes, mode: Any) -> Version | None:
        try:
            with self._told():
                return _version(self._client.put(name, data, mode=mode))
        except (_ConflictError, FileNotFoundError):
            return None

    def list(self, folder: str) -> list[Object]:
        """Every object below a folder; one request for a thousand of them."""
        with self._told():
            return [
                Object(
                    name=one["path"],
                    size=one["size"],
                    tag=one["e_tag"] or "",
                    modified=one["last_modified"],
                )
                for chunk in self._client.list(folder or None)
                for one in chunk
            ]

    def folders(self, folder: str) -> set[str]:
        """Names of the folders in a folder."""
        with self._told():
            found = self._client.list_with_delimiter(folder)["common_prefixes"]
        return {path.rpartition("/")[2] for path in found}

    def is_empty(self) -> bool:
        """Whether there is nothing below the address; asks once."""
        with self._told():
            return not any(len(chunk) for chunk in itertools.islice(self._client.list(), 1))

    def copy(self, source: str, target: str) -> bool:
        """Copy an object; whether it was there."""
        try:
            with self._told():
                self._client.copy(source, target)
        except FileNotFoundError:
            return False
        return True

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects; those that are gone already do not matter."""
        if not names:
            return
        with contextlib.suppress(FileNotFoundError), self._told():
            self._client.delete(list(names))

    def download(self, name: str, path: Path, size: int) -> None:
        """Write an object of a known size into a file, several pieces at a time.

        Raises:
            FileNotFoundError: There is no such object.
            OSError: The file cannot be written.
        """
        with path.open("wb") as stream:
            descriptor = stream.fileno()

            def fetch(start: int) -> None:
                length = min(PIECE_BYTES, size - start)
                with self._told():
                    data = bytes(self._client.get_range(name, start=start, length=length))
                _write_at(descriptor, data, start)

            in_parallel(fetch, range(0, size, PIECE_BYTES), PARALLEL)


def _write_at(descriptor: int, data: bytes, start: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, start)
        data, start = data[written:], start + written


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else ""


def in_parallel(action: Callable[[Any], T], items: Iterable[Any], threads: int) -> list[T]:
    """What the action returns for each item, in their order; the first error is raised."""
    from concurrent.futures import ThreadPoolExecutor

    todo = list(items)
    if len(todo) < 2:
        return [action(item) for item in todo]
    with ThreadPoolExecutor(min(threads, len(todo)), thread_name_prefix="objects") as pool:
        futures = [pool.submit(action, item) for item in todo]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
