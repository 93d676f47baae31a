"""Where leases are: files of a folder, or objects of a bucket."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from sweeps.store.leases import Beat
from sweeps.store.objects import Bucket, Version

FOLDER = ".leases"


class LeaseFolder:
    """Leases as files ``<name>.<generation>``."""

    def __init__(self, folder: Path) -> None:
        """Use the folder, which must exist."""
        self._folder = folder

    def _path(self, name: str, generation: int) -> Path:
        return self._folder / f"{name}.{generation}"

    def every(self) -> dict[tuple[str, int], Beat]:
        """See ``LeasePlace.every``."""
        found: dict[tuple[str, int], Beat] = {}
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            name, _, generation = path.name.rpartition(".")
            if generation.isdecimal():
                with contextlib.suppress(FileNotFoundError):
                    found[name, int(generation)] = path.stat().st_mtime_ns
        return found

    def generations(self, name: str) -> list[int]:
        """See ``LeasePlace.generations``."""
        found = (path.name.rpartition(".") for path in self._folder.glob(f"{name}.*"))
        return sorted(int(generation) for _, _, generation in found if generation.isdecimal())

    def read(self, name: str, generation: int, beat: Beat | None = None) -> tuple[str, Beat] | None:  # noqa: ARG002
        """See ``LeasePlace.read``; a file system's clock is too coarse to remember by."""
        path = self._path(name, generation)
        try:
            now = path.stat().st_mtime_ns
            return path.read_text(encoding="utf-8", errors="replace"), now
        except FileNotFoundError:
            return None
        except IsADirectoryError:
            return "", now

    def create(self, name: str, generation: int, text: str) -> bool:
        """See ``LeasePlace.create``."""
        path = self._path(name, generation)
        try:
            with path.open("x", encoding="utf-8") as stream:
                stream.write(text)
        except FileExistsError:
            return False
        except OSError:
            # A full disk: what nobody holds must not keep others away.
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            raise
        return True

    def touch(self, name: str, generation: int) -> None:
        """See ``LeasePlace.touch``."""
        os.utime(self._path(name, generation))

    def remove(self, name: str, generations: Sequence[int]) -> None:
        """See ``LeasePlace.remove``."""
        for generation in generations:
            path = self._path(name, generation)
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


class LeaseObjects:
    """Leases as objects ``.leases/<name>/<generation>``.

    A lease's first line says who holds it. The second is a token of its holder and the number of
    its beats, so that every beat changes the content, and with it what a listing says.
    """

    def __init__(self, bucket: Bucket) -> None:
        """Use the bucket; nothing is asked yet."""
        self._bucket = bucket
        self._own: dict[str, _Own] = {}
        self._read: dict[str, tuple[Beat, str]] = {}

    def every(self) -> dict[tuple[str, int], Beat]:
        """See ``LeasePlace.every``; one request for a thousand leases."""
        found: dict[tuple[str, int], Beat] = {}
        for one in self._bucket.list(FOLDER):
            name, _, generation = one.name.removeprefix(f"{FOLDER}/").rpartition("/")
            if generation.isdecimal():
                found[name, int(generation)] = one.tag
        known = {_path(name, generation) for name, generation in found}
        # Another thread may be reading.
        self._read = {path: it for path, it in list(self._read.items()) if path in known}
        return found

    def generations(self, name: str) -> list[int]:
        """See ``LeasePlace.generations``."""
        found = (one.name.rpartition("/")[2] for one in self._bucket.list(f"{FOLDER}/{name}"))
        return sorted(int(generation) for generation in found if generation.isdecimal())

    def read(self, name: str, generation: int, beat: Beat | None = None) -> tuple[str, Beat] | None:
        """See ``LeasePlace.read``; asks only if the lease has changed since."""
        path = _path(name, generation)
        known = self._read.get(path)
        if known is not None and beat is not None and known[0] == beat:
            return known[1], beat
        found = self._bucket.get(path)
        if found is None:
            return None
        data, version = found
        text = data.decode(errors="replace").partition("\n")[0]
        # Listings and answers may spell a tag differently; what is newer is listed so next time.
        seen = version.tag if beat is None else beat
        self._read[path] = (seen, text)
        return text, seen

    def create(self, name: str, generation: int, text: str) -> bool:
        """See ``LeasePlace.create``."""
        path, own = _path(name, generation), _Own(text)
        version = self._bucket.create(path, own.content())
        if version is None:
            version = self._ours(path, own)
        if version is None:
            return False
        own.version = version
        self._own[path] = own
        return True

    def _ours(self, path: str, own: _Own) -> Version | None:
        """The version of an object that is there although we were told that it was not written."""
        found = self._bucket.get(path)
        if found is None or own.token.encode() not in found[0]:
            return None
        return found[1]

    def touch(self, name: str, generation: int) -> None:
        """See ``LeasePlace.touch``: a lease that somebody took over and cleared away stays away."""
        path = _path(name, generation)
        own = self._own.get(path)
        if own is None:
            return
        own.beats += 1
        version = self._bucket.replace(path, own.content(), own.version)
        if version is None:
            # The answer to an earlier beat may have got lost.
            version = self._ours(path, own)
        if version is None:
            self._own.pop(path, None)
        else:
            own.version = version

    def remove(self, name: str, generations: Sequence[int]) -> None:
        """See ``LeasePlace.remove``."""
        paths = [_path(name, generation) for generation in generations]
        for path in paths:
            with contextlib.suppress(KeyError):
                del self._own[path]
        self._bucket.remove(paths)


class _Own:
    """A lease of this process."""

    def __init__(self, text: str) -> None:
        self.text, self.token, self.beats = text, uuid.uuid4().hex, 0
        self.version = Version(tag="")

    def content(self) -> bytes:
        return f"{self.text}\n{self.token} {self.beats}\n".encode()


def _path(name: str, generation: int) -> str:
    return f"{FOLDER}/{name}/{generation}"
