"""The likelihood audit: how well models know the people of a pool, and who can tell what was done.

Runs in a worker; must not import Ray or MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from oneshui.errors import NumericalError
from oneshui.seeding import derive_seed
from sweeps.graph.artifacts import KNOWN, LIKELIHOOD, LIKELIHOOD_ROC, MEMORISATION, SPLIT
from sweeps.stages.context import JobContext, device, images, load_split, stored_model
from sweeps.store import Entry


def examine(context: JobContext) -> dict[str, Any]:
    """How well a model knows each of the people who ask in a split, from all their pictures but S.

    Returns:
        "people" and "images", how many there were; ``KNOWN`` holds a line per person: "identity",
        "images" (their number) and "phi" (``oneshui.audits.likelihood.person_scores``).

    Raises:
        NumericalError: A logit is not finite.
    """
    from oneshui.audits.likelihood import person_scores
    from oneshui.training.predict import predict_logits

    data = images(context, load_split(context), "forget")
    model = stored_model(context, "weights")
    logits = context.timed(
        "method_seconds", lambda: predict_logits(model, data, device=device(context))
    ).numpy()
    odd = int((~np.isfinite(logits)).any(axis=1).sum())
    if odd:
        raise NumericalError(
            f"{odd} of {len(data)} images of the pool have logits that are not finite: the "
            "unlearning step was too large"
        )
    identities = data.identities.numpy()
    people, phi = person_scores(
        logits, data.labels.numpy(), identities, context.entries["split"].value["task"]
    )
    _, counts = np.unique(identities, return_counts=True)
    table = pd.DataFrame({"identity": people, "images": counts, "phi": phi})
    table.to_parquet(context.folder / KNOWN, index=False)
    return {"people": len(people), "images": len(data)}


@dataclass(frozen=True, kw_only=True)
class _Pool:
    """Who is in which model of a pool of A people and K models.

    Attributes:
        people: Identities in the order in which they were drawn.
        images: Pictures by which each person is examined, int64 [A].
        seen: Whether a model was trained on a person, bool [K, A].
        asked: Whether it was asked to forget them, bool [K, A].
        before: How well each model knows each person, float64 [K, A].
    """

    people: tuple[int, ...]
    images: npt.NDArray[np.int64]
    seen: npt.NDArray[np.bool_]
    asked: npt.NDArray[np.bool_]
    before: npt.NDArray[np.float64]


def _pool(context: JobContext) -> _Pool:
    parts = context.series["parts"]
    people = tuple(_split_document(context.entries["split"])["forget"])
    documents = [_split_document(entry) for entry in parts]
    first = pd.read_parquet(context.series["before"][0].file(KNOWN)).set_index("identity")
    return _Pool(
        people=people,
        images=first.loc[list(people), "images"].to_numpy(dtype=np.int64),
        seen=np.array([np.isin(people, one["train"]) for one in documents]),
        asked=np.array([np.isin(people, one["forget"]) for one in documents]),
        before=_known(context.series["before"], people),
    )


def _split_document(entry: Entry) -> dict[str, list[int]]:
    document: dict[str, list[int]] = json.loads(entry.file(SPLIT).read_text(encoding="utf-8"))
    return document


def _known(examined: Sequence[Entry], people: Sequence[int]) -> npt.NDArray[np.float64]:
    """How well each model knows each person, float64 [K, A]; NaN where nobody looked."""
    tables = [pd.read_parquet(entry.file(KNOWN)).set_index("identity") for entry in examined]
    return np.array([table["phi"].reindex(list(people)).to_numpy() for table in tables])


def lira(context: JobContext) -> dict[str, Any]:
    """Whether it can be told of a person that a model was trained on them, after they asked.

    Returns:
        The columns of the results (``oneshui.audits.likelihood.Audit.values``). ``LIKELIHOOD``
        holds a line per person of the pool: "identity", "images", "memorisation", "forgetting",
        "privacy_auc" and "efficacy_auc"; ``LIKELIHOOD_ROC`` both curves with their bands.
    """
    from oneshui.audits.likelihood import audit

    pool = _pool(context)
    found = audit(
        pool.before,
        np.where(pool.asked, _known(context.series["after"], pool.people), np.nan),
        pool.seen,
        pool.asked,
        seed=derive_seed(context.job.spec["seed"], "likelihood audit"),
    )
    people = found.people(np.array(pool.people))
    people.insert(1, "images", pool.images)
    people.to_parquet(context.folder / LIKELIHOOD, index=False)
    found.curves().to_parquet(context.folder / LIKELIHOOD_ROC, index=False)
    return found.values()


def memorisation(context: JobContext) -> dict[str, Any]:
    """How much better the models that were trained on a person know them than the others do.

    Returns:
        "people" and "models", how many there were, and "mean" over the people. ``MEMORISATION``
        holds a line per person, in the order in which they were drawn: "identity", "images" and
        "memorisation" in log-odds (Feldman, "Does Learning Require Memorization?", 2020).
    """
    from oneshui.audits import likelihood

    pool = _pool(context)
    found = likelihood.memorisation(pool.before, pool.seen)
    table = pd.DataFrame({"identity": pool.people, "images": pool.images, "memorisation": found})
    table.to_parquet(context.folder / MEMORISATION, index=False)
    return {
        "people": len(pool.people),
        "models": len(pool.seen),
        "mean": float(found.mean()),
    }
