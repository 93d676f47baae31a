"""A request as it comes in: a table of photos, one of each person who asks to be forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from oneshui.data.cache import Variant, decode
from oneshui.data.contents import content_hash, read_file
from oneshui.data.images import make_images
from oneshui.data.loaders.own_table import load_photos
from oneshui.data.pictures import read_rgb
from oneshui.erasure.weights import Described
from oneshui.errors import DataError, InputError
from oneshui.requests import SupportSet


@dataclass(frozen=True, kw_only=True)
class Photos:
    """The people of one request.

    Attributes:
        support: S, in the table's order.
        files: Names of the photos, as the table has them.
        contents: sha256 of each photo's file.
    """

    support: SupportSet
    files: tuple[str, ...]
    contents: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)


def read_photos(path: Path, described: Described) -> Photos:
    """Read a request.

    Args:
        path: A table with the columns path, identity and the labels of the model's outputs.
        described: The model.

    Raises:
        InputError: The table or a photo cannot be read; a photo is smaller than the model's input;
            labels do not fit; somebody has two photos, or a photo two people.
    """
    table = load_photos(path, described.task, described.outputs)
    first: dict[int, str] = {}
    for name, identity in zip(table.paths, table.identity.tolist(), strict=True):
        if identity in first:
            raise InputError(
                f"{path}: {first[identity]} and {name} stand under one identity, but a request has "
                "one photo of each person: remove one, or give the second person another identity"
            )
        first[identity] = name
    files = [read_file(table.root / name) for name in table.paths]
    contents = [content_hash(content) for content in files]
    for place, content in enumerate(contents):
        if content in contents[:place]:
            earlier = table.paths[contents.index(content)]
            raise InputError(
                f"{path}: {earlier} and {table.paths[place]} are the same picture under two "
                "identities, so one person asks twice: remove one of the two rows"
            )
    size = described.model.image_size
    pixels = np.stack(
        [
            _decoded(table.root / name, content, size, described.variant)
            for name, content in zip(table.paths, files, strict=True)
        ]
    )
    chosen = make_images(pixels, table.label, table.identity, np.arange(len(files)))
    support = SupportSet(images=chosen.raw(), labels=chosen.labels, identities=chosen.identities)
    return Photos(support=support, files=table.paths, contents=tuple(contents))


def _decoded(path: Path, content: bytes, size: int, variant: Variant) -> npt.NDArray[np.uint8]:
    try:
        width, height = read_rgb(content).size
        pixels = decode(content, size, variant)
    except DataError as error:
        raise InputError(f"{path} cannot be read as a picture: {error}") from None
    if min(width, height) < size:
        raise InputError(
            f"{path} has {width}x{height} pixels, fewer than the {size}x{size} that the model "
            "looks at: ask for a larger photo"
        )
    return pixels
