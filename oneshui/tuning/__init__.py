"""Trying hyperparameters: simulated requests before deletion, a choice by S alone after it."""
