"""Names of the files that the stages put into the store, for whoever reads them there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

IMAGES = "images.parquet"
"""Of an index: path, identity, label and content hash of every image."""
IDENTITIES = "identities.parquet"
"""Of an index: all identities in the dataset's order."""
PIXELS = "images.npy"
"""Of a cache: the decoded images."""
SPLIT = "split.json"
"""Of a split: the identities of its sets and the support images."""
SUPPORT = "support.safetensors"
"""Of a split: S itself, the only images that are left after deletion."""
WEIGHTS = "weights.safetensors"
PREPARED = "prepared.safetensors"
"""What a method keeps from before deletion."""
REQUESTS = "requests.json"
"""The simulated requests of a cell."""
IMPORTANCES = "importances.safetensors"
"""How much every weight of the pretrained model matters, what movement is measured in."""
PREDICTIONS = "predictions.parquet"
VIEWS = "views.parquet"
"""Losses of augmented views, what the relative attack compares."""
FEATURES = "features.safetensors"
PER_IDENTITY = "per_identity.parquet"
"""Forget identities with their score, the retrained model's and the gap."""
RETAIN = "retain.parquet"
"""Retain identities with their score, the pretrained model's and the drop."""
ATTRIBUTES = "attributes.parquet"
ROC = "roc.parquet"
PLUGINS = "plugins"
"""In the value of a score: how the measures of plugins are to be shown, by key."""
PEOPLE = "people.parquet"
"""Measures of a row over resamples of the people whom it is judged on, a line per resample."""
KNOWN = "known.parquet"
"""How well a model knows people, by identity."""
MEMORISATION = "memorisation.parquet"
"""How much better models that were trained on a person know them than models that were not."""
LIKELIHOOD = "likelihood.parquet"
"""What the likelihood audit says of every person of the pool."""
LIKELIHOOD_ROC = "likelihood_roc.parquet"
"""Its curve with the band of its resamples."""
COMPLETENESS = "completeness.parquet"
"""How completely each forgotten person is forgotten."""
Without = Literal["weights", "images"]
"""What an archive may leave out."""
LEFT_OUT: Mapping[Without, frozenset[str]] = {
    "weights": frozenset({WEIGHTS, PREPARED, IMPORTANCES}),
    "images": frozenset({PIXELS, SUPPORT}),
}
"""Files that no table is made of, by what they hold."""
