"""A user's own code, as files: what tests of plugins write into a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oneshui import plugins

NET = '''
"""A small network of somebody's own: convolutions, then one linear layer."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_outputs, width=8):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(4),
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
        )
        self.head = nn.Linear(width, num_outputs)

    def forward(self, images):
        return self.head(self.body(images).mean(dim=(2, 3)))


def make_net(num_outputs, width=8):
    return Net(num_outputs, width)
'''


@contextmanager
def written(folder: Path, files: dict[str, str]) -> Iterator[Path]:
    """The folder with the files; whatever of it was loaded is forgotten afterwards."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    try:
        yield folder
    finally:
        plugins.load([])
