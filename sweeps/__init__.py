"""The engine: from a sweep's configuration to its jobs, results, tables and MLflow view."""
