"""Runs the graph; Ray lives here and nowhere else."""
