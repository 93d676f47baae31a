"""Attacks that try to tell whether a picture was trained on."""
