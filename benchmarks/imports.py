"""How long ``mode=plan`` imports, beside what it cannot do without: Hydra and pydantic.

``uv run python benchmarks/imports.py [RUNS]``

Both import in fresh processes, in turns, and the least of their processor times count. Ours are all
modules that a whole ``mode=plan`` has loaded in the end, those that it imports late among them.
"""

from __future__ import annotations

import json
import subprocess
import sys

TIMED = """
import importlib, json, sys, time
names = json.loads(sys.argv[1])
begin = time.process_time()
for name in names:
    importlib.import_module(name)
print(time.process_time() - begin)
"""
# What both load late, as they do, counts for both sides.
BASE = """
import json, sys, tempfile
from dataclasses import dataclass
from pathlib import Path
from hydra import compose, initialize_config_dir
from pydantic import TypeAdapter
@dataclass
class Config:
    key: int
with tempfile.TemporaryDirectory() as folder:
    (Path(folder) / "config.yaml").write_text("key: 1")
    with initialize_config_dir(folder, version_base="1.3"):
        composed = compose("config")
TypeAdapter(Config).validate_json(json.dumps(dict(composed)), strict=True)
print(json.dumps([name for name in sys.modules if not name.startswith("__")]))
"""
PLANNED = """
import json, os, sys
from sweeps.cli import main
before = sys.stdout
sys.stdout = open(os.devnull, "w")
assert main(["mode=plan", "sweep=demo", f"output_dir={os.devnull}/none"]) == 0
sys.stdout = before
print(json.dumps([name for name in sys.modules if not name.startswith("__")]))
"""


def said(*words: str) -> str:
    """What a fresh Python prints."""
    command = [sys.executable, "-c", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    base_modules, ours = json.loads(said(BASE)), json.loads(said(PLANNED))
    times: dict[str, list[float]] = {"hydra and pydantic": [], "mode=plan": []}
    for _ in range(runs):
        for what, names in zip(times, (base_modules, ours), strict=True):
            times[what].append(float(said(TIMED, json.dumps(names))))
    least = {what: min(each) for what, each in times.items()}
    for what, seconds in least.items():
        print(f"{what}: {1000 * seconds:.0f} ms")
    base, own = least.values()
    print(f"ratio {own / base:.2f} (to reach: under 1.5), least of {runs} runs each")


if __name__ == "__main__":
    main()
