"""The files of a set of drawn pictures, in each of the layouts that the loaders read.

What the files are called, which picture shows whom, and what the annotation files say; nothing is
written here. Imports neither torch nor pandas: the worker processes need only numpy and Pillow.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image

from oneshui.data.loaders import chestxray14, femnist
from oneshui.data.loaders.mufac import LETTERS
from oneshui.faces import ATTRIBUTES, picture_labels, render, render_relative
from oneshui.faces.chests import findings, render_chest
from oneshui.faces.families import (
    draw_relative,
    num_pictures,
    picture_age,
    picture_class,
)
from oneshui.faces.handwriting import picture_character, render_character
from oneshui.faces.parameters import IMAGE_ORDER, generator
from oneshui.spec import FacesSpec

ROOT: Final = "CelebAMask-HQ"
IMAGES: Final = f"{ROOT}/CelebA-HQ-img"
ANNOTATION: Final = f"{ROOT}/CelebAMask-HQ-attribute-anno.txt"
IDENTITY: Final = f"{ROOT}/CelebA-HQ-identity.txt"

CELEBA: Final = "celeba"
CELEBA_IMAGES: Final = f"{CELEBA}/img_align_celeba"
CELEBA_ANNOTATION: Final = f"{CELEBA}/list_attr_celeba.txt"
CELEBA_IDENTITY: Final = f"{CELEBA}/identity_CelebA.txt"
CELEBA_PARTITION: Final = f"{CELEBA}/list_eval_partition.txt"

MUFAC: Final = "mufac"
#: Annotation file and folder of each set, and the share of the pictures that are in it or before.
MUFAC_SETS: Final = (
    (f"{MUFAC}/custom_train_dataset.csv", f"{MUFAC}/train_images", 0.7),
    (f"{MUFAC}/custom_val_dataset.csv", f"{MUFAC}/val_images", 0.85),
    (f"{MUFAC}/custom_test_dataset.csv", f"{MUFAC}/test_images", 1.0),
)
MUFAC_HEADER: Final = "family_id,person_id,age_class,image_path"

CHEST_TABLE: Final = f"{chestxray14.FOLDER}/{chestxray14.TABLES[0]}"
CHEST_IMAGES: Final = f"{chestxray14.FOLDER}/{chestxray14.IMAGES}"
#: Brackets with commas and all: they are four columns.
CHEST_HEADER: Final = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)

_JPEG_QUALITY: Final = 92


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of a set.

    Attributes:
        path: Its file, relative to the set's folder.
        identity: Whom it shows, from 0.
        picture: Which of that identity's pictures it is, from 0.
    """

    path: str
    identity: int
    picture: int


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a set lies on disk.

    Attributes:
        folders: The folders that hold files, relative to the set's own; those of pictures need not
            be among them.
        table_files: The annotation files.
        pictures: All pictures of a set in the layout's order.
        tables: Text of every annotation file, given all pictures.
        content: The file of one picture, which depends on nothing else in the set.
    """

    folders: tuple[str, ...]
    table_files: tuple[str, ...]
    pictures: Callable[[FacesSpec], list[Picture]]
    tables: Callable[[FacesSpec, Sequence[Picture]], dict[str, str]]
    content: Callable[[FacesSpec, int, int], bytes]


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def picture_jpeg(spec: FacesSpec, identity: int, picture: int) -> bytes:
    """The JPEG file of one picture of a set in CelebA-HQ's layout.

    Args:
        spec: Which set.
        identity: Whose picture, 0 to spec.identities - 1.
        picture: Which of that identity's pictures, 0 to spec.pictures - 1.
    """
    return _encoded(render(spec.seed, identity, picture, (spec.size, spec.size)))


def _scattered(spec: FacesSpec, name: Callable[[int], str]) -> list[Picture]:
    """All pictures by number; as in the real sets, an identity's pictures are scattered."""
    order = generator(spec.seed, IMAGE_ORDER).permutation(spec.num_images).tolist()
    return [
        Picture(path=name(number), identity=place // spec.pictures, picture=place % spec.pictures)
        for number, place in enumerate(order)
    ]


def _file(picture: Picture) -> str:
    return picture.path.rpartition("/")[2]


def _celebahq_pictures(spec: FacesSpec) -> list[Picture]:
    return _scattered(spec, lambda number: f"{IMAGES}/{number}.jpg")


def _celebahq_tables(spec: FacesSpec, pictures: Sequence[Picture]) -> dict[str, str]:
    labels = [f"{len(pictures)}\n{' '.join(ATTRIBUTES)}\n"]
    for item in pictures:
        values = picture_labels(spec.seed, item.identity, item.picture)
        row = " ".join("1" if value else "-1" for value in values)
        labels.append(f"{_file(item)}  {row}\n")
    return {
        ANNOTATION: "".join(labels),
        IDENTITY: "".join(f"{_file(item)} {item.identity}\n" for item in pictures),
    }


def _celeba_pictures(spec: FacesSpec) -> list[Picture]:
    return _scattered(spec, lambda number: f"{CELEBA_IMAGES}/{number + 1:06d}.jpg")


def _celeba_tables(spec: FacesSpec, pictures: Sequence[Picture]) -> dict[str, str]:
    labels = [f"{len(pictures)}\n{' '.join(ATTRIBUTES)} \n"]
    partition = []
    for place, item in enumerate(pictures):
        values = picture_labels(spec.seed, item.identity, item.picture)
        row = " ".join(" 1" if value else "-1" for value in values)
        labels.append(f"{_file(item)} {row}\n")
        share = place / len(pictures)
        partition.append(f"{_file(item)} {int(share >= 0.8) + int(share >= 0.9)}\n")
    return {
        CELEBA_ANNOTATION: "".join(labels),
        CELEBA_IDENTITY: "".join(f"{_file(item)} {item.identity + 1}\n" for item in pictures),
        CELEBA_PARTITION: "".join(partition),
    }


def celeba_jpeg(spec: FacesSpec, identity: int, picture: int) -> bytes:
    """As ``picture_jpeg``, in CelebA's proportions: 178 to 218, 178 x 218 at size 218."""
    size = (round(spec.size * 178 / 218), spec.size)
    return _encoded(render(spec.seed, identity, picture, size))


def _mufac_pictures(spec: FacesSpec) -> list[Picture]:
    made = []
    rng = generator(spec.seed, IMAGE_ORDER)
    for identity in range(spec.identities):
        person = draw_relative(spec.seed, identity)
        for picture in range(num_pictures(spec.seed, identity, spec.pictures)):
            # Drawn per picture: as in the real set, a person is in several of the three sets.
            draw = rng.random()
            folder = next(folder for _, folder, share in MUFAC_SETS if draw < share)
            age = picture_age(spec.seed, identity, picture)
            name = f"F{person.family + 1:04d}_AGE_{person.code}_{age}_a{picture + 1}.jpg"
            made.append(Picture(path=f"{folder}/{name}", identity=identity, picture=picture))
    return made


def _mufac_tables(spec: FacesSpec, pictures: Sequence[Picture]) -> dict[str, str]:
    tables = {}
    for table, folder, _ in MUFAC_SETS:
        rows = [MUFAC_HEADER]
        for item in pictures:
            if item.path.startswith(f"{folder}/"):
                person = draw_relative(spec.seed, item.identity)
                letter = LETTERS[picture_class(spec.seed, item.identity, item.picture)]
                rows.append(f"F{person.family + 1:04d},{person.code},{letter},{_file(item)}")
        tables[table] = "\n".join(rows) + "\n"
    return tables


def mufac_jpeg(spec: FacesSpec, identity: int, picture: int) -> bytes:
    """As ``picture_jpeg``, of a member of a family at the age of that picture."""
    return _encoded(render_relative(spec.seed, identity, picture, (spec.size, spec.size)))


def _chest_pictures(spec: FacesSpec) -> list[Picture]:
    return [
        Picture(
            path=f"{CHEST_IMAGES}/{identity + 1:08d}_{picture:03d}.png",
            identity=identity,
            picture=picture,
        )
        for identity in range(spec.identities)
        for picture in range(spec.pictures)
    ]


def _chest_tables(spec: FacesSpec, pictures: Sequence[Picture]) -> dict[str, str]:
    rows = [CHEST_HEADER]
    for item in pictures:
        found = "|".join(findings(spec.seed, item.identity, item.picture)) or chestxray14.NOTHING
        about = f"{item.picture},{item.identity + 1},57,M,PA,{spec.size},{spec.size},0.143,0.143"
        rows.append(f"{_file(item)},{found},{about}")
    return {CHEST_TABLE: "\n".join(rows) + "\n"}


def chest_png(spec: FacesSpec, identity: int, picture: int) -> bytes:
    """The PNG file of one chest X-ray; ``picture_jpeg`` tells the arguments."""
    return _png(render_chest(spec.seed, identity, picture, spec.size))


def _character_pictures(spec: FacesSpec) -> list[Picture]:
    """Every picture twice, by writer and by class, as NIST's two archives have them."""
    made, written = [], [0] * len(femnist.CLASSES)
    for identity in range(spec.identities):
        # What NIST calls a writer: a number and that of the form's text.
        name = f"{identity:04d}_{identity % 50:02d}"
        for picture in range(spec.pictures):
            shown = picture_character(spec.seed, identity, picture)
            kind = "d" if shown < 10 else "u" if shown < 36 else "l"
            code, number = femnist.CODES[shown], written[shown]
            written[shown] += 1
            paths = (
                f"{femnist.BY_WRITER}/hsf_0/f{name}/{kind}{name}/{kind}{name}_{picture:05d}.png",
                f"{femnist.BY_CLASS}/{code}/hsf_0/hsf_0_{number:05d}.png",
            )
            made += [
                Picture(path=f"{femnist.FOLDER}/{path}", identity=identity, picture=picture)
                for path in paths
            ]
    return made


def _no_tables(_: FacesSpec, __: Sequence[Picture]) -> dict[str, str]:
    return {}


def character_png(spec: FacesSpec, identity: int, picture: int) -> bytes:
    """The PNG file of one character; ``picture_jpeg`` tells the arguments."""
    return _png(render_character(spec.seed, identity, picture, spec.size))


LAYOUTS: Final[Mapping[str, Layout]] = {
    "celebahq": Layout(
        folders=(ROOT, IMAGES),
        table_files=(ANNOTATION, IDENTITY),
        pictures=_celebahq_pictures,
        tables=_celebahq_tables,
        content=picture_jpeg,
    ),
    "celeba": Layout(
        folders=(CELEBA, CELEBA_IMAGES),
        table_files=(CELEBA_ANNOTATION, CELEBA_IDENTITY, CELEBA_PARTITION),
        pictures=_celeba_pictures,
        tables=_celeba_tables,
        content=celeba_jpeg,
    ),
    "mufac": Layout(
        folders=(MUFAC, *(folder for _, folder, _ in MUFAC_SETS)),
        table_files=tuple(table for table, _, _ in MUFAC_SETS),
        pictures=_mufac_pictures,
        tables=_mufac_tables,
        content=mufac_jpeg,
    ),
    "chestxray14": Layout(
        folders=(chestxray14.FOLDER, CHEST_IMAGES),
        table_files=(CHEST_TABLE,),
        pictures=_chest_pictures,
        tables=_chest_tables,
        content=chest_png,
    ),
    "femnist": Layout(
        folders=(femnist.FOLDER,),
        table_files=(),
        pictures=_character_pictures,
        tables=_no_tables,
        content=character_png,
    ),
}
