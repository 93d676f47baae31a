"""MetaUnlearn: a loss that is learned on simulated requests and then applied to S.

Source: De Min et al., "Unlearning personal data from a single image" (arXiv 2407.12069), Section 5.
Before deletion, requests are simulated on training identities, and a small network h learns a
loss whose gradient on one image of each identity makes the model treat their other images like
validation images. After deletion one gradient step on h over S does the same for the people who
ask. The equations are in ``loss_net`` (the step) and ``objective`` (what h is trained for), beside
this file.

Deviations from the reference:

- Gradients are taken with respect to h only (docs/benchmark.md, M2); val batches wrap around when
  a request has more forget batches than D_v (M3); scrub and the retain step work for classes too
  (M6); the width of the features is the model's (M10).
- ``parameters="layers"`` is the reference, which never moves what the model holds itself, such as
  ``cls_token`` and ``pos_embed`` (M1); "all" moves them too. "classifier" moves the last linear
  layer only, so that the features of D_tr and D_v are computed once.
- Retain batches are not augmented. Requests, batches and dropout have generators of their own.
- For models that the published objective damages: ``retain_weight`` w_r and ``val_weight`` w_v add
  w_r l(u, R) + w_v K(f || u; V) to the outer loss, with f the original and u the unlearned model,
  R a retain batch of the simulated request, V the val batch and K the mean divergence between the
  two models' predictions. ``num_requests`` replaces the pass over all training identities, and
  ``step_scale`` makes the final step longer or shorter than those of training. The defaults switch
  all of them off.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from oneshui.errors import InputError
from oneshui.methods.base import Range, register
from oneshui.methods.fields import clipping, number
from oneshui.spec import Access

if TYPE_CHECKING:
    import torch
    from torch import nn

    from oneshui.data.simulated_requests import SimulatedRequest
    from oneshui.methods.metaunlearn.loss_net import MetaLossNet, ModelView, Support
    from oneshui.methods.metaunlearn.objective import MetaTrainer
    from oneshui.methods.metaunlearn.sampler import RequestSampler
    from oneshui.requests import PrepareRequest, UnlearnRequest

REACHED, BATCHES = "reached", "batches"
"""In a checkpoint: epoch and requests done of it, int64 [2]; the sampler's random state."""


@register
@dataclass(frozen=True, kw_only=True)
class MetaUnlearn:
    """Learns how to unlearn before deletion, and takes one learned step after it.

    Attributes:
        epochs: Passes over simulated requests.
        learning_rate: Of the loss network, annealed by a cosine over epochs.
        step_size: Eta, of the unlearning step.
        step_scale: Factor on ``step_size`` after deletion only.
        step: Length of the first step after deletion as a share of the norm of the weights that
            move, in place of ``step_size`` and ``step_scale`` there; 0: not used.
        batch_size: Images per forget, val and retain batch.
        num_simulated: Identities per simulated request; 0 for as many as the real one has.
        num_requests: Simulated requests per epoch; 0 for as many as cover all identities once.
        loss_type: Outer loss, see ``oneshui.methods.metaunlearn.objective.OuterLoss``.
        distance: Between losses in the outer loss. "smooth_l1" is half of "l2" below 1 (M5).
        use_accs: Whether the outer loss weighs a batch's loss by 1 - its score.
        retain_weight: Of the task loss on retain batches; not in the paper.
        val_weight: Of the change of predictions on val batches; not in the paper.
        parameters: Which parameters the step moves: "layers", "all" or "classifier".
        use_retain: Whether a second network learns a step that repairs.
        forget_epochs: Steps of the forget network after deletion; training uses one (M12).
        use_features: Whether the loss network sees the model's features.
        use_targets: Whether it sees the labels.
        use_identity: Whether it sees the identity, through a learned embedding.
        hidden_size: Its width.
        num_blocks: Its residual blocks.
        embed_size: Width of the identity embedding.
        dropout: Its dropout probability while it is trained.
        clip_norm: Largest norm of the outer loss's gradient, of each network in preparation; 0
            leaves it alone.
    """

    name: ClassVar[str] = "metaunlearn"
    access: ClassVar[Access] = Access.PREPARED
    prepare_fields: ClassVar[tuple[str, ...]] = (
        "epochs",
        "learning_rate",
        "step_size",
        "batch_size",
        "num_simulated",
        "num_requests",
        "loss_type",
        "distance",
        "use_accs",
        "retain_weight",
        "val_weight",
        "parameters",
        "use_retain",
        "use_features",
        "use_targets",
        "use_identity",
        "hidden_size",
        "num_blocks",
        "embed_size",
        "dropout",
        "clip_norm",
    )
    search_space: ClassVar[Mapping[str, Range]] = {
        "step_scale": Range(low=0.1, high=10.0, log=True)
    }
    relative_space: ClassVar[Mapping[str, Range]] = {"step": Range(low=0.03, high=3.0, log=True)}
    nothing: ClassVar[Mapping[str, float | int]] = {"step_scale": 0.0, "step": 0.0}

    epochs: int = number(3, at_least=1)
    learning_rate: float = number(1e-4, above=0)
    step_size: float = number(0.1, above=0)
    step_scale: float = number(1.0, at_least=0)
    step: float = number(0.0, at_least=0)
    batch_size: int = number(64, at_least=1)
    num_simulated: int = number(0, at_least=0)
    num_requests: int = number(0, at_least=0)
    loss_type: Literal["full", "original", "unlearned", "scrub", "rev"] = "full"
    distance: Literal["smooth_l1", "l1", "l2"] = "smooth_l1"
    use_accs: bool = True
    retain_weight: float = number(0.0, at_least=0)
    val_weight: float = number(0.0, at_least=0)
    parameters: Literal["layers", "all", "classifier"] = "layers"
    use_retain: bool = False
    forget_epochs: int = number(1, at_least=1)
    use_features: bool = True
    use_targets: bool = True
    use_identity: bool = True
    hidden_size: int = number(512, at_least=1)
    num_blocks: int = number(0, at_least=0)
    embed_size: int = number(64, at_least=1)
    dropout: float = number(0.5, at_least=0, below=1)
    clip_norm: float = clipping()

    def prepare(self, request: PrepareRequest) -> dict[str, torch.Tensor]:
        """The trained networks' weights and the training identities, on the CPU.

        Returns:
            "forget.*" and, with ``use_retain``, "retain.*": state dicts, float32;
            "train_identities": int64 [identities], in the order of the embedding.

        Raises:
            InputError: There are too few training identities to simulate requests.
            NumericalError: The unlearning steps diverge.
        """
        import torch

        from oneshui.methods.metaunlearn.loss_net import moved_parameters
        from oneshui.methods.metaunlearn.objective import MetaTrainer, OuterLoss

        model = copy.deepcopy(request.model).to(request.device).eval().requires_grad_(False)
        nets = {
            key: self._make_net(
                model, len(request.train_identities), request.generator(f"metaunlearn {key}")
            ).to(request.device)
            for key in self._net_names
        }
        trainer = MetaTrainer(
            view=self._view(model),
            start=moved_parameters(model, self.parameters),
            forget_net=nets["forget"],
            retain_net=nets.get("retain"),
            outer=OuterLoss(method=self, task=request.task),
            learning_rate=self.learning_rate,
            step_size=self.step_size,
            chunk_size=self.batch_size,
            clip_norm=self.clip_norm,
        )
        self._train(trainer, request, model)
        prepared = {
            f"{key}.{name}": value.detach().cpu()
            for key, net in nets.items()
            for name, value in net.state_dict().items()
        }
        prepared["train_identities"] = torch.tensor(request.train_identities, dtype=torch.int64)
        return prepared

    def unlearn(self, request: UnlearnRequest) -> nn.Module:
        """A copy of the model, in evaluation mode, after the learned steps on S.

        Raises:
            InputError: S shows somebody who was not a training identity.
        """
        import torch

        from oneshui.methods._sgd import StepRate
        from oneshui.methods.metaunlearn.loss_net import inner_gradient, moved_parameters, take_step

        model = copy.deepcopy(request.model).to(request.device).eval()
        support = self._support(request, model)
        view = self._view(model)
        moved = moved_parameters(model, self.parameters)
        scale = self.step_size * self.step_scale
        rate = StepRate(moved.values(), learning_rate=scale, step=self.step)
        for key in self._net_names:
            net = self._load_net(request, model, key)
            for _ in range(self.forget_epochs if key == "forget" else 1):
                gradient = inner_gradient(net, view, moved, support, chunk_size=self.batch_size)
                direction = gradient.parameters
                moved = take_step(moved, direction, rate(direction.values()))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in moved:
                    parameter.copy_(moved[name])
        return model

    @property
    def _net_names(self) -> tuple[str, ...]:
        return ("forget", "retain") if self.use_retain else ("forget",)

    def _make_net(
        self, model: nn.Module, num_identities: int, generator: torch.Generator
    ) -> MetaLossNet:
        from oneshui.methods.metaunlearn.loss_net import make_net
        from oneshui.training.models import classifier_of

        classifier = classifier_of(model)
        return make_net(
            num_outputs=classifier.out_features,
            num_features=classifier.in_features,
            num_identities=num_identities,
            method=self,
            generator=generator,
        )

    def _load_net(self, request: UnlearnRequest, model: nn.Module, key: str) -> MetaLossNet:
        num_identities = len(request.prepared["train_identities"])
        net = self._make_net(model, num_identities, request.generator("metaunlearn unused"))
        prefix = f"{key}."
        weights = {n: v for n, v in request.prepared.items() if n.startswith(prefix)}
        net.load_state_dict({name.removeprefix(prefix): v for name, v in weights.items()})
        return net.to(request.device).eval()

    def _view(self, model: nn.Module) -> ModelView:
        from oneshui.methods.metaunlearn.loss_net import ClassifierView, NetworkView

        return ClassifierView() if self.parameters == "classifier" else NetworkView(model)

    def _train(self, trainer: MetaTrainer, request: PrepareRequest, model: nn.Module) -> None:
        import torch

        from oneshui.methods._sgd import cosine
        from oneshui.methods.metaunlearn.sampler import RequestSampler, make_pool

        frozen = self.parameters == "classifier"
        sampler = RequestSampler(
            train=make_pool(
                model,
                request.train,
                request.device,
                keep_features=frozen,
                keep_logits=self.loss_type == "scrub",
            ),
            val=make_pool(
                model, request.val, request.device, keep_features=frozen, keep_logits=True
            ),
            train_identities=request.train_identities,
            batch_size=self.batch_size,
            with_retain=trainer.needs_retain,
            generator=request.generator("metaunlearn batches"),
        )
        checkpoint = request.checkpoint
        known = checkpoint.load() if checkpoint is not None else None
        first, skipped = 0, 0
        if known is not None:
            trainer.restore(known)
            sampler.generator.set_state(known[BATCHES])
            first, skipped = known[REACHED].tolist()

        def take_down(epoch: int, requests: int) -> dict[str, torch.Tensor]:
            reached = {BATCHES: sampler.generator.get_state()}
            reached[REACHED] = torch.tensor([epoch, requests])
            return trainer.tensors() | reached

        for epoch in range(first, self.epochs):
            trainer.set_learning_rate(self.learning_rate * cosine(epoch, self.epochs))
            simulated = enumerate(self._simulate(request, sampler, epoch), start=1)
            for done, one in itertools.islice(simulated, skipped, None):
                trainer.update(*sampler.sample(one))
                if checkpoint is not None:
                    checkpoint.offer(partial(take_down, epoch, done))
            skipped = 0

    def _simulate(
        self, request: PrepareRequest, sampler: RequestSampler, epoch: int
    ) -> Iterator[SimulatedRequest]:
        from oneshui.data.simulated_requests import simulate_requests
        from oneshui.seeding import derive_seed

        passes = (
            simulate_requests(
                request.train_identities,
                sampler.images,
                num_forget=self.num_simulated or request.num_forget,
                seed=derive_seed(request.seed, "metaunlearn requests", epoch, number),
            )
            for number in itertools.count()
        )
        if self.num_requests == 0:
            return iter(next(passes))
        return itertools.islice(itertools.chain.from_iterable(passes), self.num_requests)

    def _support(self, request: UnlearnRequest, model: nn.Module) -> Support:
        import torch

        from oneshui.methods.metaunlearn.loss_net import Support
        from oneshui.training.models import FeaturesAndLogits

        known = {int(who): i for i, who in enumerate(request.prepared["train_identities"])}
        strangers = [int(who) for who in request.support.identities if int(who) not in known]
        if strangers:
            raise InputError(
                f"identity {strangers[0]} of the support set was not among the training "
                "identities that metaunlearn was prepared for; prepare it for this split"
            )
        inputs = request.support.inputs().to(request.device)
        if self.parameters == "classifier":
            with torch.no_grad():
                inputs = FeaturesAndLogits(model)(inputs)[1]
        index = torch.tensor([known[int(who)] for who in request.support.identities])
        return Support(
            inputs=inputs,
            labels=request.support.labels.to(request.device),
            index=index.to(request.device),
        )
