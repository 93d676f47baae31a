"""Leases in a folder or in a bucket, and what a stranger could do to them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from sweeps.store.lease_places import LeaseFolder, LeaseObjects
from sweeps.store.leases import LeasePlace, Leases
from sweeps.store.objects import Bucket


class Place(Protocol):
    """Where leases are.

    Attributes:
        address: Another process opens it by this.
    """

    address: str

    def write(self, name: str, text: str) -> None: ...

    def beat(self, name: str, text: str, moment: float) -> None: ...

    def names(self) -> set[str]: ...


class Folder:
    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self._path = path

    def write(self, name: str, text: str) -> None:
        (self._path / name).write_text(text)

    def beat(self, name: str, text: str, moment: float) -> None:  # noqa: ARG002
        os.utime(self._path / name, (moment, moment))

    def names(self) -> set[str]:
        return {path.name for path in self._path.iterdir()}


class Objects:
    def __init__(self, address: str) -> None:
        self.address = address
        self._bucket = Bucket(address)

    def _path(self, name: str) -> str:
        job, _, generation = name.rpartition(".")
        return f".leases/{job}/{generation}"

    def write(self, name: str, text: str) -> None:
        self._bucket.put(self._path(name), text.encode())

    def beat(self, name: str, text: str, moment: float) -> None:
        self.write(name, f"{text}\ntoken {moment}\n")

    def names(self) -> set[str]:
        found = (one.name.removeprefix(".leases/") for one in self._bucket.list(".leases"))
        return {name.replace("/", ".") for name in found}


def place(address: str) -> LeasePlace:
    if "://" in address:
        return LeaseObjects(Bucket(address))
    return LeaseFolder(Path(address))


def opened(address: str) -> Leases:
    return Leases(place(address))
