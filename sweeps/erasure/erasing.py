"""After deletion: one request, from a table of photos to weights and a certificate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from oneshui import methods
from oneshui.data.cache import Variant
from oneshui.data.loaders.own_table import labels_of
from oneshui.erasure.certificate import (
    NOT_MEASURED,
    Earlier,
    earlier_of,
    several,
    step_of,
    write_certificate,
)
from oneshui.erasure.erase import Chosen, choose, measured, request_seed
from oneshui.erasure.folder import require_free, written_whole
from oneshui.erasure.kit import KitMethod, StoredKit, read_kit
from oneshui.erasure.photos import Photos, read_photos
from oneshui.erasure.weights import (
    Described,
    Weights,
    code_of,
    count_outputs,
    file_hash,
    hash_of,
    read_weights,
    require_fit,
    write_weights,
)
from oneshui.errors import InputError, NumericalError
from oneshui.methods import Method
from oneshui.origin import origin_of
from oneshui.seeding import derive_seed
from oneshui.spec import DATA_SEEN, Access, ModelSpec
from sweeps.erasure.preparing import require_usable
from sweeps.stages.context import StoredModel
from sweeps.stages.one_shot import State, unlearned_behind_walls
from sweeps.stages.requests import Handed

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, kw_only=True)
class EraseSpec:
    """What one request says.

    Attributes:
        kit: The kit's folder; None to do without.
        weights: File of the model as it is now.
        photos: The table of photos.
        out: Folder to write, which must not be there yet.
        method: Row of the kit, or without a kit a method; empty for the kit to choose.
        hyperparameters: Without a kit, those that are not to be the method's defaults.
        model: Without a kit, the network; None if the weights say it themselves.
        outputs: Without a kit, names of the model's classes in the order of its outputs.
        variant: Without a kit, how pictures are resized; None for what the weights say, or the
            corrected way.
        seed: Of everything random; None for the kit's, or 0.
        device: Torch device.
    """

    kit: Path | None
    weights: Path
    photos: Path
    out: Path
    method: str
    hyperparameters: Mapping[str, Any]
    model: ModelSpec | None
    outputs: tuple[str, ...]
    variant: Variant | None
    seed: int | None
    device: str


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A request that was read and found sound."""

    spec: EraseSpec
    stored: StoredKit | None
    weights: Weights
    described: Described
    photos: Photos
    earlier: Earlier
    seed: int

    @property
    def number(self) -> int:
        return len(self.earlier.requests) + 1

    def handed(self, method: str, prepared: Path | None) -> Handed:
        """What a method is handed, with the seed that a sweep would give it."""
        return Handed(
            model=StoredModel(
                spec=self.described.model,
                num_outputs=len(self.described.outputs),
                weights=self.weights.path.absolute(),
                device=self.spec.device,
            ),
            task=self.described.task,
            seed=derive_seed(self.seed, method, "unlearn"),
            support=self.photos.support,
            prepared=None if prepared is None else prepared.absolute(),
        )

    def run(self, method: Method, prepared: Path | None) -> tuple[State | NumericalError, str]:
        """The unlearned weights, and what kept the method from other files."""
        places = (self.spec.photos.parent, self.spec.out.parent)
        folders = places if self.stored is None else (*places, self.stored.folder)
        protected = tuple(dict.fromkeys(folder.absolute() for folder in folders))
        results, _, protection = unlearned_behind_walls(
            protected, method, [self.handed(method.name, prepared)]
        )
        return results[0], protection


def erase(spec: EraseSpec) -> dict[str, Any]:
    """Carry out one request; its certificate, which is also among what was written.

    Raises:
        InputError: Something given cannot be used, or nothing is expected to help; nothing is
            written then.
        OneshuiError: The method failed.
    """
    asked = _read(spec)
    protections: list[str] = []

    def unlearn(method: KitMethod, point: int) -> State | NumericalError:
        assert asked.stored is not None
        built = methods.build(method.method, method.hyperparameters(point))
        if methods.source_of(type(built)) != method.source:
            raise InputError(
                f"the code of method {method.method} is not that which the kit {spec.kit} was made "
                "with: install the version of oneshui that made it"
            )
        state, protection = asked.run(built, asked.stored.prepared(method))
        protections.append(protection)
        return state

    chosen: Chosen | None = None
    if asked.stored is not None:
        request = asked.handed("choose", None).request()
        chosen = choose(asked.stored, request, unlearn, spec.method)
        state: Mapping[str, torch.Tensor] = chosen.state
        importance = asked.stored.importances
        about = {
            "method": chosen.method,
            "hyperparameters": dict(chosen.hyperparameters),
            "chosen": "by hand"
            if spec.method
            else f"by the photos, among {chosen.tried} points of {len(asked.stored.kit.methods)} "
            "methods that the kit had found",
            "score": chosen.score,
            "score_of_nothing": chosen.score_of_nothing,
        }
    else:
        method = _without_kit(spec, asked)
        found, protection = asked.run(method, None)
        protections.append(protection)
        if isinstance(found, NumericalError):
            raise InputError(f"{method.name} left the finite numbers: {found}")
        request, state, importance = asked.handed("choose", None).request(), found, None
        given = ", with hyperparameters of your own" if spec.hyperparameters else ""
        about = {
            "method": method.name,
            "hyperparameters": methods.hyperparameters(method),
            "chosen": f"by hand, without a kit: its default hyperparameters{given}",
            "score": None,
            "score_of_nothing": None,
        }
    about |= {"seed": asked.seed, "protection": protections[-1]}
    numbers = measured(request, state, importance)
    return _written(asked, state, about, numbers, chosen)


def factory_of(spec: EraseSpec) -> str:
    """What makes the network, where that is code of the user's, which must be loaded first.

    Raises:
        InputError: Kit or weights cannot be read.
    """
    if spec.model is not None:
        return spec.model.factory
    if spec.kit is not None:
        return read_kit(spec.kit).kit.described.model.factory
    described = read_weights(spec.weights).description
    return "" if described is None else described.model.factory


def _read(spec: EraseSpec) -> _Asked:
    require_free(spec.out)
    if not spec.photos.is_file():
        raise InputError(
            f"{spec.photos} is absent or no file: set photos to a table, .csv or .parquet, with "
            "the columns path, identity and labels"
        )
    stored = None if spec.kit is None else read_kit(spec.kit)
    weights = read_weights(spec.weights)
    if stored is not None:
        _require_same_model(stored, weights)
        described = stored.kit.described
    else:
        described = _described(spec, weights)
    require_fit(weights, described.network())
    photos, earlier = read_photos(spec.photos, described), earlier_of(weights)
    _require_new(photos, earlier)
    first = spec.seed if spec.seed is not None else 0 if stored is None else stored.kit.seed
    return _Asked(
        spec=spec,
        stored=stored,
        weights=weights,
        described=described,
        photos=photos,
        earlier=earlier,
        seed=request_seed(first, len(earlier.requests) + 1),
    )


def _require_same_model(stored: StoredKit, weights: Weights) -> None:
    kit = stored.kit
    if weights.first == kit.weights:
        return
    if weights.description is not None and not weights.description.same_as(kit.described):
        raise InputError(
            f"kit {stored.folder} is of another model than weights {weights.path}: its network is "
            f"{kit.described.model.title!r} with {len(kit.described.outputs)} outputs; name the "
            "kit that was made for them"
        )
    raise InputError(
        f"weights {weights.path} are not those that kit {stored.folder} was made for, and no "
        "request is written in them that led from there: name the kit that was made for them, or "
        "make one while the training data exist"
    )


def _described(spec: EraseSpec, weights: Weights) -> Described:
    """Without a kit: what the model is, as the weights or the user say."""
    if spec.model is None:
        if weights.description is None:
            raise InputError(
                "without a kit nothing says what the model is: set model, and outputs to the names "
                "of its classes if photos name them"
            )
        for name, said in (("outputs", spec.outputs), ("preprocessing", spec.variant)):
            if said:
                raise InputError(f"weights {weights.path} say their own {name}: leave {name} out")
        return weights.description
    task, attributes = labels_of(spec.photos)
    there = count_outputs(weights, spec.model)
    outputs = spec.outputs or attributes or tuple(map(str, range(there)))
    if len(outputs) != there:
        raise InputError(
            f"{len(outputs)} outputs are named ({', '.join(outputs)}), but the model in "
            f"{weights.path} has {there}: list them in the model's order"
        )
    found = Described(
        model=spec.model,
        task=task,
        outputs=outputs,
        variant=spec.variant or "corrected",
        source=code_of(spec.model),
    )
    if weights.description is not None and not weights.description.same_as(found):
        raise InputError(
            f"weights {weights.path} say of themselves another model than the command does: leave "
            "model, outputs and preprocessing out"
        )
    return found


def _require_new(photos: Photos, earlier: Earlier) -> None:
    for request in earlier.requests:
        for name, content in zip(photos.files, photos.contents, strict=True):
            if content in (request["photos"] or ()):
                raise InputError(
                    f"{name} was already in request {request['number']} of this model "
                    f"({request['date']}): remove its row"
                )


def _without_kit(spec: EraseSpec, asked: _Asked) -> Method:
    if not spec.method:
        able = ", ".join(
            name
            for name in methods.names()
            if methods.get(name).access is Access.SUPPORT and name != "pretrain"
        )
        raise InputError(
            "without a kit nothing tells which method suits the model: name one that needs nothing "
            f"but the photos, as in method={able.partition(', ')[0]} (of {able})"
        )
    method = methods.build(spec.method, spec.hyperparameters)
    require_usable(spec.method, method.access, methods.role_of(method))
    if method.access is Access.PREPARED:
        raise InputError(
            f"{spec.method} needs what it prepared while the training data existed: name the kit, "
            "or a method that needs nothing but the photos"
        )
    if isinstance(method, methods.CheckedMethod):
        try:
            method.check(asked.handed("choose", None).model.load(), asked.described.task)
        except InputError as error:
            raise InputError(f"{method.name} cannot be used on this model: {error}") from None
    return method


def _written(
    asked: _Asked,
    state: Mapping[str, torch.Tensor],
    about: Mapping[str, Any],
    numbers: Mapping[str, Any],
    chosen: Chosen | None,
) -> dict[str, Any]:
    spec, photos = asked.spec, asked.photos
    date = datetime.now(UTC).isoformat(timespec="seconds")
    request = {
        "number": asked.number,
        "date": date,
        "method": about["method"],
        "hyperparameters": about["hyperparameters"],
        "people": len(photos),
        "before": asked.weights.tensors,
        "after": hash_of(state),
        "photos": list(photos.contents),
    }
    requests = [*asked.earlier.requests, request]
    with written_whole(spec.out) as partial:
        steps = [step_of({"requests": [one]}) for one in requests]
        write_weights(state, partial / WEIGHTS, asked.described, steps)
        document = {
            "format": 1,
            "date": date,
            "request": asked.number,
            **asked.described.to_json(),
            "weights": {
                "before": {"sha256": asked.weights.sha256, "tensors": asked.weights.tensors},
                "after": {"sha256": file_hash(partial / WEIGHTS), "tensors": request["after"]},
            },
            "data_seen": _data_seen(asked, about["method"]),
            "method": dict(about),
            "measured": dict(numbers),
            "expected": _expected(asked, chosen),
            "not_measured": list(NOT_MEASURED),
            "notes": _notes(asked),
            "kit": _kit(asked),
            "requests": requests,
            "previous_certificate": asked.earlier.certificate,
            "made": origin_of(spec.device),
        }
        write_certificate(document, partial)
    return document


def _data_seen(asked: _Asked, method: str) -> dict[str, Any]:
    photos = zip(asked.photos.files, asked.photos.contents, strict=True)
    access = methods.get(method).access
    beside = "nothing" if access is Access.SUPPORT else "what the method prepared before deletion"
    return {
        "photos": [{"file": name, "sha256": content} for name, content in photos],
        "access": DATA_SEEN[access],
        "beside": beside,
    }


def _expected(asked: _Asked, chosen: Chosen | None) -> dict[str, Any] | None:
    if chosen is None or asked.stored is None:
        return None
    return {
        "chosen": chosen.expected,
        "nothing": chosen.expected_of_nothing,
        "is_shown_to_gain": chosen.is_shown_to_gain,
        "num_forget": asked.stored.kit.num_forget,
    }


def _kit(asked: _Asked) -> dict[str, Any] | None:
    if asked.stored is None:
        return None
    kit = asked.stored.kit
    return {
        "sha256": asked.stored.sha256,
        "weights": kit.weights,
        "data": dict(kit.data),
        "num_forget": kit.num_forget,
        "stale_by": asked.number - 1,
        "made": dict(kit.versions),
    }


def _notes(asked: _Asked) -> list[str]:
    """What weakens this request, a sentence each."""
    number, people = asked.number, len(asked.photos)
    found = []
    if asked.stored is None:
        found.append(
            "There was no kit: nobody has tried on this model what the method does to it, its "
            "hyperparameters were not fitted to it, and what it costs other people is unknown."
        )
    if number > 1:
        words = f"This is request {number} of this model"
        if asked.stored is not None:
            words += (
                "; preparations, importances and simulated requests are of the model before "
                f"request 1: they are stale by {several(number - 1, 'request')}"
            )
        found.append(f"{words}.")
    if asked.stored is not None and asked.stored.kit.num_forget != people:
        found.append(
            f"The kit was made for requests of {several(asked.stored.kit.num_forget, 'person')}; "
            f"this one has {people}, and expected effects are those of the former."
        )
    if any(one["photos"] is None for one in asked.earlier.requests):
        found.append(
            "Certificates of earlier requests were not beside the weights, so whether somebody "
            "asks a second time could not be seen."
        )
    return found


def request_of(certificate: Mapping[str, Any]) -> str:
    """The request in one sentence, for the terminal."""
    found = certificate["measured"]
    who = several(len(certificate["data_seen"]["photos"]), "person")
    loss, method = found["loss"], certificate["method"]["method"]
    return (
        f"request {certificate['request']} of this model: {who}, {method}; "
        f"loss on the photos {loss['before']:.4f} before, {loss['after']:.4f} after"
    )
