"""A task of SkyPilot's: what its own parser lets pass, and our own rules.

Whether it is a task at all says SkyPilot; a test asks it, in an environment of its own.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from oneshui.errors import InputError

# What may be copied to machines: an allow-list, because faces and keys have many names.
COPIED = {"oneshui", "sweeps", "launch.py", "pyproject.toml", "README.md", "LICENSE"}
OF_A_SWEEP = ("cluster=local", 'store.uri="$STORE"', 'report.copy_to="$RESULTS"')


def problems(task: dict[str, Any]) -> list[str]:
    """Everything that is wrong with a task."""
    return [
        *_resource_problems(task.get("resources", {})),
        *_mount_problems(task),
        *_run_problems(task),
    ]


def _resource_problems(resources: dict[str, Any]) -> Iterator[str]:
    if resources.get("use_spot") is not True:
        yield "resources.use_spot is not true"
    kinds = resources.get("accelerators", {})
    if not isinstance(kinds, dict) or len(kinds) < 2:
        yield "resources.accelerators names one kind of GPU: a shortage of it stops the sweep"
    elif any(count != 1 for count in kinds.values()):
        yield "resources.accelerators asks for more than one GPU: take more jobs (--num-jobs)"
    if not (isinstance(resources.get("autostop"), dict) and resources["autostop"].get("down")):
        yield "resources.autostop does not say down: true: a machine would be stopped, and cost"
    recovery = resources.get("job_recovery")
    if not isinstance(recovery, dict) or recovery.get("max_restarts_on_errors") != 0:
        yield "resources.job_recovery.max_restarts_on_errors is not 0: bad input would come back"
    if resources.get("ports"):
        yield "resources.ports opens ports to the world"


def _mount_problems(task: dict[str, Any]) -> Iterator[str]:
    if "workdir" in task:
        yield "workdir copies the whole folder: name what is copied in file_mounts"
    for remote, local in task.get("file_mounts", {}).items():
        if not isinstance(local, str) or local.removeprefix("./") not in COPIED:
            yield f"file_mounts: {remote} is not on the list of what belongs on machines"


def _run_problems(task: dict[str, Any]) -> Iterator[str]:
    # Composing a sweep loads much that the other checks do without.
    from sweeps.config import load

    run, envs = task.get("run", ""), task.get("envs", {})
    yield from (f"run: {word} is missing" for word in OF_A_SWEEP if word not in run)
    for name in ("STORE", "RESULTS"):
        if "://" not in str(envs.get(name, "")):
            yield f"envs.{name} is no bucket: it would go with the machine"
    yield from (
        f"secrets.{name} holds a value: sky jobs launch --secret {name} takes it from your shell"
        for name, value in task.get("secrets", {}).items()
        if value is not None
    )
    try:
        load([*shlex.split(str(envs.get("SWEEP", ""))), "cluster=local"])
    except InputError as error:
        yield f"envs.SWEEP: {error}"
