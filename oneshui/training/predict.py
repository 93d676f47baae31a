"""Predictions of a model on every set, computed once; all measures are functions of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from oneshui.accelerator import Policy, place, policy_for, precision
from oneshui.data.images import LabelledImages, make_images
from oneshui.data.splits import SET_NAMES, Split
from oneshui.data.table import ImageTable
from oneshui.errors import NumericalError
from oneshui.spec import Task
from oneshui.training.losses import sample_losses


@torch.no_grad()
def predict_logits(
    model: nn.Module,
    data: LabelledImages,
    *,
    device: torch.device,
    batch_size: int | None = None,
    policy: Policy | None = None,
) -> torch.Tensor:
    """Logits in float32 on the CPU, [n, C], in the order of the images; the model stays in eval.

    Args:
        model: The model.
        data: The images.
        device: Where to compute.
        batch_size: Images per pass; None for as many as suit the device.
        policy: How to compute; None for ``oneshui.accelerator.policy_for``.
    """
    policy = policy or policy_for(model, device)
    place(model.eval(), device, policy)
    with precision(model, device, policy):
        batches = data.batches(batch_size or policy.pass_size, device)
        parts = [model(images).float() for images, _ in batches]
    # Once for all: a copy to the processor waits for the device.
    return torch.cat(parts).cpu()


def predict(
    model: nn.Module,
    sets: dict[str, LabelledImages],
    *,
    task: Task,
    device: torch.device,
) -> pd.DataFrame:
    """Predictions of every image of the named sets.

    Returns:
        One row per image: ``set`` (name), ``image`` (row of the dataset), ``identity``, ``loss``
        (float32, of the sample), ``label`` and ``logits`` (float32 lists of length C; ``label``
        is a list of 0/1, or of length 1 with the class index).

    Raises:
        NumericalError: A logit is not finite.
    """
    frames = []
    for name, data in sets.items():
        logits = predict_logits(model, data, device=device)
        if not torch.isfinite(logits).all():
            raise NumericalError(
                f"{int((~torch.isfinite(logits)).any(dim=1).sum())} of {len(data)} images of the "
                f"{name} set have logits that are not finite: the unlearning step was too large"
            )
        labels = data.labels if data.labels.ndim == 2 else data.labels[:, None]
        frames.append(
            pd.DataFrame(
                {
                    "set": name,
                    "image": data.rows.astype(np.int64),
                    "identity": data.identities.numpy(),
                    "loss": sample_losses(logits, data.labels, task).numpy(),
                    "label": list(labels.to(torch.float32).numpy()),
                    "logits": list(logits.numpy()),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def evaluate(
    model: nn.Module,
    split: Split,
    table: ImageTable,
    pixels: npt.NDArray[np.uint8],
    *,
    device: torch.device,
) -> pd.DataFrame:
    """Predictions of every image of the split, as ``predict`` gives them.

    Args:
        model: The model.
        split: Which image belongs to which set.
        table: Labels and identities.
        pixels: The dataset's decoded pictures, uint8 [N, 3, S, S], see ``oneshui.data.cache``.
        device: Where to compute.

    Raises:
        NumericalError: A logit is not finite.
    """
    sets: dict[str, LabelledImages] = {
        name: make_images(pixels, table.label, table.identity, split.images(name))
        for name in SET_NAMES
    }
    return predict(model, sets, task=table.task, device=device)
