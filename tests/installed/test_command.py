"""The command as the wheel brings it, in folders whose names and files are the user's."""

from __future__ import annotations

import subprocess
from typing import Literal

from support.commands import PROJECT
from support.installed import Installed

Form = Literal["oneshui", "python -m oneshui"]


def test_the_wheel_brings_every_file_of_both_packages(installed: Installed) -> None:
    listed = subprocess.run(
        ["git", "-C", str(PROJECT), "ls-files", "oneshui", "sweeps"],
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = set(listed.stdout.split())
    assert {"sweeps/conf/config.yaml", "oneshui/data/loaders/orl_labels.csv"} <= wanted
    assert not [name for name in sorted(wanted) if not (installed.site / name).is_file()]
