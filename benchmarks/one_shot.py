"""What a step of every one-shot method costs beside one of gradient ascent, and its peak memory.

    python benchmarks/one_shot.py [METHOD ...]

Every method unlearns 20 people by their support pictures with as many steps as gradient ascent
takes (STEPS; passes over S count as the batches that they are cut into); what has no steps does
all that it does. Each runs in a process of its own and in turn with gradient ascent: ratios are of
processor seconds on one thread, medians of ROUNDS. The memory is how far the process grew while
the method unlearned, and while it prepared on 400 pictures, over what it held before. One line a
method, the last line is one JSON object. How the numbers of adversarial images were chosen stands
in ``sweeps/conf/sweep/field.yaml``.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

STEPS, ROUNDS, SUPPORT, TRAIN = 10, 3, 20, 400
FIELD = {"num_adversarial": 4, "attack_steps": 10, "epsilon": 2.0}
BASE = "gradient_ascent"


def _values(name: str) -> dict[str, Any]:
    """Hyperparameters that make a method take the steps, as far as it takes any."""
    from oneshui import methods

    known = methods.hyperparameters(methods.build(name, {}))
    found: dict[str, Any] = {key: STEPS for key in ("steps", "epochs") if key in known}
    if name == "metaunlearn":
        found = {"num_requests": 50, "epochs": 1}
    if name == "l2ul":
        found |= FIELD
    return found


def _measure(name: str) -> dict[str, float]:
    import numpy as np
    import torch
    from plain_methods import NUM_OUTPUTS, SIDES, network

    from oneshui import methods
    from oneshui.data.images import LabelledImages
    from oneshui.requests import PrepareRequest, SupportSet, UnlearnRequest
    from sweeps.stages.memory import measured

    torch.set_num_threads(1)
    side, draws = SIDES["medium"], torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (TRAIN + SUPPORT, 3, side, side), generator=draws)
    labels = torch.randint(0, 2, (TRAIN + SUPPORT, NUM_OUTPUTS), generator=draws).float()
    who = torch.arange(TRAIN + SUPPORT) // 10
    model, images = network("medium"), pixels.to(torch.uint8)

    def some(rows: slice) -> LabelledImages:
        chosen = np.arange(TRAIN + SUPPORT)[rows]
        return LabelledImages(
            pixels=images.numpy(), rows=chosen, labels=labels[rows], identities=who[rows]
        )

    method: Any = methods.build(name, _values(name))
    prepared, cost = {}, {"seconds": 0.0, "peak_bytes": 0.0}
    begin = _resident()
    if hasattr(method, "prepare"):
        request = PrepareRequest(
            model=model,
            task="multilabel",
            seed=0,
            train=some(slice(0, TRAIN - 80)),
            val=some(slice(TRAIN - 80, TRAIN)),
            train_identities=tuple(range((TRAIN - 80) // 10)),
            num_forget=4,
        )
        prepared, cost = measured("cpu", "seconds", lambda: method.prepare(request))
    support = SupportSet(
        images=images[-SUPPORT:], labels=labels[-SUPPORT:], identities=torch.arange(SUPPORT)
    )
    asked = UnlearnRequest(
        model=model, task="multilabel", seed=0, support=support, prepared=prepared
    )
    before, start = _resident(), time.process_time()
    _, unlearning = measured("cpu", "seconds", lambda: method.unlearn(asked))
    return {
        "seconds": time.process_time() - start,
        "grown": unlearning["peak_bytes"] - before,
        "prepare_seconds": cost["seconds"],
        "prepare_grown": max(0.0, cost["peak_bytes"] - begin),
    }


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _in_process(name: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--one", name],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main(names: list[str]) -> None:
    """Measure these methods, or all that are one-shot, and print a line for each."""
    from oneshui import methods
    from oneshui.spec import Access

    shipped = [name for name in methods.names() if methods.get(name).access is not Access.FULL]
    found = {}
    print(f"{'method':22s} {'x ascent':>8s} {'MB':>6s}   {'prepare s':>9s} {'MB':>6s}")
    for name in names or [name for name in shipped if name != "pretrain"]:
        ratios, runs = [], []
        for _ in range(ROUNDS):
            base = _in_process(BASE)["seconds"]
            runs.append(_in_process(name))
            ratios.append(runs[-1]["seconds"] / base)
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        found[name] = {"ratio": statistics.median(ratios), **middle}
        print(
            f"{name:22s} {found[name]['ratio']:8.2f} {middle['grown'] / 1e6:6.0f}   "
            f"{middle['prepare_seconds']:9.1f} {middle['prepare_grown'] / 1e6:6.0f}",
            flush=True,
        )
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(_measure(sys.argv[2])))
    else:
        main(sys.argv[1:])
