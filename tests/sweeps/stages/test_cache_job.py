from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.inline_sweep import inline_sweep

from oneshui.data import cache


class SimulatedCrashError(Exception):
    pass


def test_a_cache_that_was_interrupted_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = inline_sweep(tmp_path, "sweep=smoke", "sweep.seeds=[0]", "sweep.methods=[pretrain]")
    (job, *_) = [job for job in known.plan.jobs.values() if job.stage == "cache"]
    before = known.store.find("cache", job.key)
    assert before is not None
    known.store.discard("cache", job.key)
    decoded: list[Path] = []
    most = [cache.BLOCK + 5]
    real: Callable[..., Any] = cache.decode

    def decode(file: Path, *how: Any) -> Any:
        if len(decoded) == most[0]:
            raise SimulatedCrashError
        decoded.append(file)
        return real(file, *how)

    monkeypatch.setattr(cache, "decode", decode)
    assert known.execute(job) is not None
    most[0] = before.value["num_images"]
    monkeypatch.setattr(cache, "LOG_SECONDS", 0.0)
    decoded.clear()
    assert known.execute(job) is None
    after = known.store.find("cache", job.key)
    assert after is not None
    assert after.content == before.content
    assert len(decoded) == after.value["num_images"] - cache.BLOCK
    assert not known.store.unfinished(job).exists()
    log = (tmp_path / "logs" / f"{job.key}.log").read_text()
    assert "pictures decoded" in log
