"""What a model, a training run, drawn faces and a range are: plain values, checked when made.

Imports nothing heavy, so that planning can use it without torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from oneshui.errors import InputError
from oneshui.named_weights import NAMED, NamedWeights

Task = Literal["multilabel", "multiclass"]
Precision = Literal["auto", "float32", "bfloat16"]
"""Of training and prediction: "auto" is bfloat16 on an accelerator and float32 on a processor."""
Walk = Literal["reference", "corrected"]
"""How the boundaries between training, validation and test people are found: as the authors' code
does, or without its slip (docs/benchmark.md, D1)."""


def images_needed(num_forget: int) -> int:
    """Images that a person must have to be in a request of so many people, S included.

    Who asks alone needs six, as in the paper, or there is too little to measure on.
    """
    return 6 if num_forget == 1 else 2


ProgressCallback: TypeAlias = Callable[[int, int], None]
"""Called with how much is done and how much there is in all."""


class Access(StrEnum):
    """Which data a method may see when it unlearns, after the training data are deleted."""

    SUPPORT = "support"
    """The pretrained model and the support set, nothing else."""
    PREPARED = "prepared"
    """Also what the method itself computed before deletion."""
    FULL = "full"
    """Forget and retain set too: reference rows, never ranked with the others."""


class Role(StrEnum):
    """What a row stands for in the tables, whatever it is called."""

    PRETRAIN = "pretrain"
    """Doing nothing."""
    RETRAIN = "retrain"
    """The yardstick of its cell."""
    RETRAIN_AGAIN = "retrain_again"
    """Retraining with other random numbers: its distance to the yardstick is noise."""
    METHOD = "method"
    """Everything that unlearns."""

    @property
    def is_retrained(self) -> bool:
        """Whether the row's model never saw D_f."""
        return self in (Role.RETRAIN, Role.RETRAIN_AGAIN)


DATA_SEEN: dict[Access, str] = {
    Access.SUPPORT: "S",
    Access.PREPARED: "S + own preparation",
    Access.FULL: "D_f, D_r",
}


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Raise an InputError that names the field, its value and the allowed range.

    Args:
        condition: Whether the value is allowed.
        name: The field.
        value: What it holds.
        allowed: The range in words, for example "a number above 0".

    Raises:
        InputError: The condition is false.
    """
    if not condition:
        raise InputError(f"{name} is {value!r}, but it must be {allowed}")


@dataclass(frozen=True, kw_only=True)
class Range:
    """Values that tuning may try for one hyperparameter.

    Attributes:
        low: Smallest value.
        high: Largest value.
        log: Whether to draw on a logarithmic scale.
        integer: Whether only whole numbers are meant.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InputError(f"its range {self.low:g} to {self.high:g} is empty")
        if self.log and self.low <= 0:
            raise InputError(f"its range {self.low:g} to {self.high:g} must be above 0")


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A timm model, or a network of the user's own.

    Attributes:
        name: Name in timm's registry; means nothing where there is a factory.
        image_size: Side of the square input in pixels.
        weights: "random", "imagenet" (timm downloads them), a name of
            ``oneshui.named_weights.NAMED``, or the path of a safetensors file with the network's
            keys; a classifier of another size in it is left out.
        options: Further keyword arguments of ``timm.create_model``, or of the factory.
        channels_last: Whether weights lie with channels last, with which networks of convolutions
            and BatchNorm take two thirds of the time on a processor; it moves last digits.
        precision: Of training and prediction; "auto" is bfloat16 on an accelerator and float32 on a
            processor, and leaves logits and the gradients of methods in float32 on both.
        factory: Function that makes the network, as in "my_package:make_net" or "my_net.py:make";
            it is called with the number of outputs. Empty for timm's.
        mean: Of each channel, of pixels in [0, 1]: what the network takes inputs to be normalised
            by. None, with ``std``, for 0.5 each.
        std: The same, the standard deviation.
    """

    name: str = "vit_base_patch16_224"
    image_size: int = 224
    weights: str = "imagenet"
    options: Mapping[str, Any] = field(default_factory=dict)
    channels_last: bool = False
    precision: Precision = "auto"
    factory: str = ""
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        require(bool(self.name), "model.name", self.name, "the name of a timm model")
        self._check_own()
        require(8 <= self.image_size <= 1024, "model.image_size", self.image_size, "8 to 1024")
        known = ("random", "imagenet", *NAMED)
        require(
            self.weights in known or self.weights.endswith(".safetensors"),
            "model.weights",
            self.weights,
            f"{', '.join(map(repr, known))} or the path of a .safetensors file",
        )
        named = self.named_weights
        if named is not None and self.name != named.model:
            raise InputError(
                f"model.weights {named.name} are those of {named.model}, but model.name is "
                f"{self.name!r}: set one of the two to what fits the other"
            )

    def _check_own(self) -> None:
        require(
            not self.factory or ":" in self.factory,
            "model.factory",
            self.factory,
            "of the form my_package:make_net or my_net.py:make",
        )
        if self.factory and (self.weights == "imagenet" or self.weights in NAMED):
            raise InputError(
                f"model.weights is {self.weights!r}, but that of model.factory {self.factory} is "
                "nobody's but yours: set it to 'random' or the path of a .safetensors file"
            )
        require(
            (self.mean is None) == (self.std is None),
            "model.std",
            self.std,
            "given with model.mean, or neither of them",
        )
        for value in self.std or ():
            require(value > 0, "model.std", value, "above 0")

    @property
    def title(self) -> str:
        """The network's name, for people."""
        return self.factory or self.name

    def to_json(self) -> dict[str, Any]:
        """The fields as a job's identity has them: what is younger than stores only where set."""
        document = asdict(self)
        unset = {
            "channels_last": False,
            "precision": "auto",
            "factory": "",
            "mean": None,
            "std": None,
        }
        if self.factory:
            unset["name"] = self.name
        return {key: value for key, value in document.items() if value != unset.get(key, unset)}

    @property
    def weights_file(self) -> Path | None:
        """The file of the starting weights; None if they are random or timm's."""
        return Path(self.weights) if self.weights.endswith(".safetensors") else None

    @property
    def named_weights(self) -> NamedWeights | None:
        """What the starting weights' name means; None if they have none."""
        return NAMED.get(self.weights)


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """One training run: the recipe of pretraining and retraining.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images per step; the last batch of an epoch may be smaller.
        optimizer: "sgd", "adam" or "adamw".
        learning_rate: Peak learning rate.
        momentum: Of SGD; the others have none.
        weight_decay: L2 penalty for SGD and Adam, decoupled decay for AdamW.
        amsgrad: Whether Adam and AdamW divide by the largest second moment so far.
        schedule: "cosine_by_epoch" is the paper's (stepped per epoch after the warm-up, never
            reaching 0); "cosine_by_step" anneals to 0 over the steps after the warm-up. The others
            count the epochs after the warm-up, too: "constant"; "step" multiplies by ``decay``
            every ``decay_epochs``, "multistep" at ``milestones``, "exponential" every epoch;
            "linear" falls to a tenth over ``epochs``.
        cosine_epochs: Epochs over which "cosine_by_epoch" would fall to 0; 0 for all.
        decay: Factor of "step", "multistep" and "exponential".
        decay_epochs: Of "step".
        milestones: Of "multistep": epochs after the warm-up, each larger than the one before.
        warmup_epochs: Linear warm-up, in epochs, fractions allowed with "cosine_by_step".
        drop_last: Whether an epoch leaves out the images that do not fill a batch.
        clip_norm: Largest norm of the gradient; 0 leaves it alone.
        augmentation: "none", "flip" (horizontal) or "crop" (RandomResizedCrop and flip).
        keep: "best" keeps the weights of the epoch with the best validation score (the paper's
            choice), "last" those of the last epoch.
    """

    epochs: int = 30
    batch_size: int = 32
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    amsgrad: bool = False
    schedule: Literal[
        "cosine_by_epoch",
        "cosine_by_step",
        "constant",
        "step",
        "multistep",
        "exponential",
        "linear",
    ] = "cosine_by_epoch"
    cosine_epochs: int = 0
    decay: float = 0.2
    decay_epochs: int = 5
    milestones: tuple[int, ...] = ()
    warmup_epochs: float = 2.0
    drop_last: bool = False
    clip_norm: float = 0.0
    augmentation: Literal["none", "flip", "crop"] = "crop"
    keep: Literal["best", "last"] = "best"

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "training.epochs", self.epochs, "at least 1")
        require(self.batch_size >= 1, "training.batch_size", self.batch_size, "at least 1")
        require(self.learning_rate > 0, "training.learning_rate", self.learning_rate, "above 0")
        require(0 <= self.momentum < 1, "training.momentum", self.momentum, "in [0, 1)")
        require(self.weight_decay >= 0, "training.weight_decay", self.weight_decay, "0 or more")
        require(self.clip_norm >= 0, "training.clip_norm", self.clip_norm, "0 or more")
        require(
            0 <= self.warmup_epochs < self.epochs,
            "training.warmup_epochs",
            self.warmup_epochs,
            "0 or more and below training.epochs",
        )
        whole = self.schedule == "cosine_by_step" or self.warmup_epochs == int(self.warmup_epochs)
        require(
            whole,
            "training.warmup_epochs",
            self.warmup_epochs,
            f"a whole number of epochs with schedule {self.schedule}",
        )
        self._check_decay()

    def _check_decay(self) -> None:
        # A job's identity has lists alone.
        object.__setattr__(self, "milestones", tuple(self.milestones))
        require(0 < self.decay <= 1, "training.decay", self.decay, "in (0, 1]")
        require(self.decay_epochs >= 1, "training.decay_epochs", self.decay_epochs, "at least 1")
        require(
            0 <= self.cosine_epochs <= self.epochs,
            "training.cosine_epochs",
            self.cosine_epochs,
            "0 or more and at most training.epochs",
        )
        risen = (0, *self.milestones)
        require(
            bool(self.milestones) == (self.schedule == "multistep")
            and all(one < other for one, other in itertools.pairwise(risen)),
            "training.milestones",
            list(self.milestones),
            "epochs from 1 upwards, each larger than the one before, with schedule multistep, and "
            "empty without it",
        )
        require(
            not self.amsgrad or self.optimizer != "sgd",
            "training.amsgrad",
            self.amsgrad,
            "false with training.optimizer sgd",
        )

    def to_json(self) -> dict[str, Any]:
        """The fields as a job's identity has them: what is younger than stores only where set."""
        document, unset = asdict(self), TrainingSpec()
        younger = ("amsgrad", "cosine_epochs", "decay", "decay_epochs", "milestones", "drop_last")
        for name in younger:
            if document[name] == getattr(unset, name):
                del document[name]
        return document


FACES_LAYOUTS: Final[Mapping[str, str]] = {
    "celebahq": "faces",
    "celeba": "faces",
    "mufac": "faces",
    "chestxray14": "chest X-rays",
    "femnist": "characters",
}
"""Layouts of datasets that pictures can be drawn in, and what these show."""

RECIPE_VERSION: Final = 1
"""Goes up whenever the same FacesSpec would give other bytes, so that no old set of drawn faces
passes for a new one."""

_FACES_LIMITS: Final[dict[str, tuple[int, int | None]]] = {
    "identities": (10, None),
    "pictures": (2, None),
    "size": (16, 2048),
    "seed": (0, None),
}


@dataclass(frozen=True, kw_only=True)
class FacesSpec:
    """Which set of faces: two equal specs give equal files.

    Attributes:
        identities: Number of identities, at least 10.
        pictures: Number of pictures of each identity, at least 2; in MUFAC's layout the middle of
            the numbers that people have.
        size: Side of the square pictures in pixels, 16 to 2048; in CelebA's layout their height,
            while their width is 178/218 of it, rounded.
        seed: Seed of everything that is drawn, at least 0. The size does not enter: the same
            seed shows the same faces at every size.
    """

    identities: int = 400
    pictures: int = 8
    size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            InputError: If a field is no integer or is out of its range.
        """
        for name, (low, high) in _FACES_LIMITS.items():
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or value < low or (high is not None and value > high):
                allowed = f"at least {low}" if high is None else f"from {low} to {high}"
                raise InputError(f"{name} must be an integer {allowed}, not {value!r}")

    @property
    def num_images(self) -> int:
        """Number of pictures in the set; in MUFAC's layout it is only near that number."""
        return self.identities * self.pictures
