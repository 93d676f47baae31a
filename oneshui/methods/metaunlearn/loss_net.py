"""MetaUnlearn's learned loss, the unlearning step it drives, and that step's meta-gradient.

Source: arXiv 2407.12069, Section 5 (docs/benchmark.md, "metaunlearn"). A network h_phi gives
every support image a loss from the model's outputs z = (logits, features), the label and the
identity; unlearning is a gradient step on its mean M,

    theta_u = theta - eta grad_theta M(theta; phi),

and phi is trained by gradients of an outer loss A of theta_u, which ``objective`` has. With
v = grad A(theta_u),

    grad_phi A = -eta grad_phi <grad_z M, J_z v>,

where J_z v is the change of the outputs when theta moves along v. So the second derivative goes
through the small network only: the model needs one backward pass for the step, one for v, and one
forward-mode pass, all of which can be done in chunks of images.

Shapes: B images, C outputs, D features.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from oneshui.errors import NumericalError
from oneshui.training.models import FeaturesAndLogits, classifier_of

if TYPE_CHECKING:
    from oneshui.methods.metaunlearn import MetaUnlearn

Parameters: TypeAlias = dict[str, torch.Tensor]
"""Values of some of a model's parameters, by the model's names."""

Moved = Literal["layers", "all", "classifier"]


class SeededDropout(nn.Module):
    """Dropout that draws from a generator of its own and leaves the global one alone."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.generator: torch.Generator | None = None

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Values of any shape, some of them 0 and the others enlarged; as they are in eval."""
        if not self.training or self.probability == 0:
            return values
        assert self.generator is not None, "a network in training mode needs a generator"
        draw = torch.rand(values.shape, generator=self.generator).to(values.device)
        return values * (draw >= self.probability) / (1 - self.probability)


class MetaLossNet(nn.Module):
    """The learned loss h_phi; its state dict has the reference's names.

    Attributes:
        method: Says what it sees and how large it is.
        generator: Of its dropout, once ``use_generator`` was called.
    """

    generator: torch.Generator

    def __init__(
        self, *, num_outputs: int, num_features: int, num_identities: int, method: MetaUnlearn
    ) -> None:
        super().__init__()
        self.method = method
        hidden = method.hidden_size
        width = num_outputs
        width += num_features if method.use_features else 0
        width += num_outputs if method.use_targets else 0
        if method.use_identity:
            self.embed = nn.Embedding(num_identities, method.embed_size)
            width += method.embed_size
        self.input_block = nn.Sequential(
            nn.Linear(width, hidden),
            nn.LayerNorm(hidden),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            SeededDropout(method.dropout),
        )
        self.hidden_blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(hidden),
                nn.Linear(hidden, hidden),
                nn.GELU(),
                SeededDropout(method.dropout),
                nn.Linear(hidden, hidden),
                nn.GELU(),
                SeededDropout(method.dropout),
            )
            for _ in range(method.num_blocks)
        )
        self.output_block = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, 1))

    def forward(
        self,
        logits: torch.Tensor,
        features: torch.Tensor,
        labels: torch.Tensor,
        index: torch.Tensor,
    ) -> torch.Tensor:
        """Loss of every image, [B], above 0.

        Args:
            logits: [B, C].
            features: [B, D].
            labels: float [B, C] of 0/1 or int64 [B].
            index: Position of the identity among the training identities, int64 [B].
        """
        parts = [logits.sigmoid()]
        if self.method.use_features:
            parts.append(features)
        if self.method.use_targets:
            is_class = labels.ndim == 1
            parts.append(F.one_hot(labels, logits.shape[1]).float() if is_class else labels)
        if self.method.use_identity:
            parts.append(self.embed(index))
        hidden = self.input_block(torch.cat(parts, dim=1))
        for block in self.hidden_blocks:
            hidden = hidden + block(hidden)
        return F.softplus(self.output_block(hidden)).squeeze(1)

    def use_generator(self, generator: torch.Generator) -> None:
        """Let dropout draw from this CPU generator."""
        self.generator = generator
        for module in self.modules():
            if isinstance(module, SeededDropout):
                module.generator = generator


def make_net(
    *,
    num_outputs: int,
    num_features: int,
    num_identities: int,
    method: MetaUnlearn,
    generator: torch.Generator,
) -> MetaLossNet:
    """A network with PyTorch's usual starting weights, drawn from ``generator`` only."""
    with torch.device("meta"):
        net = MetaLossNet(
            num_outputs=num_outputs,
            num_features=num_features,
            num_identities=num_identities,
            method=method,
        )
    net.to_empty(device="cpu")
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            bound = 1 / math.sqrt(module.in_features)
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, generator=generator)
        elif isinstance(module, nn.LayerNorm):
            module.reset_parameters()
    net.use_generator(generator)
    return net


class ModelView(Protocol):
    """A model as a function of the parameters that unlearning moves."""

    def __call__(
        self, parameters: Parameters, inputs: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [B, C] and features [B, D]; parameters not given keep their values."""
        ...


class NetworkView:
    """The whole network; inputs are images [B, 3, S, S]."""

    def __init__(self, model: nn.Module) -> None:
        self._module = FeaturesAndLogits(model)

    def __call__(
        self, parameters: Parameters, inputs: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [B, C] and features [B, D] of images."""
        named = {f"model.{name}": value for name, value in parameters.items()}
        logits, features = torch.func.functional_call(self._module, named, inputs)
        return logits, features


class ClassifierView:
    """The last linear layer; inputs are features [B, D] of the frozen rest."""

    def __call__(
        self, parameters: Parameters, inputs: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [B, C] and the features themselves; the layer's weight must be given."""
        weight = next(value for value in parameters.values() if value.ndim == 2)
        bias = next((value for value in parameters.values() if value.ndim == 1), None)
        return F.linear(inputs, weight, bias), inputs


def moved_parameters(model: nn.Module, which: Moved) -> Parameters:
    """The parameters that unlearning moves, detached.

    Args:
        model: The model.
        which: "all"; "layers", all but those that the model holds itself rather than in a layer,
            such as ``cls_token`` and ``pos_embed``; or "classifier", the last linear layer's.
    """
    left_out: set[str] = set()
    if which == "layers":
        left_out = {name for name, _ in model.named_parameters(recurse=False)}
    elif which == "classifier":
        own = {id(parameter) for parameter in classifier_of(model).parameters()}
        left_out = {name for name, value in model.named_parameters() if id(value) not in own}
    return {n: p.detach() for n, p in model.named_parameters() if n not in left_out}


@dataclass(frozen=True, kw_only=True)
class Support:
    """What an unlearning step is computed from.

    Attributes:
        inputs: What the view takes, [B, ...].
        labels: float [B, C] of 0/1 or int64 [B].
        index: Position of the identity among the training identities, int64 [B].
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    index: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class InnerGradient:
    """Gradient of the mean meta-loss of a support set.

    Attributes:
        parameters: With respect to the moved parameters, detached.
        outputs: With respect to the outputs that the network sees: logits [B, C] and, if it does,
            features [B, D]; a differentiable function of phi.
    """

    parameters: Parameters
    outputs: tuple[torch.Tensor, ...]


def inner_gradient(
    net: MetaLossNet,
    view: ModelView,
    parameters: Parameters,
    support: Support,
    *,
    chunk_size: int = 64,
) -> InnerGradient:
    """Gradient of M, the mean of h over the support set.

    Args:
        net: The learned loss; its mode decides on dropout.
        view: The model.
        parameters: Where to take the gradient.
        support: The support set.
        chunk_size: Images per pass through the model; does not change the result.
    """
    leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    chunks = torch.split(support.inputs, chunk_size)
    with torch.no_grad():
        pairs = [view(parameters, chunk) for chunk in chunks]
    logits = torch.cat([pair[0] for pair in pairs]).requires_grad_()
    features = torch.cat([pair[1] for pair in pairs]).requires_grad_()
    seen = (logits, features) if net.method.use_features else (logits,)
    mean = net(logits, features, support.labels, support.index).mean()
    outputs = torch.autograd.grad(mean, seen, create_graph=True)

    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    starts = range(0, len(support.inputs), chunk_size)
    for start, chunk in zip(starts, chunks, strict=True):
        part = slice(start, start + chunk_size)
        pairs_seen = zip(view(leaves, chunk), outputs, strict=False)
        moving = [(value, g[part].detach()) for value, g in pairs_seen if value.requires_grad]
        gradients = torch.autograd.grad(
            [value for value, _ in moving],
            list(leaves.values()),
            grad_outputs=[gradient for _, gradient in moving],
        )
        torch._foreach_add_(list(total.values()), gradients)
    return InnerGradient(parameters=total, outputs=outputs)


def take_step(parameters: Parameters, gradient: Parameters, step_size: float) -> Parameters:
    """New values: parameters - step_size * gradient."""
    values = torch._foreach_add(
        list(parameters.values()), list(gradient.values()), alpha=-step_size
    )
    return dict(zip(parameters, values, strict=True))


@dataclass(frozen=True, kw_only=True)
class MetaStep:
    """One unlearning step and how its outer loss depends on phi.

    Attributes:
        value: Outer loss A.
        unlearned: The parameters after the step.
        gradients: Gradient of A with respect to the network's parameters, by name.
    """

    value: float
    unlearned: Parameters
    gradients: dict[str, torch.Tensor]


def meta_step(
    net: MetaLossNet,
    view: ModelView,
    start: Parameters,
    support: Support,
    terms: Sequence[Callable[[Parameters], torch.Tensor]],
    *,
    step_size: float,
    chunk_size: int = 64,
) -> MetaStep:
    """Unlearn with one step from ``start`` and differentiate the outer loss with respect to phi.

    Args:
        net: The learned loss.
        view: The model.
        start: Parameters before the step; constants.
        support: The support set.
        terms: Functions of the unlearned parameters whose sum is the outer loss; each is
            differentiated by itself.
        step_size: Eta.
        chunk_size: Support images per pass through the model.

    Raises:
        NumericalError: The outer loss is not finite.
    """
    inner = inner_gradient(net, view, start, support, chunk_size=chunk_size)
    unlearned = take_step(start, inner.parameters, step_size)
    leaves = {name: value.requires_grad_() for name, value in unlearned.items()}
    direction = {name: torch.zeros_like(value) for name, value in leaves.items()}
    value = 0.0
    for term in terms:
        loss = term(leaves)
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        torch._foreach_add_(list(direction.values()), gradients)
        value += loss.item()
    if not math.isfinite(value):
        raise NumericalError(f"the outer loss of MetaUnlearn is {value}: lower step_size")

    change = torch.zeros((), device=inner.outputs[0].device)
    tangents = _tangents(view, start, direction, support.inputs, chunk_size)
    for gradient, tangent in zip(inner.outputs, tangents, strict=False):
        if tangent is not None:
            change = change + (gradient * tangent).sum()
    names, phi = zip(*net.named_parameters(), strict=True)
    of_phi = torch.autograd.grad(-step_size * change, phi, materialize_grads=True)
    return MetaStep(
        value=value,
        unlearned={name: leaf.detach() for name, leaf in leaves.items()},
        gradients=dict(zip(names, of_phi, strict=True)),
    )


def _tangents(
    view: ModelView, start: Parameters, direction: Parameters, inputs: torch.Tensor, chunk_size: int
) -> tuple[torch.Tensor | None, ...]:
    """Change of logits and features when the parameters move along ``direction``; None for none."""
    _load_forward_mode()
    # The fused attention kernels have no forward-mode derivative.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level():
        duals = {name: _dual(value, direction[name]) for name, value in start.items()}
        pairs = [
            [_tangent(output) for output in view(duals, chunk)]
            for chunk in torch.split(inputs, chunk_size)
        ]
    return tuple(
        None if parts[0] is None else torch.cat(parts) for parts in zip(*pairs, strict=True)
    )


def _dual(value: torch.Tensor, tangent: torch.Tensor) -> torch.Tensor:
    dual: torch.Tensor = forward_ad.make_dual(value, tangent)  # type: ignore[no-untyped-call]
    return dual


def _tangent(value: torch.Tensor) -> torch.Tensor | None:
    tangent: torch.Tensor | None = forward_ad.unpack_dual(value).tangent  # type: ignore[no-untyped-call]
    return tangent


@cache
def _load_forward_mode() -> None:
    # PyTorch compiles some rules at the first use, with a part of its own that it deprecates.
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore")
        _dual(torch.zeros(1), torch.zeros(1))
