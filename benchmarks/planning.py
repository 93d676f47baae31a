"""What a plan of 100,000 jobs takes, beside hashing every job's document once.

    python benchmarks/planning.py [SEEDS]

Plans the demo for SEEDS seeds (185) and eight forget sizes, in this process: the configuration, the
graph with all keys, and the peak memory of both. The plain way knows the graph already and hashes
each job's document once with json and hashlib, which is the least that a key takes. The last line
is one JSON object.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from sweeps.config import load
from sweeps.graph.plan import expand

SECONDS, MEGABYTES = 15.0, 300.0


def main() -> None:
    """Plan, hash, compare."""
    seeds = ",".join(map(str, range(int(sys.argv[1]) if len(sys.argv) > 1 else 185)))
    began = time.perf_counter()
    sizes = "sweep.forget_sizes=[1,2,3,4,5,6,7,8]"
    sweep = load(["sweep=demo", f"sweep.seeds=[{seeds}]", sizes]).sweep
    loaded = time.perf_counter()
    jobs = expand(sweep).jobs
    planned = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for job in jobs.values():
        document = json.dumps(job.identity, sort_keys=True, separators=(",", ":"))
        hashlib.sha256(document.encode()).hexdigest()
    hashed = time.perf_counter()
    found = {
        "jobs": len(jobs),
        "configuration_s": loaded - began,
        "graph_s": planned - loaded,
        "peak_mb": peak,
        "ratio": (planned - began) / (hashed - planned),
    }
    for name, value in found.items():
        print(f"{name}: {value:.4g}")
    small = planned - began <= SECONDS and peak <= MEGABYTES
    print(json.dumps({"benchmark": "planning", "bar_s": SECONDS, "ok": small, **found}))


if __name__ == "__main__":
    main()
