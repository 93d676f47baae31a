"""A company with a network of its own, which it trained without us, and people who ask to go."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from oneshui.data.splits import make_split

SIZE, PEOPLE, EACH, CLASSES = 16, 30, 4, 6
NUM_FORGET = 2
NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self, num_outputs, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(),
        )
        self.head = nn.Linear(16 * width, num_outputs)

    def forward(self, images):
        return self.head(self.body(images))


def make_net(num_outputs, width=8):
    return Net(num_outputs, width)
"""
NAMES = "abcdef"
MODEL = f"model={{factory: 'net.py:make_net', image_size: {SIZE}, options: {{width: 12}}}}"
KIT = "kit"
PREPARE = (
    "prepare",
    MODEL,
    "weights=model.safetensors",
    "data=train.csv",
    "methods=[ssd, gradient_ascent]",
    "rows={gradient_ascent: {space: {step: [0.03, 0.1]}}}",
    f"num_forget={NUM_FORGET}",
    "tuning={trials: 4, batch: 2, requests: 3, carried: 2}",
)
"""Makes the kit, but for where."""


@dataclass(frozen=True)
class Company:
    """What the company has.

    Attributes:
        folder: With ``net.py``, ``model.safetensors`` and ``all.csv``, the table of all pictures;
            in ``train.csv`` are those that the model was trained on or watched by.
        split: As a sweep draws it with seed 0: its support images are the first request's photos.
    """

    folder: Path

    @property
    def table(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "all.csv")

    @property
    def split(self) -> Any:
        table = self.table
        identity = table["identity"].to_numpy()
        order = list(dict.fromkeys(identity.tolist()))
        return make_split(identity, order, num_forget=NUM_FORGET, seed=0, walk="corrected")

    def network(self) -> nn.Module:
        """The network as the company makes it, without anything of ours."""
        spec = importlib.util.spec_from_file_location("company_net", self.folder / "net.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        made: nn.Module = module.make_net(CLASSES, width=12)
        return made

    def request(self, name: str, rows: Sequence[int]) -> Path:
        """A table of photos, rows of the table of all."""
        path = self.folder / name
        self.table.iloc[list(rows)].to_csv(path, index=False)
        return path

    def delete_data(self) -> None:
        """Delete every picture that the model was trained on or watched by, and its table."""
        for name in pd.read_csv(self.folder / "train.csv")["path"]:
            (self.folder / name).unlink()
        (self.folder / "train.csv").unlink()


def found(folder: Path) -> Company:
    """Draw pictures, and train the network until it knows its people by heart."""
    (folder / "net.py").write_text(NET, encoding="utf-8")
    (folder / "pictures").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for person in range(PEOPLE):
        face = rng.integers(0, 256, (4, 4, 3))
        for number in range(EACH):
            picture = np.kron(face, np.ones((4, 4, 1))) * 0.9 + rng.integers(0, 25, (SIZE, SIZE, 3))
            path = f"pictures/{person}-{number}.png"
            Image.fromarray(picture.astype(np.uint8)).save(folder / path)
            label = f"class {NAMES[(person * 7 + person // 6) % CLASSES]}"
            rows.append({"path": path, "identity": person, "label": label})
    pd.DataFrame(rows).to_csv(folder / "all.csv", index=False)
    company = Company(folder)
    split, table = company.split, company.table
    sets = {name: split.images(name) for name in ("train", "val")}
    for name, chosen in sets.items():
        table.loc[chosen, "set"] = name
    table.dropna(subset="set").to_csv(folder / "train.csv", index=False)
    save_file(_trained(company, sets["train"]), folder / "model.safetensors")
    return company


def _trained(company: Company, rows: Any) -> dict[str, torch.Tensor]:
    table = company.table.iloc[rows]
    pixels = np.stack([np.asarray(Image.open(company.folder / path)) for path in table["path"]])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    labels = torch.tensor([NAMES.index(label[-1]) for label in table["label"]])
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = company.network().train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.005)
        for _ in range(15):
            for batch in torch.split(torch.randperm(len(images)), 16):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(network(images[batch]), labels[batch])
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    return {name: tensor.contiguous() for name, tensor in network.eval().state_dict().items()}
