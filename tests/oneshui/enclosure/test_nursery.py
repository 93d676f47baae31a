"""What comes back from a method's process, however it ends, and what is left of it."""

from __future__ import annotations

import ctypes
import io
import logging
import os
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support.processes import children, python, wait_for

from oneshui import blas
from oneshui.enclosure import Walls, enclosed, keep_nursery, kernel, nursery, protection
from oneshui.enclosure.report import read_result
from oneshui.errors import (
    DataAccessError,
    InputError,
    MethodError,
    NumericalError,
    NurseryLostError,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are enclosed on Linux")
Result = tuple[dict[str, torch.Tensor], Any]


@pytest.fixture
def walls(tmp_path: Path) -> Walls:
    (tmp_path / "data").mkdir()
    return Walls(protected=(tmp_path / "data",), method="odd")


def add(amount: float, private: Path) -> Result:
    (private / "own").write_text("x")
    assert Path(tempfile.mkdtemp()).parent == private == Path.cwd()
    return {"sum": torch.tensor([1.0, 2.0]) + amount}, {"private": str(private), "pid": os.getpid()}


def test_tensors_and_a_value_come_back_and_the_private_folder_goes(walls: Walls) -> None:
    found = enclosed(partial(add, 0.5), walls)
    assert found.tensors["sum"].tolist() == [1.5, 2.5]
    assert found.value["pid"] != os.getpid()
    assert not Path(found.value["private"]).exists()
    abi = kernel.landlock_abi()
    assert found.protection == (f"landlock {abi}" if abi else "audit, own process") == protection()


class OddError(Exception):
    pass


def fail(error: BaseException, _: Path) -> Result:
    raise error


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (InputError("say so"), InputError),
        (NumericalError("not finite"), NumericalError),
        (MemoryError("no room"), MemoryError),
        (ValueError("boom"), MethodError),
        (OddError("by itself"), MethodError),
    ],
)
def test_an_error_keeps_its_name_its_message_and_its_traceback(
    walls: Walls, raised: Exception, expected: type[Exception]
) -> None:
    with pytest.raises(expected) as caught:
        enclosed(partial(fail, raised), walls)
    assert type(caught.value).__name__ == type(raised).__name__
    assert str(caught.value) == str(raised)
    (note,) = caught.value.__notes__
    assert note.startswith("in the process of method odd:\nTraceback")
    assert "in fail" in note


def exit_hard(status: int, _: Path) -> Result:
    os._exit(status)


def crash(_: Path) -> Result:
    ctypes.string_at(0)
    raise AssertionError


def end(number: int, _: Path) -> Result:
    os.kill(os.getpid(), number)
    raise AssertionError


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (partial(fail, SystemExit(3)), r"method odd raised SystemExit\(3\) instead of returning"),
        (partial(fail, KeyboardInterrupt()), "method odd raised KeyboardInterrupt"),
        (partial(exit_hard, 0), "method odd ended its process with status 0 instead of returning"),
        (partial(exit_hard, 7), "method odd ended its process with status 7 instead of returning"),
        (crash, "method odd ended its process by SIGSEGV instead of returning"),
        (partial(end, signal.SIGTERM), "method odd ended its process by SIGTERM"),
    ],
)
def test_a_method_that_ends_its_process_is_said_to_have_done_so(
    walls: Walls, action: Any, message: str
) -> None:
    with pytest.raises(MethodError, match=message):
        enclosed(action, walls)


def test_a_process_that_the_system_killed_counts_as_one_without_memory(walls: Walls) -> None:
    with pytest.raises(MemoryError, match="process of method odd was killed"):
        enclosed(partial(end, signal.SIGKILL), walls)


def read(path: Path, _: Path) -> Result:
    descriptor = ctypes.CDLL(None).open(os.fsencode(path), 0)
    if descriptor < 0:
        raise PermissionError(13, "Permission denied", str(path))
    return {}, os.read(descriptor, 10).decode()


@pytest.mark.skipif(not kernel.landlock_abi(), reason="this kernel has no Landlock")
def test_what_the_kernel_refuses_is_an_access_that_the_method_must_not_have(
    walls: Walls, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").write_text("x")
    with pytest.raises(DataAccessError, match=r"method odd was refused .*elsewhere.*Access\.FULL"):
        enclosed(partial(read, tmp_path / "elsewhere"), walls)


def speak(_: Path) -> Result:
    print("printed")  # noqa: T201
    logging.getLogger("somebody").warning("logged")
    os.write(2, b"written\n")
    return {}, None


def test_what_a_method_says_is_in_the_job_s_log(
    walls: Walls, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "oneshui.worker"):
        enclosed(speak, walls)
    assert {"printed", "logged", "written"} <= set(caplog.text.split())


def overwrite(private: Path) -> Result:
    for number in range(3, 200):
        try:
            os.pwrite(number, b"\xff\xfe nonsense", 0)
        except OSError:
            continue
    return {"x": torch.ones(1)}, str(private)


def test_what_a_method_writes_by_chance_into_its_result_is_written_over(walls: Walls) -> None:
    assert enclosed(overwrite, walls).tensors["x"].tolist() == [1]


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (b'{"value": 1}', "method odd damaged its result"),
        (b"", "with status 0 instead of returning"),
        (b"[1]", "with status 0 instead of returning"),
        (b'{"error": 1}', "with status 0 instead of returning"),
        (b'{"error": {"type": 1}}', "with status 0 instead of returning"),
        (b"\xff", "with status 0 instead of returning"),
    ],
)
def test_a_forged_report_is_refused(report: bytes, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        read_result("odd", 0, io.BytesIO(b"no tensors"), io.BytesIO(report))


def read_number(number: int, _: Path) -> Result:
    return {}, os.pread(number, 10, 0).decode()


def test_what_the_asking_process_has_open_is_closed(walls: Walls, tmp_path: Path) -> None:
    (tmp_path / "data" / "1").write_text("secret")
    with (tmp_path / "data" / "1").open() as stream:
        assert enclosed(partial(read_number, stream.fileno()), walls).value == ""


def leave_process(_: Path) -> Result:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        time.sleep(60)
    return {}, pid


def test_no_process_outlives_the_method_s(walls: Walls) -> None:
    pid = enclosed(leave_process, walls).value
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_kept_nursery_that_was_ended_is_said_to_be_lost(
    walls: Walls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nursery, "_kept", None)
    keep_nursery()
    kept = nursery._kept
    keep_nursery()
    assert kept is not None
    assert nursery._kept is kept
    assert enclosed(partial(add, 1.0), walls).tensors["sum"].tolist() == [2, 3]
    os.kill(kept._pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(NurseryLostError, match="is gone"):
            enclosed(partial(add, 1.0), walls)
    kept.close()


def test_a_process_of_several_threads_does_not_fork_what_could_hang(
    walls: Walls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    found = enclosed(lambda private: ({}, str(private)), walls)
    assert found.protection == protection() == "audit"
    assert not Path(found.value).exists()


def threads_of_scipy(_: Path) -> Result:
    with blas.as_many_threads_as_torch():
        return {}, [one["num_threads"] for one in blas.found().info() if one["user_api"] == "blas"]


@pytest.mark.parametrize("how", ["landlock", "audit, own process", "audit"])
def test_a_method_may_hold_scipy_to_torch_s_threads(
    walls: Walls, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how != "landlock":
        monkeypatch.setattr(kernel, "landlock_abi", lambda: 0)
    if how == "audit":
        monkeypatch.setattr(nursery, "_can_fork", lambda: False)
    found = enclosed(threads_of_scipy, walls)
    assert found.protection == protection()
    assert found.value
    assert set(found.value) == {torch.get_num_threads()}


def sleep(_: Path) -> Result:
    time.sleep(60)
    return {}, None


_WORKER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("sleeping", sys.argv[1])
sleeping = sys.modules["sleeping"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sleeping)
sleeping.torch.set_num_threads(1)
if sys.argv[2] == "kept":
    sleeping.keep_nursery()
sleeping.enclosed(sleeping.sleep, sleeping.Walls(protected=(), method="slow"))
"""


@pytest.mark.parametrize("kind", ["kept", "for one call"])
def test_all_of_it_ends_with_a_worker_that_is_killed(kind: str) -> None:
    with python(_WORKER, __file__, kind) as worker:
        wait_for(lambda: len(children(worker.pid)) == 2, "the nursery and its child", 30)
        pids = [pid for pid, _ in children(worker.pid)]
        worker.kill()
        worker.wait()

        def gone(pid: int) -> bool:
            try:
                return "Z" in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3]
            except FileNotFoundError:
                return True

        wait_for(lambda: all(map(gone, pids)), "their end", seconds=20)
