"""How good a model is (``scores``) and how close to retraining it comes (``tow``)."""

from oneshui.metrics.registry import Predicted, measure

__all__ = ["Predicted", "measure"]
