"""A seeded adversary against a sweep: whatever it kills, the results are the undisturbed run's."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.adversary import Adversary, as_bytes, workers_of
from support.commands import (
    ONE,
    contents,
    finished,
    half,
    launch,
    manifests,
    results,
    start,
)
from support.processes import wait_for

pytestmark = [pytest.mark.long, pytest.mark.ray]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kills", [8, 20])
def test_kills_of_workers_and_drivers_change_nothing(
    kills: int, undisturbed: Path, tmp_path: Path
) -> None:
    command = ("sweep=smoke", ONE, f"output_dir={tmp_path}", "cluster.checkpoint_seconds=0")
    adversary = Adversary(seed=6)
    committed = adversary.disturb(
        command,
        kills,
        lambda: manifests(tmp_path),
        lambda key: (tmp_path / "store" / key / "result.json").unlink(),
    )
    assert adversary.driver_kills >= 1 + kills // 8
    done = launch(*command)
    assert done.status == 0, done.out + done.err
    final = manifests(tmp_path)
    assert committed.items() <= final.items(), "a committed job was computed again"
    assert len(final) >= 60
    assert as_bytes(results(tmp_path)) == as_bytes(half(undisturbed))
    assert contents(tmp_path).items() <= contents(undisturbed).items()


def test_a_worker_that_hangs_is_replaced(undisturbed: Path, tmp_path: Path) -> None:
    with start(
        "sweep=smoke",
        ONE,
        f"output_dir={tmp_path}",
        "sweep.methods=[pretrain,retrain]",
        "cluster.heartbeat_seconds=4",
        "cluster.start_seconds=45",
    ) as driver:
        wait_for(lambda: finished(tmp_path, "split") >= 1)
        leases = tmp_path / "store" / ".leases"
        wait_for(lambda: any(path.name.startswith(("pre", "re")) for path in leases.iterdir()))
        for victim in workers_of(driver.pid):
            os.kill(victim, signal.SIGSTOP)
        out, err = driver.communicate(timeout=600)
    assert driver.returncode == 0, out + err
    assert "gave no sign of life for 4 s" in err
    known = half(undisturbed)
    known = known[known["method"].isin(["pretrain", "retrain"])].reset_index(drop=True)
    columns = ["seed", "method", "tow", "forget_score", "mia_auc"]
    assert results(tmp_path)[columns].equals(known[columns])


def test_two_drivers_on_one_store_share_the_work(undisturbed: Path, tmp_path: Path) -> None:
    command = ("sweep=smoke", ONE, "sweep.seeds=[0]", f"output_dir={tmp_path}", "cluster.workers=1")
    with start(*command) as first, start(*command) as second:
        answers = [driver.communicate(timeout=600) for driver in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], answers
    known = half(undisturbed)
    columns = ["method", "tow", "forget_score", "mia_auc"]
    assert results(tmp_path)[columns].equals(known[known["seed"] == 0][columns])
    computed = [path.read_text().count("is computed") for path in (tmp_path / "logs").glob("*.log")]
    assert set(computed) == {1}
    assert len(computed) == len(manifests(tmp_path)) - 1, "the index is read by the driver"
    assert not list((tmp_path / "store" / ".discarded").iterdir())


def test_four_starters_on_a_fresh_folder_all_succeed(tmp_path: Path) -> None:
    command = (
        "sweep=smoke",
        ONE,
        "sweep.seeds=[0]",
        "sweep.methods=[pretrain,retrain]",
        "cluster.workers=1",
        f"output_dir={tmp_path}",
    )
    drivers = [start(*command) for _ in range(4)]
    answers = [driver.communicate(timeout=900) for driver in drivers]
    for driver, (out, err) in zip(drivers, answers, strict=True):
        assert driver.returncode == 0, out + err
        assert "Traceback" not in err, err
    assert len(results(tmp_path)) == 2
