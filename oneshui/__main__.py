"""``python -m oneshui``: the same program as ``oneshui``, begun by its name.

Nothing here imports the engine, which is another package; it is the command that is asked for.
"""

import importlib
import sys
from pathlib import Path

if __name__ == "__main__":
    own = str(Path(__file__).parents[1])
    if not sys.flags.safe_path:
        # ``python -m`` looks into the working folder first, where a folder may be called as ours.
        del sys.path[0]
    if own not in sys.path:
        sys.path.insert(0, own)
    sys.exit(importlib.import_module("sweeps.cli").main())
