"""The data of a cell: the dataset's annotations, its decoded images, its split."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from typing import TYPE_CHECKING, Any

import pandas as pd

from oneshui.data.contents import fingerprint, picture_contents
from oneshui.data.registry import load_dataset
from oneshui.spec import images_needed
from sweeps.graph.artifacts import (
    IDENTITIES,
    IMAGES,
    MEMORISATION,
    PIXELS,
    PREDICTIONS,
    SPLIT,
    SUPPORT,
)
from sweeps.graph.job import digest
from sweeps.stages.context import (
    PEOPLE_OF,
    JobContext,
    images,
    load_split,
    spec_of,
    write_split,
)
from sweeps.store.aside import make_room
from sweeps.store.status import PICTURES_ALONE

if TYPE_CHECKING:
    from oneshui.data.splits import Split
    from oneshui.data.table import ImageTable
    from oneshui.spec import ProgressCallback
    from sweeps.store import Store


def contents_of(
    table: ImageTable, store: Store, progress: ProgressCallback | None = None
) -> tuple[str, ...]:
    """The content hash of every picture, remembered in the store's folder for this machine.

    Args:
        table: The pictures.
        store: Whose folder.
        progress: Called with (done, total) where many pictures must be hashed.

    Raises:
        DataError: A picture cannot be read.
    """
    place = f"{socket.gethostname()} {table.root.resolve()}"
    name = hashlib.sha256(os.fsencode(place)).hexdigest()[:16]
    record = store.root / ".pictures" / name
    make_room(record.parent, for_folder=True)
    make_room(record)
    return picture_contents(table, record, progress=progress)


def index(context: JobContext) -> dict[str, Any]:
    """The dataset's images with their contents, identities and labels as its annotations say."""
    table = load_dataset(context.job.spec["layout"], context.env.data_folder(context.job.key))
    contents = contents_of(table, context.env.store)
    labels = table.label if table.label.ndim == 2 else table.label[:, None]
    columns = {"path": table.paths, "identity": table.identity, "label": list(labels)}
    pd.DataFrame({**columns, "content": contents}).to_parquet(context.folder / IMAGES, index=False)
    pd.DataFrame({"identity": table.identity_order}).to_parquet(
        context.folder / IDENTITIES, index=False
    )
    return {
        "fingerprint": fingerprint(table, contents),
        PICTURES_ALONE: digest(list(contents)),
        "task": table.task,
        "class_names": list(table.class_names),
        "num_images": len(table),
        "num_identities": len(set(table.identity.tolist())),
    }


def cache(context: JobContext) -> dict[str, Any]:
    """All images of a dataset, decoded to one size: those that were indexed and no others."""
    from oneshui.data.cache import build_cache
    from oneshui.errors import DataError

    index = context.entries["index"]
    folder = context.env.data_folder(index.key)
    table = load_dataset(spec_of(index)["layout"], folder)
    contents = pd.read_parquet(index.file(IMAGES), columns=["content"])["content"].tolist()
    if fingerprint(table, contents) != index.value["fingerprint"]:
        raise DataError(f"the annotations of {folder} changed while the sweep ran; start it again")
    spec = context.job.spec
    unfinished = context.env.store.unfinished(context.job)
    make_room(unfinished, for_folder=True)
    unfinished.mkdir(exist_ok=True)
    build_cache(
        table,
        spec["size"],
        context.folder / PIXELS,
        contents=contents,
        variant=spec["variant"],
        partial=unfinished / PIXELS,
    )
    shutil.rmtree(unfinished)
    return {"size": spec["size"], "num_images": len(table)}


def _draw(context: JobContext) -> Split:
    from oneshui.data.splits import make_split

    index, spec = context.entries["index"], context.job.spec
    reported = [
        json.loads(entry.file(SPLIT).read_text(encoding="utf-8"))["forget"]
        for entry in context.series.get("reported", ())
    ]
    return make_split(
        context.identities,
        pd.read_parquet(index.file(IDENTITIES))["identity"].tolist(),
        num_forget=spec["num_forget"],
        seed=spec["split_seed"],
        support_seed=spec["support_seed"],
        walk=spec["walk"],
        min_images=spec.get("min_images", images_needed(spec["num_forget"])),
        reserved=sorted({identity for forget in reported for identity in forget}),
        among=_by_memorisation(context) if "choose" in spec else None,
    )


def _by_memorisation(context: JobContext) -> list[int]:
    """The people of the pool, first those who are to be forgotten where memorisation says who."""
    path = context.entries["memorisation"].file(MEMORISATION)
    table = pd.read_parquet(path, columns=["identity", "memorisation"])
    sign = 1 if context.job.spec["choose"] == "forgettable" else -1
    ranked = sorted(zip(sign * table["memorisation"], table["identity"], strict=True))
    return [int(identity) for _, identity in ranked]


def _asking(context: JobContext) -> Split:
    """The split of those who ask at one time, of people who ask one after the other."""
    drawn, spec = load_split(context, "drawn"), context.job.spec
    if "order" not in spec:
        asking, gone = ([drawn.forget[at] for at in spec[name]] for name in ("people", "gone"))
        return drawn.part(asking, gone)
    order = _by_hardness(context, drawn)
    if spec["order"] == "easiest":
        order.reverse()
    return drawn.part(order[spec["first"] : spec["last"]], order[: spec["first"]])


def _by_hardness(context: JobContext, drawn: Split) -> list[int]:
    """The people who ask, first those whom the pretrained model knows best beyond retraining.

    By the gap of their score and, where it is equal, by that of their loss.
    """
    from oneshui.metrics.identities import per_identity

    pretrained, retrained = (
        predictions[predictions["set"] == "forget"]
        for predictions in (
            pd.read_parquet(context.entries[role].file(PREDICTIONS))
            for role in ("pretrained", "retrained")
        )
    )
    table = per_identity(pretrained, retrained, task=context.entries["index"].value["task"])
    table = table.set_index("identity").loc[list(drawn.forget)]
    gaps = zip(table["gap"], table["retrained_loss"] - table["loss"], table.index, strict=True)
    return [int(identity) for *_, identity in sorted(gaps, key=lambda one: (-one[0], -one[1]))]


def split(context: JobContext) -> dict[str, Any]:
    """Who is in which set, and the support set itself; of one request, if several were drawn."""
    from safetensors.torch import save_file

    from oneshui.data.splits import SET_NAMES

    index, spec = context.entries["index"], context.job.spec
    if "request" in spec:
        split = load_split(context, "drawn").request(spec["request"], spec["num_forget"])
    elif "drawn" in context.entries:
        split = _asking(context)
    else:
        split = _draw(context)
    write_split(split, context.folder)
    support = images(context, split, "support")
    save_file(
        {"images": support.raw(), "labels": support.labels, "identities": support.identities},
        context.folder / SUPPORT,
    )
    return {
        "fingerprint": split.fingerprint,
        "task": index.value["task"],
        "num_outputs": len(index.value["class_names"]),
        "num_images": {name: len(split.images(name)) for name in SET_NAMES},
        "num_identities": {name: len(getattr(split, name)) for name in PEOPLE_OF},
    }
