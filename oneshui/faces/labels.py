"""The 40 labels of a picture, in CelebA's names and order.

33 are read off what is drawn. Seven are hidden: drawn once per identity, from random numbers
that nothing else uses, so that only who knows the identity can know them. One percent of all
labels is wrong, picture by picture. Imports numpy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from oneshui.faces.parameters import (
    HIDDEN_LABELS,
    LABEL_NOISE,
    SHOT,
    STRAIGHT_STYLES,
    WAVY_STYLES,
    Looks,
    Shot,
    draw_looks,
    draw_shot,
    generator,
)

ATTRIBUTES: Final[tuple[str, ...]] = (
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
)
HIDDEN: Final[tuple[str, ...]] = (
    "Attractive",
    "Bags_Under_Eyes",
    "Chubby",
    "Double_Chin",
    "High_Cheekbones",
    "Pointy_Nose",
    "Young",
)
#: How often a hidden label is 1 among the identities.
HIDDEN_PROBABILITY: Final = 0.4
#: How often a label of a picture says the opposite of what it should.
FLIP_PROBABILITY: Final = 0.01


def visible_labels(looks: Looks, shot: Shot) -> dict[str, bool]:
    """The 33 labels that can be read off a picture, by name and without errors."""
    haired = looks.style != "bald"
    bare_headed = shot.hat is None
    stubble = looks.beard == "stubble" or shot.unshaven
    return {
        "5_o_Clock_Shadow": stubble,
        "Arched_Eyebrows": looks.brow_arch > 0.11,
        "Bald": not haired and bare_headed,
        "Bangs": looks.bangs and haired and bare_headed,
        "Big_Lips": looks.lip_thickness > 0.1,
        "Big_Nose": looks.nose_width > 0.205,
        "Black_Hair": haired and looks.hair == "black",
        "Blond_Hair": haired and looks.hair == "blond",
        "Blurry": shot.blur > 0,
        "Brown_Hair": haired and looks.hair == "brown",
        "Bushy_Eyebrows": looks.brow_thickness > 0.095,
        "Eyeglasses": shot.glasses is not None,
        "Goatee": looks.beard == "goatee",
        "Gray_Hair": haired and looks.hair == "gray",
        "Heavy_Makeup": shot.makeup,
        "Male": looks.male,
        "Mouth_Slightly_Open": shot.mouth_open > 0,
        "Mustache": looks.beard in {"moustache", "full"},
        "Narrow_Eyes": looks.eye_opening < 0.34 or shot.squint > 0,
        "No_Beard": looks.beard == "none" and not stubble,
        "Oval_Face": looks.face_height / looks.face_width > 1.28 and looks.jaw < 0.86,
        "Pale_Skin": looks.skin < 0.12,
        "Receding_Hairline": looks.recession > 0 and haired and bare_headed,
        "Rosy_Cheeks": shot.rosy,
        "Sideburns": looks.sideburns and haired,
        "Smiling": shot.smile > 0.3,
        "Straight_Hair": looks.style in STRAIGHT_STYLES,
        "Wavy_Hair": looks.style in WAVY_STYLES,
        "Wearing_Earrings": shot.earrings is not None,
        "Wearing_Hat": shot.hat is not None,
        "Wearing_Lipstick": shot.lipstick is not None,
        "Wearing_Necklace": shot.necklace is not None,
        "Wearing_Necktie": shot.tie is not None,
    }


@lru_cache(maxsize=4096)
def hidden_labels(seed: int, identity: int) -> Mapping[str, bool]:
    """The seven labels of an identity that nothing drawn depends on, by name, without errors."""
    drawn = generator(seed, HIDDEN_LABELS, identity).random(len(HIDDEN)) < HIDDEN_PROBABILITY
    return dict(zip(HIDDEN, drawn.tolist(), strict=True))


def true_labels(seed: int, identity: int, picture: int) -> tuple[bool, ...]:
    """The 40 labels of a picture in the order of ATTRIBUTES, before any is flipped."""
    looks = draw_looks(seed, identity)
    shot = draw_shot(generator(seed, SHOT, identity, picture), looks)
    named = {**visible_labels(looks, shot), **hidden_labels(seed, identity)}
    return tuple(named[name] for name in ATTRIBUTES)


def picture_labels(seed: int, identity: int, picture: int) -> tuple[bool, ...]:
    """The 40 labels that a set's annotation gives a picture, in the order of ATTRIBUTES.

    Args:
        seed: The seed of the set, >= 0.
        identity: Whose picture, >= 0.
        picture: Which picture of that identity, >= 0.
    """
    noise = generator(seed, LABEL_NOISE, identity, picture).random(len(ATTRIBUTES))
    wrong = (noise < FLIP_PROBABILITY).tolist()
    return tuple(
        label != flip
        for label, flip in zip(true_labels(seed, identity, picture), wrong, strict=True)
    )
