"""The one door between the engine and the benchmark: what each kind of job does.

A stage reads its inputs from the store, calls oneshui, and writes files into the job's draft. Runs
in a worker.
"""
