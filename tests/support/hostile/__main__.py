"""All ways tried under one protection, which is named; prints what they found, as JSON.

The process that does so plays a warm worker: it keeps a nursery first and holds data only then.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from support.hostile import REACHED, WAYS
from support.hostile.leaving import LATER, LEFT_BEHIND, LEFT_IN
from support.hostile.target import HELD, SIZE, Target

from oneshui import deletion
from oneshui.enclosure import Enclosed, Walls, enclosed, keep_nursery, kernel, nursery
from oneshui.enclosure.nursery import Action


def _tried(name: str, target: Target, private: Path) -> tuple[dict[str, Any], str]:
    os.chdir(private)
    return {}, bytes(WAYS[name](target)).hex()


def _left(name: str, target: Target, private: Path) -> tuple[dict[str, Any], Any]:
    os.chdir(private)
    LATER[name][0](target)
    return {}, None


def _serve(root: Path, token: bytes) -> int:
    listening = [socket.socket(), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
    listening[0].bind(("127.0.0.1", 0))
    listening[1].bind(str(root / "socket"))
    listening[2].bind(f"\0oneshui-{os.getpid()}")
    port = int(listening[0].getsockname()[1])
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", port))

    def answer(one: socket.socket) -> None:
        one.listen()
        while True:
            with one.accept()[0] as connection:
                connection.sendall(token)

    def answer_datagrams() -> None:
        while True:
            datagrams.sendto(token, datagrams.recvfrom(1)[1])

    for one in listening:
        threading.Thread(target=answer, args=(one,), daemon=True).start()
    threading.Thread(target=answer_datagrams, daemon=True).start()
    return port


def _write(root: Path, token: bytes) -> None:
    array = np.frombuffer(token, dtype=np.uint8)
    for folder in ("data/names", "out/store/retrain", "disk"):
        (root / folder).mkdir(parents=True)
    data, store = root / "data", root / "out" / "store" / "retrain"
    for path in (data / "picture.bin", data / "movable.bin", root / "disk" / "other.bin",
                 root / "loose.bin", root / "out" / "report.bin"):  # fmt: skip
        path.write_bytes(token)
    (data / "linked").symlink_to(root / "disk")
    (data / "loose.bin").symlink_to(root / "loose.bin")
    (data / "names" / token.hex()).touch()
    np.save(data / "cache.npy", array)
    Image.fromarray(array.reshape(8, 8)).save(data / "picture.png")
    torch.save({"w": torch.from_numpy(array.copy())}, store / "weights.pt")
    save_file({"w": torch.from_numpy(array.copy())}, store / "weights.safetensors")
    with sqlite3.connect(data / "some.db") as base:
        base.execute("create table t (b blob)")
        base.execute("insert into t values (?)", [token])


def _unprotected(action: Action, _: Walls) -> Enclosed:
    """As ``enclosed``, in this process and without any walls."""
    private = Path(tempfile.mkdtemp(prefix="oneshui-private-"))
    try:
        tensors, value = action(private)
        return Enclosed(tensors=dict(tensors), value=value, protection="none")
    finally:
        os.chdir("/")
        shutil.rmtree(private)


def _measure(root: Path, protection: str) -> dict[str, str]:
    run = _unprotected if protection == "nothing" else enclosed
    if protection != "landlock":
        kernel.landlock_abi = lambda: 0
    if protection == "audit":
        nursery._can_fork = lambda: False
    token = os.urandom(SIZE)
    os.environ["AWS_SECRET_ACCESS_KEY"] = token.hex()
    _write(root, token)
    if protection in ("landlock", "audit, own process"):
        keep_nursery()
    held = np.frombuffer(token, dtype=np.uint8).copy()
    HELD["held"] = token
    target = Target(
        root=root,
        worker=os.getpid(),
        number=os.open(root / "data" / "picture.bin", os.O_RDONLY),
        address=held.ctypes.data,
        port=_serve(root, token),
    )
    walls = Walls(
        protected=(root / "data", root / "out", root / "out" / "store"),
        method="hostile",
        packages=(Path(deletion.__file__).parent,),
    )
    ahead = Walls(
        protected=walls.protected, method="hostile", packages=walls.packages, handed=(target.file,)
    )
    found = {}
    for name in WAYS:
        try:
            if name in LATER:
                run(partial(_left, name, target), ahead)
            found[name] = run(partial(_tried, name, target), walls).value
        except BaseException as error:
            found[name] = f"{type(error).__name__}: {error}"
    for folder in LEFT_IN:
        Path(folder, LEFT_BEHIND).unlink(missing_ok=True)
    hidden = (token.hex(), token.hex().encode().hex())
    return {
        n: REACHED if any(h in what for h in hidden) else what[:200] for n, what in found.items()
    }


if __name__ == "__main__":
    # Not TemporaryDirectory, whose clean-up is one of the things that a way sets off.
    folder = Path(tempfile.mkdtemp(prefix="oneshui-hostile-")).resolve()
    try:
        sys.stdout.write(json.dumps(_measure(folder, sys.argv[1])))
    finally:
        shutil.rmtree(folder)
    sys.stdout.flush()
    # Threads that ways left behind must not keep it.
    os._exit(0)
