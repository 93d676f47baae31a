"""Finished sweeps as things to hand on, hold against each other, read together and clear away.

Reads plans and stores and runs nothing. Must not import torch, Ray or MLflow.
"""
