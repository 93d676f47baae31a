"""One whole cell, pretraining to membership attack: our way against the plain way.

    python benchmarks/cell.py [--methods NAME ...] [--points 2]

Plain, as the authors' code is used: a process per run, pictures decoded from JPEG whenever they
are needed, and every method's run prepares for itself and evaluates the retrained model again.
Ours: one process, pictures decoded once, every model evaluated once, a preparation shared by all
hyperparameters. Both call the same functions of oneshui for training, methods, predictions and
measures, so what oneshui computes faster inside a method counts for neither.

Tuning: the plain way runs a method again for every point, so a point costs what its run costs.
Ours unlearns and evaluates with the same preparation; ``--points`` such points per method are
measured, and the cell with 50 is the measured cell plus 50 times a point of every method
("ratio_50_points": extrapolated, on both sides). 200 JPEGs of 1024 x 1024, 40 people, a small
vision transformer at 48 px, 3 epochs, one thread a process. Our cell runs before, amid and after
the plain runs, and medians of the three count; the ratio is of wall time, "cpu_ratio" of processor
seconds. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

BAR, BAR_50 = 3.0, 8.0
TUNING_POINTS = 50
PEOPLE, PICTURES, SIDE, NUM_OUTPUTS, NUM_FORGET = 40, 5, 48, 10, 4
METHODS = ("ssd", "lfssd", "pgu", "metaunlearn", "jit", "scrub_support", "bad_teacher_support")
SETTINGS: dict[str, dict[str, Any]] = {"metaunlearn": {"epochs": 1, "hidden_size": 64}}


NETWORK = "vit_tiny_patch16_224"
OPTIONS: dict[str, Any] = {"patch_size": 8, "embed_dim": 64, "depth": 4, "num_heads": 2}
TRAINING: dict[str, Any] = {
    "epochs": 3,
    "warmup_epochs": 1,
    "batch_size": 32,
    "learning_rate": 0.05,
}
VIEWS = 4


class Cell:
    """The data, models and requests of the cell, in either way."""

    def __init__(self, folder: Path, *, cached: bool, people: int = PEOPLE) -> None:
        import numpy as np
        import torch

        from oneshui import make_split
        from oneshui.data.cache import build_cache, decode, open_cache
        from oneshui.data.images import make_images

        torch.set_num_threads(1)
        self.folder, self.device = folder, torch.device("cpu")
        count = people * PICTURES
        identity = np.repeat(np.arange(people, dtype=np.int64), PICTURES)
        label = np.random.default_rng(0).integers(0, 2, (count, NUM_OUTPUTS)).astype(np.uint8)
        paths = [folder / "pictures" / f"{number}.jpg" for number in range(count)]

        class Decoding:
            """Looks like an array of pictures, and decodes those that are asked for."""

            shape = (count, 3, SIDE, SIDE)

            def __getitem__(self, rows: Any) -> Any:
                chosen = np.arange(count)[rows]
                return np.stack([decode(paths[row].read_bytes(), SIDE) for row in chosen])

        pixels: Any = Decoding()
        if cached:
            build_cache(_table(folder, count), SIDE, folder / "cache.npy", threads=1)
            pixels = open_cache(folder / "cache.npy")
        self.split = make_split(identity, list(range(people)), num_forget=NUM_FORGET, seed=0)
        names = ("train", "forget", "retain", "support", "val", "test")
        self.sets = {
            name: make_images(pixels, label, identity, self.split.images(name)) for name in names
        }

    def model(self, weights: str = "") -> Any:
        """The network, new or with stored weights."""
        from oneshui.spec import ModelSpec
        from oneshui.training.models import load_weights, make_model

        spec = ModelSpec(name=NETWORK, image_size=SIDE, weights="random", options=OPTIONS)
        model = make_model(spec, NUM_OUTPUTS, 0)
        return load_weights(model, self.folder / f"{weights}.safetensors") if weights else model

    def train(self, name: str) -> Any:
        """Pretraining or retraining; stores the weights."""
        from oneshui.spec import TrainingSpec
        from oneshui.training.models import save_weights
        from oneshui.training.train import train

        model = self.model()
        spec = TrainingSpec(**TRAINING)
        data = self.sets["train" if name == "pretrain" else "retain"]
        train(model, data, self.sets["val"], spec, task="multilabel", seed=0, device=self.device)
        save_weights(model, self.folder / f"{name}.safetensors")
        return model

    def evaluate(self, model: Any) -> tuple[Any, Any]:
        """Predictions on every set, and losses of views for the relative attack."""
        from oneshui.attacks.views import predict_views
        from oneshui.training.predict import predict

        sets = {n: self.sets[n] for n in ("forget", "retain", "support", "val", "test")}
        views = {n: self.sets[n] for n in ("forget", "retain", "val", "test")}
        return (
            predict(model, sets, task="multilabel", device=self.device),
            predict_views(model, views, task="multilabel", views=VIEWS, seed=0, device=self.device),
        )

    def score(self, own: tuple[Any, Any], retrained: tuple[Any, Any]) -> None:
        """Every measure and the relative membership attack."""
        from oneshui.attacks.membership import membership
        from oneshui.measures import measure

        measure(own[0], retrained[0], task="multilabel")
        membership(own[1], [retrained[1]], None)

    def prepare(self, name: str, model: Any) -> Any:
        """What the method computes before deletion; nothing for most."""
        from oneshui import methods
        from oneshui.requests import PrepareRequest

        method = methods.build(name, SETTINGS.get(name, {}))
        if not isinstance(method, methods.PreparedMethod):
            return {}
        request = PrepareRequest(
            model=model,
            task="multilabel",
            seed=0,
            train=self.sets["train"],
            val=self.sets["val"],
            train_identities=self.split.train,
            num_forget=NUM_FORGET,
        )
        return method.prepare(request)

    def unlearn(self, name: str, model: Any, prepared: Any) -> Any:
        """The unlearned model."""
        from oneshui import methods
        from oneshui.requests import SupportSet, UnlearnRequest

        support = self.sets["support"]
        request = UnlearnRequest(
            model=model,
            task="multilabel",
            seed=0,
            support=SupportSet(
                images=support.raw(), labels=support.labels, identities=support.identities
            ),
            prepared=prepared,
        )
        return methods.build(name, SETTINGS.get(name, {})).unlearn(request)


def _table(folder: Path, count: int) -> Any:
    from data import FILE_BYTES, write_pictures

    if (folder / "pictures").is_dir():
        import numpy as np

        from oneshui.data.table import ImageTable

        names = tuple(f"{number}.jpg" for number in range(count))
        return ImageTable(
            dataset="benchmark",
            task="multiclass",
            class_names=("a",),
            root=folder / "pictures",
            paths=names,
            identity=np.arange(count, dtype=np.int64),
            label=np.zeros(count, dtype=np.int64),
            identity_order=tuple(range(count)),
            sizes=np.zeros(count, dtype=np.int64),
        )
    return write_pictures(folder / "pictures", 1024, 1024, count, FILE_BYTES["1024x1024"])


def plain_run(folder: Path, name: str, people: int = PEOPLE) -> None:
    """One run of the plain way; a process does this and ends."""
    cell = Cell(folder, cached=False, people=people)
    if name in ("pretrain", "retrain"):
        cell.evaluate(cell.train(name))
        return
    model = cell.model("pretrain")
    unlearned = cell.unlearn(name, model, cell.prepare(name, model))
    cell.score(cell.evaluate(unlearned), cell.evaluate(cell.model("retrain")))


def our_run(folder: Path, names: list[str], points: int) -> dict[str, float]:
    """The whole cell, then tuning points; seconds and processor seconds of both."""
    cell = Cell(folder, cached=True)
    model = cell.train("pretrain")
    cell.evaluate(model)
    retrained = cell.evaluate(cell.train("retrain"))
    prepared = {}
    for name in names:
        prepared[name] = cell.prepare(name, model)
        cell.score(cell.evaluate(cell.unlearn(name, model, prepared[name])), retrained)
    figures = {"cell_end": time.time(), "cell_cpu": _used(resource.RUSAGE_SELF)}
    start, used = time.perf_counter(), _used(resource.RUSAGE_SELF)
    for name in names:
        for _ in range(points):
            cell.score(cell.evaluate(cell.unlearn(name, model, prepared[name])), retrained)
    figures["point_seconds"] = (time.perf_counter() - start) / points
    figures["point_cpu"] = (_used(resource.RUSAGE_SELF) - used) / points
    return figures


def _used(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def _process(*arguments: str) -> tuple[float, float, str]:
    """Wall seconds, processor seconds and last line of this file run anew."""
    start, used = time.perf_counter(), _used(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    wall = time.perf_counter() - start
    return wall, _used(resource.RUSAGE_CHILDREN) - used, done.stdout.strip()


def _our_way(scratch: str, names: list[str], points: int) -> dict[str, float]:
    """Figures of the whole cell and of a point of every method."""
    (Path(scratch) / "cache.npy").unlink(missing_ok=True)
    began = time.time()
    _, _, said = _process("ours", scratch, str(points), *names)
    own: dict[str, float] = json.loads(said)
    own["cell_seconds"] = own["cell_end"] - began
    print(
        f"ours: cell {own['cell_seconds']:.1f} s, {own['cell_cpu']:.1f} s of processor; a point "
        f"of each method {own['point_seconds']:.1f} s",
        flush=True,
    )
    return own


@dataclasses.dataclass(frozen=True)
class Costs:
    """Seconds of the cell and of one tuning point of every method."""

    cell: float
    points: float

    def with_points(self, count: int) -> float:
        """The cell with so many points per method."""
        return self.cell + count * self.points


def compare(names: list[str], points: int) -> dict[str, Any]:
    """Both ways on the same files."""
    runs: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _table(folder, PEOPLE * PICTURES)
        plain_runs = ["pretrain", "retrain", *names]
        measured = []
        for number, name in enumerate(plain_runs):
            if number % -(-len(plain_runs) // 2) == 0:
                measured.append(_our_way(scratch, names, points))
            wall, used, _ = _process("plain", scratch, name)
            runs[name] = (round(wall, 2), round(used, 2))
            print(f"plain {name:22}{wall:8.1f} s{used:8.1f} s of processor", flush=True)
        measured.append(_our_way(scratch, names, points))
    middle = {key: statistics.median(own[key] for own in measured) for key in measured[0]}
    ours_wall = Costs(middle["cell_seconds"], middle["point_seconds"])
    ours_cpu = Costs(middle["cell_cpu"], middle["point_cpu"])
    whole = [sum(cost[i] for cost in runs.values()) for i in (0, 1)]
    tuned = [sum(runs[name][i] for name in names) for i in (0, 1)]
    ways: list[tuple[str, Costs, Costs]] = [
        ("", Costs(whole[0], tuned[0]), ours_wall),
        ("cpu_", Costs(whole[1], tuned[1]), ours_cpu),
    ]
    figures: dict[str, Any] = {"plain_runs": runs}
    for prefix, plain, ours in ways:
        figures[f"{prefix}ratio"] = round(plain.cell / ours.cell, 2)
        figures[f"{prefix}ratio_per_point"] = round(plain.points / ours.points, 2)
        figures[f"{prefix}ratio_50_points"] = round(
            plain.with_points(TUNING_POINTS) / ours.with_points(TUNING_POINTS), 2
        )
        figures[f"{prefix}plain_seconds"] = round(plain.cell, 1)
        figures[f"{prefix}ours_seconds"] = round(ours.cell, 1)
        figures[f"{prefix}ours_point_seconds"] = round(ours.points, 2)
    return figures


def main(arguments: list[str]) -> int:
    """Run; the exit status is 0 if both bars are met."""
    inner: dict[str, Callable[[], None]] = {
        "plain": lambda: plain_run(Path(arguments[1]), arguments[2]),
        "ours": lambda: print(
            json.dumps(our_run(Path(arguments[1]), arguments[3:], int(arguments[2])))
        ),
    }
    if arguments and arguments[0] in inner:
        inner[arguments[0]]()
        return 0
    parser = argparse.ArgumentParser(description="one whole cell, our way and the plain way")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--points", type=int, default=2)
    options = parser.parse_args(arguments)
    figures = compare(options.methods, options.points)
    ok = figures["ratio"] >= BAR and figures["ratio_50_points"] >= BAR_50
    result = {
        "benchmark": "cell",
        "ratio": figures["ratio"],
        "bar": BAR,
        "ok": ok,
        "bar_50_points": BAR_50,
        **figures,
        "methods": options.methods,
        "measured_points": options.points,
        "processors": os.cpu_count(),
    }
    print(json.dumps(result))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
