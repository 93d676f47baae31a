"""The command of oneshui: ``python launch.py [key=value ...]``; see README.md."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from sweeps.cli import main

    sys.exit(main(sys.argv[1:]))
