"""Images per second into the training step: from the decoded cache against decoding JPEGs.

    python benchmarks/data.py [--images 96]

The plain way is a torchvision pipeline on PIL pictures (RandomResizedCrop 224, flip, ToTensor,
Normalize) in a DataLoader. Both ways have one thread, so the ratio is that of a processor's work;
what two workers add to the plain way is given beside it. Ours is an epoch of
``augmented_batches`` from a cache at 224 px, as training on a processor does it; "detail" cuts
the random crops from a second cache at 448 px (``datasets.<name>.crop_size``). Epochs alternate,
medians count; machines are shared, so processor seconds are compared too ("cpu_ratio"). "Test"
is the pipeline without augmentation. "Cold" is the first epoch including the building of the
cache, and what that makes of 30 epochs.

Pictures have a photograph's spectrum and the authors' file sizes: about 98 KB at 1024 x 1024,
8 KB at 178 x 218. The last line is one JSON object.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from oneshui.accelerator import EXACT
from oneshui.data.cache import build_cache, open_cache
from oneshui.data.images import LabelledImages, make_images
from oneshui.data.table import ImageTable

BARS = {"1024x1024": 10.0, "178x218": 3.0}
FILE_BYTES = {"1024x1024": 98_000, "178x218": 7_900}
SIZE = 224
CROP_SIZE = 448
BATCH_SIZE = 32
ROUNDS = 4
EPOCHS = 30
CPU = torch.device("cpu")


def photograph(width: int, height: int, seed: int) -> Image.Image:
    """A picture whose amplitudes fall off as one over the spatial frequency."""
    generator = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(width), np.fft.fftfreq(height)))
    frequency[0, 0] = 1
    planes = []
    for _ in range(3):
        phases = np.exp(2j * np.pi * generator.random((height, width)))
        plane = np.fft.ifft2(phases / frequency**1.5).real
        planes.append(128 + 45 * (plane - plane.mean()) / plane.std())
    return Image.fromarray(np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8))


def write_pictures(folder: Path, width: int, height: int, count: int, wanted: int) -> ImageTable:
    """A folder of JPEGs of about the wanted size in bytes, eight different ones in turn."""
    folder.mkdir()
    contents = []
    for seed in range(8):
        image, path = photograph(width, height, seed), folder / "trial.jpg"
        for quality in range(95, 10, -3):
            image.save(path, quality=quality)
            if path.stat().st_size <= wanted:
                break
        contents.append(path.read_bytes())
        path.unlink()
    names = tuple(f"{number}.jpg" for number in range(count))
    for number, name in enumerate(names):
        (folder / name).write_bytes(contents[number % 8])
    return ImageTable(
        dataset="benchmark",
        task="multiclass",
        class_names=("a",),
        root=folder,
        paths=names,
        identity=np.arange(count, dtype=np.int64),
        label=np.zeros(count, dtype=np.int64),
        identity_order=tuple(range(count)),
        sizes=np.array([len(contents[n % 8]) for n in range(count)], dtype=np.int64),
    )


class Files(Dataset[tuple[torch.Tensor, int]]):
    """The plain way: open, decode and transform a picture whenever it is asked for."""

    def __init__(self, table: ImageTable, *, train: bool, size: int = SIZE) -> None:
        self._paths = [table.root / path for path in table.paths]
        geometry = (
            [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
            if train
            else [transforms.Resize((size, size))]
        )
        self._transform = transforms.Compose(
            [*geometry, transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
        )

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with Image.open(self._paths[index]) as image:
            return self._transform(image.convert("RGB")), 0


def loader(table: ImageTable, *, train: bool, workers: int) -> Callable[[], Iterable[Any]]:
    """Epochs of a DataLoader whose workers stay."""
    made = DataLoader(
        Files(table, train=train),
        batch_size=BATCH_SIZE,
        shuffle=train,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return lambda: made


def from_cache(data: LabelledImages, *, train: bool) -> Callable[[], Iterable[Any]]:
    """Epochs from the cache."""
    generator = torch.Generator().manual_seed(0)
    return lambda: data.augmented_batches(
        torch.randperm(len(data), generator=generator) if train else torch.arange(len(data)),
        BATCH_SIZE,
        "crop" if train else "none",
        device=CPU,
        policy=EXACT,
        seed=0,
    )


def seconds_of(epoch: Callable[[], Iterable[Any]]) -> tuple[float, float]:
    """Time until the last batch of an epoch is there, and seconds of this process's processors."""
    start, used = time.perf_counter(), time.process_time()
    for inputs, _ in epoch():
        assert inputs.shape[1:] == (3, SIZE, SIZE)
    return time.perf_counter() - start, time.process_time() - used


@dataclass(frozen=True)
class Rates:
    """Images per second and processor seconds per image, of one way; medians over rounds."""

    wall: float
    processor_seconds: float


def alternate(ways: dict[str, Callable[[], Iterable[Any]]], images: int) -> dict[str, Rates]:
    """Rates of each way, all of which have their turn in every round."""
    for way in ways.values():
        seconds_of(way)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            taken[name].append(seconds_of(way))
    return {
        name: Rates(
            images / statistics.median(wall for wall, _ in values),
            statistics.median(used for _, used in values) / images,
        )
        for name, values in taken.items()
    }


def measure(name: str, count: int, scratch: Path) -> dict[str, float]:
    """Figures of one size of picture."""
    width, height = (int(side) for side in name.split("x"))
    table = write_pictures(scratch / name, width, height, count, FILE_BYTES[name])
    path = scratch / f"{name}.npy"
    start = time.perf_counter()
    build_cache(table, SIZE, path)
    building = time.perf_counter() - start
    rows: npt.NDArray[np.int64] = np.arange(count, dtype=np.int64)
    build_cache(table, CROP_SIZE, scratch / f"{name}.detail.npy")
    selected = (open_cache(path), table.label, table.identity, rows)
    data = make_images(*selected)
    detailed = make_images(*selected, detail=open_cache(scratch / f"{name}.detail.npy"))
    figures: dict[str, float] = {"kilobytes": float(table.sizes.mean()) / 1000}
    for kind in ("train", "test"):
        train = kind == "train"
        rates = alternate(
            {
                "plain": loader(table, train=train, workers=0),
                "two_workers": loader(table, train=train, workers=2),
                "ours": from_cache(data, train=train),
                **({"detail": from_cache(detailed, train=True)} if train else {}),
            },
            count,
        )
        plain = rates["plain"].wall
        for way, rate in rates.items():
            figures[f"{kind}_{way}_per_second"] = rate.wall
        for way in ("ours", "detail") if train else ("ours",):
            own = rates[way]
            figures[f"{kind}_{way}_ratio"] = own.wall / plain
            figures[f"{kind}_{way}_cpu_ratio"] = (
                rates["plain"].processor_seconds / own.processor_seconds
            )
        if train:
            one, epoch = count / plain, count / rates["ours"].wall
            figures["cold_per_second"] = count / (building + epoch)
            figures["cold_ratio"] = one / (building + epoch)
            figures["cold_ratio_30_epochs"] = EPOCHS * one / (building + EPOCHS * epoch)
    return {key: round(value, 2) for key, value in figures.items()}


def main(arguments: list[str]) -> int:
    """Run; the exit status is 0 if the bars are met."""
    count = 96
    torch.set_num_threads(1)
    if arguments:
        if len(arguments) != 2 or arguments[0] != "--images" or not arguments[1].isdigit():
            print(f"usage: {sys.argv[0]} [--images NUMBER]", file=sys.stderr)
            return 2
        count = int(arguments[1])
    sizes = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in BARS:
            sizes[name] = measure(name, count, Path(scratch))
            print(f"\n{name}")
            for key, value in sizes[name].items():
                print(f"{key:32}{value:10.1f}")
    ok = all(sizes[name]["train_ours_ratio"] >= bar for name, bar in BARS.items())
    result = {
        "benchmark": "data",
        "ratio": sizes["1024x1024"]["train_ours_ratio"],
        "bar": BARS["1024x1024"],
        "ok": ok,
        "ratio_178x218": sizes["178x218"]["train_ours_ratio"],
        "bar_178x218": BARS["178x218"],
        "ratio_detail": sizes["1024x1024"]["train_detail_ratio"],
        "images": count,
        "sizes": sizes,
        "processors": os.cpu_count(),
    }
    print(json.dumps(result))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
