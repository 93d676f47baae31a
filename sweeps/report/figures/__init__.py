"""The figures of a sweep: one file per family, listed in ``catalogue``."""
