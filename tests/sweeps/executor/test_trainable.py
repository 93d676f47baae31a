"""What the driver loads to name the class that its workers run."""

from __future__ import annotations

import subprocess
import sys


def test_the_driver_does_not_load_what_only_its_workers_need() -> None:
    code = (
        "import sys\n"
        "import sweeps.executor.tune\n"
        "heavy = {'torch', 'timm', 'torchvision', 'mlflow', 'sklearn', 'matplotlib'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
