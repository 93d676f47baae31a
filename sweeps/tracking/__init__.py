"""MLflow's view of a sweep: what the store holds, in runs that people can sort and chart."""

from sweeps.tracking.publisher import Publisher

__all__ = ["Publisher"]
