"""Seeded damages of files: what disks, crashes and people do to what a run has left."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What was done to which file."""

    kind: str
    path: Path

    def __str__(self) -> str:
        return f"{self.kind} {self.path}"


def flip(path: Path, rng: random.Random, _others: Sequence[Path]) -> None:
    """One bit is another."""
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def cut(path: Path, rng: random.Random, _others: Sequence[Path]) -> None:
    """The end is missing."""
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])


def grow(path: Path, rng: random.Random, _others: Sequence[Path]) -> None:
    """Something was appended."""
    with path.open("ab") as stream:
        stream.write(rng.randbytes(rng.randint(1, 100)))


def delete(path: Path, _rng: random.Random, _others: Sequence[Path]) -> None:
    """The file is gone."""
    path.unlink()


def swap(path: Path, rng: random.Random, others: Sequence[Path]) -> None:
    """The content of another sound file of the same run stands in it."""
    path.write_bytes(rng.choice(others).read_bytes())


FOREIGN = (
    b"\x89PNG\r\n\x1a\n" + bytes(64),
    "Größe;Zahl\n".encode("latin-1"),
    b"[" * 100_000,
    b"{}",
    b"null\n",
    b"\xff\xfe\x00\x00" * 8,
    b"",
)


def foreign(path: Path, rng: random.Random, _others: Sequence[Path]) -> None:
    """A file of quite another kind stands in its place."""
    path.write_bytes(rng.choice(FOREIGN))


def folder(path: Path, _rng: random.Random, _others: Sequence[Path]) -> None:
    """A folder stands in its place."""
    path.unlink()
    path.mkdir()
    (path / "file").write_text("hello\n")


Kind = Callable[[Path, random.Random, Sequence[Path]], None]
KINDS: tuple[Kind, ...] = (
    flip,
    flip,
    cut,
    grow,
    delete,
    swap,
    foreign,
    folder,
)


def damage(files: Sequence[Path], count: int, rng: random.Random) -> list[Damage]:
    """Damage so many of the files, each in one way; all kinds in turn."""
    done = []
    chosen = rng.sample(list(files), min(count, len(files)))
    for path in chosen:
        kind = rng.choice(KINDS)
        before = path.read_bytes()
        others = [other for other in files if other not in chosen]
        kind(path, rng, others)
        if path.is_file() and path.read_bytes() == before:
            path.write_bytes(before + b" ")
        done.append(Damage(kind=kind.__name__, path=path))
    return done
