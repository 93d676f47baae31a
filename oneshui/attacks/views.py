"""Losses of augmented views of a picture: what the relative membership attack reads.

View 0 is the picture, view 1 its mirror image, the further ones are random crops. A crop depends
on the seed, the picture and the number of the view alone, so all models see the same views.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from oneshui.accelerator import Policy, place, policy_for, precision, transfer
from oneshui.data.images import LabelledImages, augment, normalise
from oneshui.errors import NumericalError
from oneshui.seeding import derive_seed, torch_generator
from oneshui.spec import Task
from oneshui.training.losses import sample_losses


def sample(data: LabelledImages, size: int, seed: int) -> LabelledImages:
    """So many images drawn without replacement (all, if there are not more), in their order."""
    if len(data) <= size:
        return data
    drawn = torch.randperm(len(data), generator=torch_generator(seed, "sample"))[:size]
    return data.select(drawn.sort().values)


@torch.no_grad()
def predict_views(
    model: nn.Module,
    sets: Mapping[str, LabelledImages],
    *,
    task: Task,
    views: int,
    seed: int,
    device: torch.device,
    policy: Policy | None = None,
) -> pd.DataFrame:
    """Losses of every view of every image of the named sets.

    Args:
        model: The model; it stays in eval.
        sets: Images by set.
        task: "multilabel" or "multiclass".
        views: How many views, at least 1.
        seed: Of the crops; give all models that are to be compared the same.
        device: Where to compute.
        policy: How to compute; None for ``oneshui.accelerator.policy_for``.

    Returns:
        One row per image: ``set``, ``image`` (row of the dataset), ``identity`` and ``losses``
        (float32 list, one per view).

    Raises:
        NumericalError: A loss is not finite.
    """
    policy = policy or policy_for(model, device)
    place(model.eval(), device, policy)
    frames = []
    for name, data in sets.items():
        parts = []
        for start in range(0, len(data), policy.pass_size):
            part = slice(start, start + policy.pass_size)
            raw, labels, rows = transfer(data.raw(part), device), data.labels[part], data.rows[part]
            with precision(model, device, policy):
                logits = torch.stack(
                    [model(_view(raw, rows, number, seed)).float() for number in range(views)]
                ).cpu()
            parts.append(torch.stack([sample_losses(z, labels, task) for z in logits], dim=1))
        losses = torch.cat(parts)
        if not torch.isfinite(losses).all():
            raise NumericalError(
                f"views of {int((~torch.isfinite(losses)).any(dim=1).sum())} of {len(data)} images "
                f"of the {name} set have losses that are not finite"
            )
        frames.append(
            pd.DataFrame(
                {
                    "set": name,
                    "image": data.rows.astype(np.int64),
                    "identity": data.identities.numpy(),
                    "losses": list(losses.numpy()),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _view(raw: torch.Tensor, rows: npt.NDArray[np.int64], number: int, seed: int) -> torch.Tensor:
    if number == 0:
        return normalise(raw)
    if number == 1:
        return normalise(raw.flip(-1))
    own = derive_seed(seed, "view", number)
    return augment(raw, rows, "crop", size=raw.shape[-1], seed=own)
