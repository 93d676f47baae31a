"""What the Linux kernel takes from a process for good: Landlock its files, seccomp its sockets.

Both bind native code as well, hold for every thread and process that is begun later, and cannot be
undone. Sources: landlock(7), seccomp(2), and the headers ``linux/landlock.h`` and
``linux/seccomp.h``.
"""

from __future__ import annotations

import ctypes
import os
import platform
import stat
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH_BENEATH = 1
_VERSION_FLAG = 1
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 22, 36, 38

_WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL_DEV = 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
_OF_FILES = _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_ALL_TCP, _ALL_SCOPES = 3, 3
READ = _READ_FILE | _READ_DIR
"""Reading files and listing folders."""

USE = READ | _WRITE_FILE | _IOCTL_DEV
"""What a device is used by."""

CHANGE = 0xFFFF & ~1
"""All but executing."""

_DENIED = {
    "x86_64": (
        0xC000003E,
        # socket, connect, bind; shmget, shmat, semget, msgget, mq_open; ptrace, process_vm_readv,
        # process_vm_writev, kcmp, pidfd_getfd; add_key, request_key, keyctl; perf_event_open,
        # open_by_handle_at, bpf, userfaultfd, io_uring_setup.
        (
            41,
            42,
            49,
            29,
            30,
            64,
            68,
            240,
            101,
            310,
            311,
            312,
            438,
            248,
            249,
            250,
            298,
            304,
            321,
            323,
            425,
        ),
    ),
    "aarch64": (
        0xC00000B7,
        (
            198,
            203,
            200,
            194,
            196,
            190,
            186,
            180,
            117,
            270,
            271,
            272,
            438,
            217,
            218,
            219,
            241,
            265,
            280,
            282,
            425,
        ),
    ),
}
"""By machine: its number in linux/audit.h, and system calls by which a process reaches others."""


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _prctl(*arguments: int) -> None:
    _checked(_libc().prctl(*(ctypes.c_ulong(argument) for argument in arguments), *[0] * 3))


def landlock_abi() -> int:
    """Version of the kernel's Landlock; 0 if it has none, or has it switched off."""
    if sys.platform != "linux":
        return 0
    return max(0, int(_libc().syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)))


def end_with_parent(signal: int) -> None:
    """Have the kernel send this process the signal when the thread that forked it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal)


def adopt_orphans() -> None:
    """Become the parent of what descendants leave running."""
    _prctl(_PR_SET_SUBREAPER, 1)


def restrict(open_paths: Iterable[tuple[Path, int]]) -> None:
    """Keep from this process every file but these, for ever; with all that it begins.

    Args:
        open_paths: What stays, with what may be done with it and with what is below it: READ, USE
            or CHANGE; what does not exist is passed over.

    Raises:
        OSError: The kernel refuses, or has no Landlock.
    """
    abi = landlock_abi()
    files = (1 << 13) - 1
    for version, right in ((2, 1 << 13), (3, _TRUNCATE), (5, _IOCTL_DEV)):
        files |= right if abi >= version else 0
    attributes = struct.pack(
        "=QQQ", files, _ALL_TCP if abi >= 4 else 0, _ALL_SCOPES if abi >= 6 else 0
    )
    libc = _libc()
    ruleset = _checked(libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0))
    try:
        for path, rights in open_paths:
            try:
                place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                is_folder = stat.S_ISDIR(os.fstat(place).st_mode)
                allowed = rights & files & (~0 if is_folder else _OF_FILES)
                rule = struct.pack("=Qi", allowed, place)
                _checked(libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0))
            finally:
                os.close(place)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def cut_off() -> None:
    """Refuse this process, for ever, sockets and other ways to reach processes and the kernel.

    On a machine whose system calls are not in the list above nothing happens.
    """
    if platform.machine() not in _DENIED:
        return
    machine, denied = _DENIED[platform.machine()]
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | 13
    # Each line: operation, lines to skip if true, if false, operand; past the checks the answers.
    checks = [(equal, number) for number in denied]
    # Calls of another convention (32 bits, x32) have other numbers.
    checks.insert(0, (at_least, 0x40000000))
    program = [(load, 0, 0, 4), (equal, 0, len(checks) + 2, machine), (load, 0, 0, 0)]
    program += [(code, len(checks) - i, 0, k) for i, (code, k) in enumerate(checks)]
    program += [(answer, 0, 0, allow), (answer, 0, 0, refuse)]
    lines = b"".join(struct.pack("=HBBI", *line) for line in program)
    memory = ctypes.create_string_buffer(lines)
    header = struct.pack("@HP", len(program), ctypes.addressof(memory))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    filter_mode = 2
    kept = ctypes.create_string_buffer(header)
    _prctl(_PR_SET_SECCOMP, filter_mode, ctypes.addressof(kept))
