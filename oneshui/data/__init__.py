"""Datasets: loaders, the decoded cache, and the generator of faces."""
