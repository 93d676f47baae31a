"""``oneshui prepare`` and ``oneshui erase``: a kit while the data exist, requests after that."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from oneshui.errors import InputError
from oneshui.plugins import module_of
from oneshui.spec import ModelSpec, require
from sweeps.cli.progress import PLAIN_SECONDS
from sweeps.cli.words import duration, several, size
from sweeps.config import checked_options
from sweeps.graph.spec import Preprocessing, Sampler, TuningSpec
from sweeps.overrides import apply, parse

if TYPE_CHECKING:
    from oneshui.erasure.kit import StoredKit
    from sweeps.erasure.jobs import Progress as At

USAGE = {
    "prepare": """usage: {program} prepare model=... weights=model.safetensors data=table.csv \\
           methods=[...] out=kit/

While the training data exist: tries methods on simulated requests, and keeps in a kit what will be
needed when somebody asks. No picture is kept.

  model          a timm network, as resnet18, or {{name: ..., image_size: ..., options: {{...}}}};
                 or your own, {{factory: "net.py:make_net", image_size: ..., mean: ..., std: ...}}
  weights        its trained weights, a .safetensors file
  data           a table of the training data, .csv or .parquet: path, identity and labels; a column
                 set says train or val of every row (without it people are held out by chance)
  methods        which to try, for example [ssd, jit]; mode=list what=methods has all
  out            the kit's folder, which must not be there yet
  rows           hyperparameters and search spaces, as sweep.rows in a sweep; default {{}}
  num_forget     people in a request to prepare for; default 1
  tuning         {{trials: 24, batch: 4, sampler: tpe, requests: 8, carried: 5}}
  seed           of everything random; default 0
  preprocessing  how pictures are resized: corrected (default) | reference
  plugins        files of your own methods, as in a sweep; default []
  device         as torch calls it; default the GPU, if there is one (a Mac's: mps, named alone)
  threads        of torch; default 1

A command that was interrupted goes on where it was. Exit status: 0 done, 1 a method failed, 2 bad
input, 130 interrupted.""",
    "erase": """usage: {program} erase kit=kit/ weights=model.safetensors photos=request.csv \\
           out=erased/

After deletion: takes the people of a request out of a model, by one photo of each, and writes
weights.safetensors, certificate.json and the request's page as HTML and PDF.

  kit              what prepare wrote; leave it out to do without
  weights          the model as it is now: trained, or what the last erase wrote
  photos           a table of the photos, .csv or .parquet: path, identity and labels; one photo of
                   each person
  out              the folder to write, which must not be there yet
  method           a method of the kit, whatever it is worth; default: what the kit chooses
  seed             of everything random; default the kit's, without a kit 0
  plugins          of own methods; that of an own network too, if it is not in this folder
  device, threads  as with prepare
  without a kit:
  method           one that needs nothing but the photos
  hyperparameters  those that are not to be its defaults
  model            as with prepare; what erase wrote says it itself
  outputs          names of the model's classes in their order, if photos name them
  preprocessing    as with prepare

Exit status: 0 done, 1 the method failed, 2 bad input; then nothing is written.""",
}


@dataclass(frozen=True, kw_only=True)
class _Tuning:
    """The part of a sweep's tuning that a kit has."""

    trials: int = 24
    batch: int = 4
    sampler: Sampler = "tpe"
    requests: int = 8
    carried: int = 5


@dataclass(frozen=True, kw_only=True)
class _Prepare:
    """What ``prepare`` is told."""

    model: str | dict[str, Any]
    weights: str
    data: str
    methods: tuple[str, ...]
    out: str
    rows: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    num_forget: int = 1
    tuning: _Tuning = field(default_factory=_Tuning)
    seed: int = 0
    preprocessing: Preprocessing = "corrected"
    plugins: tuple[str, ...] = ()
    device: str | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        require(bool(self.methods), "methods", list(self.methods), "at least one method")
        twice = [name for name in self.methods if self.methods.count(name) > 1]
        if twice:
            raise InputError(f"methods names {twice[0]} twice")
        require(self.num_forget >= 1, "num_forget", self.num_forget, "1 or more")
        _check_shared(self.seed, self.threads)


@dataclass(frozen=True, kw_only=True)
class _Erase:
    """What ``erase`` is told."""

    weights: str
    photos: str
    out: str
    kit: str | None = None
    method: str = ""
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    model: str | dict[str, Any] | None = None
    outputs: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    seed: int | None = None
    plugins: tuple[str, ...] = ()
    device: str | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        _check_shared(self.seed or 0, self.threads)
        if self.kit is not None:
            for name in ("hyperparameters", "model", "outputs", "preprocessing"):
                if getattr(self, name):
                    raise InputError(f"{name} is for requests without a kit: the kit says it")


def _check_shared(seed: int, threads: int) -> None:
    require(seed >= 0, "seed", seed, "0 or more")
    require(1 <= threads <= 1024, "threads", threads, "1 to 1024")


def _options(arguments: Sequence[str]) -> dict[str, Any]:
    """The arguments as a tree of values."""
    tree: dict[str, Any] = {}
    for argument in arguments:
        change = parse(argument)
        if not apply(change, tree):
            raise InputError(f"{change.key} cannot be taken back: it is not set")
    return tree


def _model(said: str | Mapping[str, Any]) -> ModelSpec:
    fields = {"name": said} if isinstance(said, str) else dict(said)
    if "weights" in fields:
        raise InputError("model.weights cannot be set: the trained weights are those of weights=")
    return checked_options(ModelSpec, {**fields, "weights": "random"}, "model")


def _by_module(model: ModelSpec) -> ModelSpec:
    """The model whose factory is named as any process finds it that has loaded its module."""
    if not model.factory:
        return model
    item, _, name = model.factory.rpartition(":")
    return dataclasses.replace(model, factory=f"{module_of(item)}:{name}")


def prepare(arguments: Sequence[str], console: Console) -> None:
    """Make a kit.

    Raises:
        InputError: The user's input cannot be used.
        OneshuiError: A method failed.
    """
    told = checked_options(_Prepare, _options(arguments))
    model = _model(told.model)
    tuning = TuningSpec(**vars(told.tuning))
    from sweeps.erasure.jobs import PrepareSpec
    from sweeps.erasure.machine import ready
    from sweeps.erasure.preparing import make_kit

    ready_for_it = ready(told.threads, told.device, told.plugins, model.factory)
    with ready_for_it as device, _Shown(console) as shown:
        kit = make_kit(
            PrepareSpec(
                model=_by_module(model),
                weights=_path(told.weights),
                data=_path(told.data),
                methods=told.methods,
                rows=told.rows,
                out=_path(told.out),
                num_forget=told.num_forget,
                seed=told.seed,
                tuning=tuning,
                variant=told.preprocessing,
                device=device,
                threads=told.threads,
            ),
            shown.say,
            shown.progress,
        )
    _show_kit(kit, console)


def erase(arguments: Sequence[str], console: Console) -> None:
    """Carry out a request.

    Raises:
        InputError: The user's input cannot be used.
        OneshuiError: The method failed.
    """
    told = checked_options(_Erase, _options(arguments))
    model = None if told.model is None else _model(told.model)
    from sweeps.erasure import erasing
    from sweeps.erasure.machine import ready

    spec = erasing.EraseSpec(
        kit=None if told.kit is None else _path(told.kit),
        weights=_path(told.weights),
        photos=_path(told.photos),
        out=_path(told.out),
        method=told.method,
        hyperparameters=told.hyperparameters,
        model=model,
        outputs=told.outputs,
        variant=told.preprocessing,
        seed=told.seed,
        device=told.device or "",
    )
    factory = erasing.factory_of(spec)
    with ready(told.threads, told.device, told.plugins, factory) as device:
        by_module = None if model is None else _by_module(model)
        certificate = erasing.erase(dataclasses.replace(spec, device=device, model=by_module))
    console.print(erasing.request_of(certificate), soft_wrap=True)
    for note in (*certificate["notes"], *certificate["not_measured"][:1]):
        console.print(note, soft_wrap=True)
    console.print(f"written to {told.out}", soft_wrap=True)


COMMANDS: Mapping[str, Callable[[Sequence[str], Console], None]] = {
    "prepare": prepare,
    "erase": erase,
}


def _path(text: str) -> Path:
    return Path(text).absolute()


class _Shown:
    """What a person sees while a kit is made: a bar on a terminal, lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            BarColumn(),
            TextColumn("{task.completed}/{task.total}, {task.fields[left]}: {task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, left="")
        self._said = time.monotonic()

    def __enter__(self) -> _Shown:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, sentence: str) -> None:
        """Print a sentence."""
        self._console.print(sentence, soft_wrap=True)

    def progress(self, at: At) -> None:
        """Show which job begins, and how long the rest will take."""
        known = at.seconds_left is not None
        left = f"about {duration(at.seconds_left or 0)} left" if known else "time left unknown yet"
        self._bar.update(
            self._task, description=at.label, completed=at.done, total=at.total, left=left
        )
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said >= PLAIN_SECONDS:
            self._said = now
            self.say(f"{at.done} of {at.total} jobs done, {left}: {at.label}")


def _show_kit(stored: StoredKit, console: Console) -> None:
    """What can be expected of each method, and where the kit is."""
    kit = stored.kit
    many = several(kit.tuning["requests"], "simulated request")
    console.print(f"simulated ToW, mean and spread over {many}; 1 is best", soft_wrap=True)
    for method in kit.methods:
        idle = kit.expected(method, method.nothing)
        shown = [point for point in kit.candidates(method) if point != method.nothing]
        best = max(shown, key=lambda point: method.trials[point]["simulated"], default=None)
        told = "no point is shown to gain over leaving the model as it is"
        if best is not None:
            told = f"{_spread(kit.expected(method, best))} at best, of {len(shown)} kept"
        console.print(f"  {method.name}: {told} (as it is: {_spread(idle)})", soft_wrap=True)
    count = sum(file.stat().st_size for file in stored.folder.iterdir())
    console.print(
        f"kit written to {stored.folder} ({size(count)}); it holds no picture, but numbers about "
        "the training data: keep it as safe as the model",
        soft_wrap=True,
    )


def _spread(expected: Mapping[str, Any]) -> str:
    if not expected["is_finite"]:
        return "not defined"
    found = expected["tow"]
    return f"{found['mean']:.3f}" + (f" ± {found['spread']:.3f}" if len(found["each"]) > 1 else "")
