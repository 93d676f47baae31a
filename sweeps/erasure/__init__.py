"""Making a kit and using it: the stages of a sweep, run for a model in use.

``preparing`` runs the jobs of studies in a store of its own, one after the other; ``erasing`` runs
a method behind walls on a real request. What a kit and a certificate are is in ``oneshui.erasure``.
"""
