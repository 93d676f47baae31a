"""A store in a bucket, and drivers and workers that are killed: the results are the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.adversary import Adversary, as_bytes
from support.commands import ONE, contents, half, launch, results, start
from support.object_server import SECRETS, ObjectServer, object_server

from sweeps.graph.job import STAGES
from sweeps.store.objects import Bucket, in_parallel

pytestmark = [pytest.mark.long, pytest.mark.ray]

KILLS = 10


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    with object_server() as running:
        yield running


@pytest.fixture
def bucket(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return Bucket(f"s3://{server.new_bucket()}/store")


def manifests(bucket: Bucket) -> dict[str, str]:
    names = [
        one.name
        for one in bucket.list("")
        if one.name.split("/")[0] in STAGES and one.name.endswith("/result.json")
    ]
    read = in_parallel(bucket.get, names, 8)
    return {
        name.removesuffix("/result.json"): it[0].decode()
        for name, it in zip(names, read, strict=True)
        if it is not None
    }


def said(folder: Path) -> str:
    """Everything that a run wrote for people, and its databases."""
    kinds = ("*.log", "*.md", "*.html", "*.json", "*.db", "*.yaml", "*.txt")
    return "".join(
        path.read_text(encoding="utf-8", errors="replace")
        for kind in kinds
        for path in folder.rglob(kind)
    )


@pytest.mark.timeout(1800)
def test_ten_kills_change_nothing_in_a_bucket(
    bucket: Bucket, undisturbed: Path, tmp_path: Path
) -> None:
    output, cache = tmp_path / "output", tmp_path / "cache"
    command = (
        "sweep=smoke",
        ONE,
        f"output_dir={output}",
        f"store.uri={bucket.uri}",
        "cluster.checkpoint_seconds=0",
    )
    env = {"ONESHUI_CACHE": str(cache)}
    adversary = Adversary(seed=6)
    committed = adversary.disturb(
        command,
        KILLS,
        lambda: manifests(bucket),
        lambda key: bucket.remove([f"{key}/result.json"]),
        env=env,
        # The next driver runs on another machine, so to speak.
        on_death=lambda: shutil.rmtree(cache, ignore_errors=True),
    )
    assert adversary.driver_kills >= 2
    done = launch(*command, env=env)
    assert done.status == 0, done.out + done.err
    final = manifests(bucket)
    assert committed.items() <= final.items(), "a committed job was computed again"
    assert len(final) >= 60
    assert as_bytes(results(output)) == as_bytes(half(undisturbed))
    made = {key: json.loads(text)["content"] for key, text in final.items()}
    assert made.items() <= contents(undisturbed).items()
    assert not [one.name for one in bucket.list(".leases")]
    assert not (output / "store").exists()
    everything = said(output) + done.out + done.err
    assert not any(secret in everything for secret in SECRETS)


def test_two_drivers_of_two_machines_share_the_work(
    bucket: Bucket, undisturbed: Path, tmp_path: Path
) -> None:
    drivers = [
        start(
            "sweep=smoke",
            ONE,
            "sweep.seeds=[0]",
            "sweep.methods=[pretrain,retrain,ssd,jit]",
            "cluster.workers=1",
            f"store.uri={bucket.uri}",
            f"output_dir={tmp_path / name}",
            env={"ONESHUI_CACHE": str(tmp_path / f"cache of {name}")},
        )
        for name in ("one", "two")
    ]
    answers = [driver.communicate(timeout=600) for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], answers
    known = half(undisturbed)
    columns = ["method", "tow", "forget_score", "mia_auc"]
    known = known[
        (known["seed"] == 0) & known["method"].isin(["pretrain", "retrain", "ssd", "jit"])
    ]
    for name in ("one", "two"):
        assert results(tmp_path / name)[columns].equals(known[columns].reset_index(drop=True))
    logs = [path for name in ("one", "two") for path in (tmp_path / name / "logs").glob("*.log")]
    computed = [path.stem for path in logs if "is computed" in path.read_text()]
    assert len(computed) == len(set(computed)), "a job was computed twice"
    assert not list(bucket.list(".discarded"))
