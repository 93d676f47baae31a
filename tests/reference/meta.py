"""MetaUnlearn's meta-gradient by brute force: a copied model and second derivatives through it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from oneshui.methods.metaunlearn.loss_net import MetaLossNet, Support
from oneshui.training.models import FeaturesAndLogits


def meta_gradient(
    net: MetaLossNet,
    model: nn.Module,
    moved: set[str],
    support: Support,
    outer: Callable[[nn.Module], torch.Tensor],
    step_size: float,
) -> tuple[float, dict[str, torch.Tensor]]:
    unlearned = copy.deepcopy(model)
    with sdpa_kernel(SDPBackend.MATH):
        logits, features = FeaturesAndLogits(unlearned)(support.inputs)
        mean = net(logits, features, support.labels, support.index).mean()
        parameters = {n: p for n, p in unlearned.named_parameters() if n in moved}
        gradients = torch.autograd.grad(mean, list(parameters.values()), create_graph=True)
        for (name, value), gradient in zip(parameters.items(), gradients, strict=True):
            owner, _, attribute = name.rpartition(".")
            module = unlearned.get_submodule(owner)
            delattr(module, attribute)
            setattr(module, attribute, value - step_size * gradient)
        loss = outer(unlearned)
        names, phi = zip(*net.named_parameters(), strict=True)
        of_phi = torch.autograd.grad(loss, phi)
    return loss.item(), dict(zip(names, of_phi, strict=True))
