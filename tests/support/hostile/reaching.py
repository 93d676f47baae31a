"""Ways to what is deleted that are tried at once, by names of files and otherwise."""

from __future__ import annotations

import ctypes
import gc
import importlib
import io
import mmap
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from support.hostile.target import HELD, SIZE, Target, Way

from oneshui import deletion

BY_PATH: dict[str, Way] = {}
OTHERWISE: dict[str, Way] = {}


def way(name: str, ways: dict[str, Way] = BY_PATH) -> Callable[[Way], Way]:
    return lambda found: ways.setdefault(name, found)


way("open")(lambda t: open(t.file, "rb").read())  # noqa: PTH123, SIM115
way("open by a relative path")(lambda t: open(os.path.relpath(t.file), "rb").read())  # noqa: PTH123, SIM115
way("open by bytes")(lambda t: open(os.fsencode(t.file), "rb").read())  # noqa: PTH123, SIM115
way("open with dots")(lambda t: open(f"{t.root}/out/../data/picture.bin", "rb").read())  # noqa: PTH123, SIM115
way("io.FileIO")(lambda t: io.FileIO(t.file).read())
way("pathlib")(lambda t: t.file.read_bytes())
way("a linked folder")(lambda t: (t.root / "data" / "linked" / "other.bin").read_bytes())
way("where a linked folder leads")(lambda t: (t.root / "disk" / "other.bin").read_bytes())
way("where a linked picture leads")(lambda t: (t.root / "loose.bin").read_bytes())
way("the folder of the sweep")(lambda t: (t.root / "out" / "report.bin").read_bytes())
way("numpy.load")(lambda t: np.load(t.file.with_name("cache.npy")).tobytes())
way("numpy.memmap")(lambda t: np.memmap(t.file, mode="r").tobytes())
way("numpy.fromfile")(lambda t: np.fromfile(t.file, dtype=np.uint8).tobytes())
way("Pillow")(lambda t: Image.open(t.file.with_name("picture.png")).tobytes())
way("torch.load")(lambda t: torch.load(t.store / "weights.pt")["w"].numpy().tobytes())
way("torch's own reader")(
    lambda t: torch._C.PyTorchFileReader(str(t.store / "weights.pt")).get_record("data/0")
)
way("safetensors")(lambda t: load_file(t.store / "weights.safetensors")["w"].numpy().tobytes())
way("shutil.copy")(lambda t: Path(shutil.copy(t.file, "copy")).read_bytes())
way("a process that copies")(
    lambda t: subprocess.run(["cat", t.file], capture_output=True, check=True).stdout
)
way("os.system")(
    lambda t: os.system(f"cat {t.file} > copied 2>/dev/null") or Path("copied").read_bytes()
)
way("this process's root")(lambda t: Path(f"/proc/self/root{t.file}").read_bytes())
way("this process's folder in /proc")(
    lambda t: Path(f"/proc/self/cwd/{os.path.relpath(t.file)}").read_bytes()
)
way("the worker's root")(lambda t: Path(f"/proc/{t.worker}/root{t.file}").read_bytes())
way("listing")(
    lambda t: b"".join(os.fsencode(p.name) for p in (t.root / "data" / "names").iterdir())
)


@way("safe_open")
def _safe_open(t: Target) -> bytes:
    opened: Any = safe_open(t.store / "weights.safetensors", "np")
    return bytes(opened.get_tensor("w").tobytes())


@way("pyarrow")
def _pyarrow(t: Target) -> bytes:
    import pyarrow as pa

    return bytes(pa.OSFile(str(t.file)).read())


@way("os.open")
def _os_open(t: Target) -> bytes:
    return os.read(os.open(t.file, os.O_RDONLY), SIZE)


@way("a name relative to an open folder")
def _from_folder(t: Target) -> bytes:
    folder = os.open(t.root, os.O_RDONLY)
    return os.read(os.open("data/picture.bin", os.O_RDONLY, dir_fd=folder), SIZE)


@way("chdir")
def _chdir(t: Target) -> bytes:
    os.chdir(t.file.parent)
    return Path("picture.bin").read_bytes()


@way("a symbolic link")
def _symlink(t: Target) -> bytes:
    Path("link").symlink_to(t.file)
    return Path("link").read_bytes()


@way("a hard link")
def _hard_link(t: Target) -> bytes:
    os.link(t.file, "hard")
    return Path("hard").read_bytes()


@way("moving it here")
def _rename(t: Target) -> bytes:
    os.rename(t.file.with_name("movable.bin"), "mine")  # noqa: PTH104
    return Path("mine").read_bytes()


@way("sqlite3")
def _sqlite(t: Target) -> bytes:
    return bytes(
        sqlite3.connect(t.file.with_name("some.db")).execute("select b from t").fetchone()[0]
    )


@way("mmap")
def _mmap(t: Target) -> bytes:
    with t.file.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)[:]


@way("libc's open")
def _libc(t: Target) -> bytes:
    libc, memory = ctypes.CDLL(None), ctypes.create_string_buffer(SIZE)
    libc.read(libc.open(os.fsencode(t.file), 0), memory, SIZE)
    return memory.raw


@way("a system call by number")
def _syscall(t: Target) -> bytes:
    number = {"x86_64": 257, "aarch64": 56}[os.uname().machine]
    libc, memory = ctypes.CDLL(None), ctypes.create_string_buffer(SIZE)
    libc.read(libc.syscall(number, -100, os.fsencode(t.file), 0), memory, SIZE)
    return memory.raw


@way("fork")
def _fork(t: Target) -> bytes:
    ours, theirs = os.pipe()
    if os.fork() == 0:
        try:
            os.write(theirs, t.file.read_bytes())
        finally:
            os._exit(0)
    os.close(theirs)
    return os.read(ours, SIZE)


@way("a process begun without Python's knowing")
def _fork_exec(t: Target) -> bytes:
    out = os.open("caught", os.O_CREAT | os.O_RDWR, 0o600)
    before = os.dup(1)
    os.dup2(out, 1)
    try:
        failed, told = os.pipe()
        begin: Any = importlib.import_module("_posixsubprocess").fork_exec
        argv, unset = [b"/bin/cat", os.fsencode(t.file)], (-1,) * 6
        rest = (failed, told, False, False, -1, None, None, None, -1, None)
        # Python 3.11 to 3.13 take one more, whether vfork may be used.
        pid = begin(argv, [argv[0]], True, (told,), None, None, *unset, *rest, True)
        os.waitpid(pid, 0)
    finally:
        os.dup2(before, 1)
    return Path("caught").read_bytes()


@way("posix_spawn")
def _spawn(t: Target) -> bytes:
    os.waitpid(os.posix_spawn("/bin/cp", ["cp", str(t.file), "spawned"], {}), 0)
    return Path("spawned").read_bytes()


other = partial(way, ways=OTHERWISE)


@other("a file that the worker has open, by number")
def _number(t: Target) -> bytes:
    return os.pread(t.number, SIZE, 0)


@other("any open file")
def _any_number(_: Target) -> bytes:
    found = b""
    for number in range(3, 200):
        try:
            found += os.pread(number, SIZE, 0)
        except OSError:
            continue
    return found


other("open files of the worker")(lambda t: Path(f"/proc/{t.worker}/fd/{t.number}").read_bytes())


@other("memory of the worker")
def _memory(t: Target) -> bytes:
    number = os.open(f"/proc/{t.worker}/mem", os.O_RDONLY)
    return os.pread(number, SIZE, t.address)


@other("process_vm_readv")
def _vm_read(t: Target) -> bytes:
    class Part(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    memory = ctypes.create_string_buffer(SIZE)
    here, there = Part(ctypes.addressof(memory), SIZE), Part(t.address, SIZE)
    libc = ctypes.CDLL(None)
    libc.process_vm_readv(t.worker, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    return memory.raw


@other("ptrace")
def _ptrace(t: Target) -> bytes:
    libc = ctypes.CDLL(None)
    libc.ptrace.restype = ctypes.c_long
    if libc.ptrace(16, t.worker, None, None) != 0:
        raise PermissionError
    os.waitpid(t.worker, 0x40000000)
    words = [libc.ptrace(2, t.worker, ctypes.c_void_p(t.address + 8 * i), None) for i in range(8)]
    libc.ptrace(17, t.worker, None, None)
    return b"".join(word.to_bytes(8, "little", signed=True) for word in words)


@other("memory at the same place")
def _same_place(t: Target) -> bytes:
    # Read through the kernel: what is not there is an error, no crash.
    return os.pread(os.open("/proc/self/mem", os.O_RDONLY), SIZE, t.address)


@other("all objects")
def _objects(_: Target) -> bytes:
    tables = [one for one in gc.get_objects() if type(one) is dict]
    inside = (value for table in tables for value in list(table.values()) if type(value) is dict)
    return bytes(next((value["held"] for value in inside if "held" in value), b""))


@other("frames")
def _frames(_: Target) -> bytes:
    frame: Any = sys._getframe()
    while frame is not None:
        if "held" in frame.f_locals:
            return bytes(frame.f_locals["held"])
        frame = frame.f_back
    return b""


other("a module's variable")(lambda _: HELD["held"])


@other("the guard taken away")
def _unguarded(t: Target) -> bytes:
    names, deletion._PATHS = deletion._PATHS, {}
    try:
        return t.file.read_bytes()
    finally:
        deletion._PATHS = names


@other("a TCP server")
def _tcp(t: Target) -> bytes:
    return socket.create_connection(("127.0.0.1", t.port), timeout=2).recv(SIZE)


@other("a TCP server by libc")
def _tcp_native(t: Target) -> bytes:
    libc, memory = ctypes.CDLL(None), ctypes.create_string_buffer(SIZE)
    number = libc.socket(2, 1, 0)
    where = b"\x02\x00" + t.port.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)
    libc.connect(number, where, 16)
    libc.recv(number, memory, SIZE, 0x100)  # MSG_WAITALL: what is under way counts
    return memory.raw


@other("a UDP server")
def _udp(t: Target) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.settimeout(2)
        channel.sendto(b"?", ("127.0.0.1", t.port))
        return channel.recv(SIZE)


def _unix(name: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(2)
        channel.connect(name)
        return channel.recv(SIZE)


other("a socket in a folder")(lambda t: _unix(str(t.root / "socket")))
other("an abstract socket")(lambda t: _unix(f"\0oneshui-{t.worker}"))
other("secrets in the environment")(lambda _: os.environ["AWS_SECRET_ACCESS_KEY"].encode())
