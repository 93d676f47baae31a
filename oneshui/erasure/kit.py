"""What is kept of the training data for the day on which somebody asks: numbers, no picture.

A kit is a folder: ``kit.json``, the importance of every weight, and what each method prepared. It
is written whole or not at all, and nothing in it is believed that does not agree with its hashes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from oneshui.erasure.folder import written_whole
from oneshui.erasure.weights import Described, file_hash
from oneshui.errors import InputError
from oneshui.tuning.score import Run, Scores, TrialScores, candidates, from_stored, simulated_tow

FORMAT = 1
DOCUMENT = "kit.json"
IMPORTANCES = "importances.safetensors"
_SEAL = "sha256"


@dataclass(frozen=True, kw_only=True)
class KitMethod:
    """A method of a kit, with its study.

    Attributes:
        name: Of the row; a method may have several.
        method: Of the method.
        source: Hash over its code.
        fixed: Hyperparameters that did not vary.
        trials: Points with their simulated score and runs, as the trials' jobs return them; a
            point of null is leaving the model as it is.
        nothing: Place of the trial that leaves the model as it is.
        prepared: Name of the file of what the method prepared; None if it prepares nothing.
    """

    name: str
    method: str
    source: str
    fixed: Mapping[str, Any]
    trials: tuple[Mapping[str, Any], ...]
    nothing: int
    prepared: str | None

    def hyperparameters(self, point: int) -> dict[str, Any]:
        """All of them, at a point."""
        return {**self.fixed, **(self.trials[point]["point"] or {})}


@dataclass(frozen=True, kw_only=True)
class Kit:
    """All that is kept.

    Attributes:
        described: The model.
        weights: Hash of its tensors.
        weights_sha256: sha256 of the file that they came in.
        data: What the training data were: hash, numbers of pictures and people, and who was held
            out, in words.
        num_forget: People in a request that it was prepared for.
        seed: Of everything random.
        tuning: How the studies were done.
        simulated: What the pretrained model made of the simulated requests, as the job that drew
            them returns it.
        methods: In the user's order.
        versions: With what it was made.
    """

    described: Described
    weights: str
    weights_sha256: str
    data: Mapping[str, Any]
    num_forget: int
    seed: int
    tuning: Mapping[str, Any]
    simulated: Mapping[str, Any]
    methods: tuple[KitMethod, ...]
    versions: Mapping[str, str]

    @property
    def val_score(self) -> float:
        """What the pretrained model scores on people whom it never saw."""
        return from_stored(self.simulated["val_score"])

    def study(self, method: KitMethod) -> TrialScores:
        """A method's study."""
        return TrialScores.from_json(method.trials, 0, self.simulated)

    def candidates(self, method: KitMethod, *, is_asked_for: bool = False) -> list[int]:
        """The points of a method that are to be run on a real request.

        Args:
            method: One of the kit's.
            is_asked_for: Whether somebody wants this method, shown to gain or not; then doing
                nothing is none of the points.
        """
        study, carried = self.study(method), self.tuning["carried"]
        simulated = [trial["simulated"] for trial in method.trials]
        if not is_asked_for:
            return candidates([study], simulated, carried, nothing=method.nothing)
        # Without the one that does nothing there are as many as are carried.
        found = candidates([study], simulated, carried + 1)
        return [point for point in found if point != method.nothing]

    def expected(self, method: KitMethod, point: int) -> dict[str, Any]:
        """What the point did to the simulated requests: mean, spread and every request by itself.

        ``tow`` is the simulated ToW; ``forget``, ``retain`` and ``val`` are changes of the score on
        the pictures to forget, on others' and on people whom the model never saw. Scores are mAP
        or accuracy as fractions; the spread is the standard deviation over requests.
        """
        runs = self.study(method).runs[point]
        if not all(run.is_finite for run in runs):
            return {"requests": len(runs), "is_finite": False}
        each = {
            "tow": [simulated_tow([run], self.val_score) for run in runs],
            "forget": [run.after.forget - run.before.forget for run in runs],
            "retain": [run.after.retain - run.before.retain for run in runs],
            "val": [run.after.val - run.before.val for run in runs],
            "movement": [run.movement for run in runs],
        }
        return {
            "requests": len(runs),
            "is_finite": True,
            **{name: _summary(values) for name, values in each.items()},
        }

    def to_json(self) -> dict[str, Any]:
        """As it is written."""
        document = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("described", "methods")
        }
        methods = []
        for method in self.methods:
            shown = self.candidates(method)
            expected = {str(p): self.expected(method, p) for p in {*shown, method.nothing}}
            methods.append({**dataclasses.asdict(method), "expected": expected})
        return {"format": FORMAT, **document, **self.described.to_json(), "methods": methods}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Kit:
        """What ``to_json`` wrote."""
        names = [one.name for one in dataclasses.fields(cls)]
        own = {name: document[name] for name in names if name not in ("described", "methods")}
        methods = tuple(
            KitMethod(
                **{one.name: method[one.name] for one in dataclasses.fields(KitMethod)}
                | {"trials": tuple(method["trials"])}
            )
            for method in document["methods"]
        )
        return cls(described=Described.from_json(document), methods=methods, **own)


def _summary(values: Sequence[float]) -> dict[str, Any]:
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "spread": spread, "each": list(values)}


def with_nothing(
    trials: Sequence[Mapping[str, Any]], simulated: Mapping[str, Any], nothing: int | None
) -> tuple[tuple[Mapping[str, Any], ...], int]:
    """A study in which one point leaves the model as it is, and the place of that point.

    What it does is known without a run: the scores are those before, and nothing moves.

    Args:
        trials: As the trials' jobs return them.
        simulated: As the job returns it that drew the requests.
        nothing: Place of a trial that does nothing; None if none does.
    """
    if nothing is not None:
        return tuple(trials), nothing
    before = [Scores.from_json(scores) for scores in simulated["before"]]
    runs = [Run(before=scores, after=scores, movement=0.0) for scores in before]
    idle = {
        "point": None,
        "simulated": simulated_tow(runs, from_stored(simulated["val_score"])),
        "runs": [[run.to_json() for run in runs]],
    }
    return (*trials, idle), len(trials)


def write_kit(kit: Kit, folder: Path, files: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
    """Write a kit, whole or not at all.

    Args:
        kit: What is kept.
        folder: Where; it must not be there yet.
        files: Tensors by name, by name of their file.
    """
    with written_whole(folder, mode=0o700) as partial:
        for name, tensors in files.items():
            save_file({n: t.contiguous() for n, t in tensors.items()}, partial / name)
        hashes = {name: file_hash(partial / name) for name in sorted(files)}
        document = {**kit.to_json(), "files": hashes}
        text = json.dumps({**document, _SEAL: _seal(document)}, indent=1) + "\n"
        (partial / DOCUMENT).write_text(text, encoding="utf-8")


def _seal(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class StoredKit:
    """A kit on disk, whose files are as they were written.

    Attributes:
        folder: Where it is.
        sha256: Over all that it says.
        kit: What it says.
    """

    folder: Path
    sha256: str
    kit: Kit

    @property
    def importances(self) -> dict[str, torch.Tensor]:
        """How much every weight of the pretrained model mattered, by name."""
        return load_file(self.folder / IMPORTANCES)

    def prepared(self, method: KitMethod) -> Path | None:
        """The file of what a method prepared."""
        return None if method.prepared is None else self.folder / method.prepared


def read_kit(folder: Path) -> StoredKit:
    """Read a kit and compare all its files with what they were.

    Raises:
        InputError: There is none, it is damaged, or another version of oneshui wrote it.
    """
    path = folder / DOCUMENT
    try:
        document = json.loads(path.read_bytes())
        seal, files = document.pop(_SEAL), document["files"]
        if document["format"] != FORMAT:
            raise InputError(
                f"kit {folder} was written by another version of oneshui (format "
                f"{document['format']}, not {FORMAT}): use the version that wrote it"
            )
        kit = Kit.from_json(document) if seal == _seal(document) else None
    except OSError as error:
        raise InputError(
            f"kit {folder} cannot be read ({error.strerror}): name the folder that prepare wrote, "
            f"with {DOCUMENT} in it"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        kit = None
    if kit is None:
        raise _damaged(folder, DOCUMENT)
    for name, sha256 in files.items():
        try:
            is_whole = Path(name).name == name and file_hash(folder / name) == sha256
        except OSError:
            is_whole = False
        if not is_whole:
            raise _damaged(folder, name)
    return StoredKit(folder=folder, sha256=seal, kit=kit)


def _damaged(folder: Path, name: str) -> InputError:
    return InputError(
        f"kit {folder} is damaged: {name} is not as it was written; take a copy of the kit that is"
    )
