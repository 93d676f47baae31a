"""Synthetic faces: pictures of people who do not exist, and their labels in CelebA's names.

Nothing in this package imports torch or reads or writes a file.
"""

from __future__ import annotations

from oneshui.faces.drawing import render, render_relative
from oneshui.faces.labels import ATTRIBUTES, HIDDEN, picture_labels

__all__ = ["ATTRIBUTES", "HIDDEN", "picture_labels", "render", "render_relative"]
