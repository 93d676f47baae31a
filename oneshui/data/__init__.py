"""Datasets: their loaders and registry, splits, crops, and the decoded cache."""
