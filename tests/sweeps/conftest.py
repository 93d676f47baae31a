"""A service for objects on loopback, an address in a new bucket of it, and cells of requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.google_server import TOKEN, google_server
from support.in_turn import people_in_turn
from support.inline_sweep import InlineSweep
from support.object_server import ObjectServer, object_server
from support.several_requests import several_requests

from sweeps.store.bucket import RemoteStore
from sweeps.store.objects import Bucket


@pytest.fixture(scope="session")
def server() -> Iterator[ObjectServer]:
    with object_server() as running:
        yield running


@pytest.fixture
def address(server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ONESHUI_CACHE", str(tmp_path / "cache"))
    yield f"s3://{server.new_bucket()}/some/prefix"
    server.interfere = lambda _method, _path: None


@pytest.fixture
def store(address: str) -> RemoteStore:
    return RemoteStore(address)


@pytest.fixture
def bucket(address: str) -> Bucket:
    return Bucket(address)


@pytest.fixture
def google_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with google_server("a-bucket") as (url, _):
        monkeypatch.setenv("GOOGLE_BASE_URL", url)
        monkeypatch.setenv("GOOGLE_BEARER_TOKEN", TOKEN)
        monkeypatch.setenv("ONESHUI_CACHE", str(tmp_path / "cache"))
        yield "gs://a-bucket/some/prefix"


@pytest.fixture(scope="session")
def several(tmp_path_factory: pytest.TempPathFactory) -> InlineSweep:
    """A finished cell of four requests of one person each; tests must not change it."""
    return several_requests(tmp_path_factory.mktemp("several"))


@pytest.fixture(scope="session")
def in_turn(tmp_path_factory: pytest.TempPathFactory) -> InlineSweep:
    """A finished cell whose people ask one after the other; tests must not change it."""
    return people_in_turn(tmp_path_factory.mktemp("in_turn"))
