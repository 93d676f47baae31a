"""The examples of docs/plugins.md, run as they stand there: one sweep with all of them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from support.inline_sweep import inline_sweep
from support.own_code import written

from oneshui import plugins
from sweeps.report.results import results_frame
from sweeps.store.status import scan

PAGE = Path(__file__).parents[1] / "docs" / "plugins.md"
FILES = dict(
    re.findall(r"^In `([\w.]+)`:\n\n```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.M)
)
(LOADING,) = re.findall(r"^```python\n(from own_net.*?)^```$", PAGE.read_text(), re.DOTALL | re.M)


def draw_pets(folder: Path) -> None:
    """Seven pictures of noise of each of forty animals, cats darker than dogs."""
    generator = np.random.default_rng(0)
    for number in range(40):
        kind = ("cat", "dog")[number % 2]
        animal = folder / "pets" / f"{kind}_{number:03}"
        animal.mkdir(parents=True)
        for picture in range(7):
            pixels = generator.integers(0, 160, (32, 32, 3)) + 90 * (number % 2)
            Image.fromarray(pixels.astype(np.uint8)).save(animal / f"{picture}.png")


def test_the_examples_run_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(FILES) == {"shrink.py", "agreement.py", "pets.py", "own_net.py"}
    monkeypatch.chdir(tmp_path)
    draw_pets(tmp_path)
    command = [
        "sweep=smoke",
        "plugins=[shrink.py,agreement.py,pets.py]",
        "datasets.pets={layout: pets, forget_sizes: [3]}",
        "sweep.datasets=[pets]",
        "sweep.methods=[pretrain,retrain,shrink]",
        "sweep.seeds=[0]",
        "sweep.training.epochs=1",
        "sweep.model.factory=own_net.py:make_net",
        "sweep.model.options={width: 32}",
        "sweep.model.mean=[0.485,0.456,0.406]",
        "sweep.model.std=[0.229,0.224,0.225]",
        "data_dir=.",
    ]
    with written(tmp_path, FILES):
        first = inline_sweep(tmp_path / "out", *command)
        assert not first.scheduler.failures()
        (pretrain,) = [job for job in first.plan.jobs.values() if job.stage == "pretrain"]
        entry = first.store.find("pretrain", pretrain.key)
        assert entry is not None
        # As the page loads them in plain PyTorch.
        save_file(load_file(entry.file("weights.safetensors")), tmp_path / "weights.safetensors")
        exec(LOADING, {})
        brought = inline_sweep(
            tmp_path / "out",
            *command,
            "sweep.pretrained=weights.safetensors",
            "sweep.pretrained_saw=split",
        )
        assert not brought.scheduler.failures()
    frames = [
        results_frame(it.plan, scan(it.plan, it.store, discard=False).entries)
        for it in (first, brought)
    ]
    for frame in frames:
        assert frame["agreement"].notna().all()
        assert set(frame["method"]) == {"pretrain", "retrain", "shrink"}
    assert frames[0]["tow"].equals(frames[1]["tow"])
    assert plugins.load([]) == ()
