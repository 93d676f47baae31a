"""What an enclosed process keeps: the files it was handed, Python's own, and nothing else."""

from __future__ import annotations

import os
import re
import signal
import site
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from oneshui.deletion import delete_for_good, spellings
from oneshui.enclosure import kernel
from oneshui.sources import files_behind

_SYSTEM = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/cuda",
    "/opt/rocm",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/driver/nvidia",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/bus/pci",
    "/sys/module/nvidia",
    # What AMD's and Intel's runtimes find their GPUs by.
    "/sys/devices/virtual/kfd",
    "/sys/class/kfd",
    "/sys/class/drm",
)
_DEVICES = (
    *("null", "zero", "full", "random", "urandom"),
    *("nvidiactl", "nvidia-uvm", "nvidia-caps"),
    *("kfd", "dri"),  # AMD's, and the GPUs of AMD and Intel
)
_OF_ITSELF = ("status", "maps", "clear_refs")
_SECRET = re.compile(
    "^(AWS|AZURE|GOOGLE|GCP|RAY|MLFLOW|HF|SSH|GH|GITHUB)_|TOKEN|SECRET|PASSW|CREDENTIAL|KEY|PROXY",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Walls:
    """What is kept from a method, and what it keeps.

    Attributes:
        protected: Folders of training data and results.
        method: Name of the method, for messages.
        packages: Folders and files that its code is in.
        handed: Files it may read.
        writable: Folders it may write to.
    """

    protected: tuple[Path, ...]
    method: str
    packages: tuple[Path, ...] = ()
    handed: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()

    def libraries(self) -> tuple[Path, ...]:
        """Where code is that may yet be imported or loaded."""
        named = sysconfig.get_paths()
        folders = [named[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
        folders += [f"{sys.prefix}/lib", f"{sys.base_prefix}/lib"]
        if site.ENABLE_USER_SITE:
            folders.append(site.getusersitepackages())
        return (*map(Path, folders), *self.packages)

    def close(self, private: Path) -> None:
        """Put this process behind the walls, for good.

        Args:
            private: A folder for its own temporary files.

        Raises:
            OSError: The kernel has Landlock and refuses.
        """
        self._forget(private)
        abi = kernel.landlock_abi()
        opened = (*self.handed, *self.writable, private, *self.libraries())
        if sys.platform == "linux":
            kernel.cut_off()
        if abi:
            kernel.restrict(self._kept(private))
        delete_for_good(self.protected, self.method, opened, ways_out=not abi)

    def _kept(self, private: Path) -> Iterator[tuple[Path, int]]:
        protected = spellings(self.protected)
        for folder in (*self.libraries(), *map(Path, _SYSTEM)):
            for path in _without(folder.resolve(), protected):
                yield path, kernel.READ
        for name in _DEVICES:
            yield Path("/dev") / name, kernel.USE
        for path in Path("/dev").glob("nvidia[0-9]*"):
            yield path, kernel.USE
        for name in _OF_ITSELF:
            yield Path("/proc") / str(os.getpid()) / name, kernel.CHANGE
        for path in self.handed:
            yield path, kernel.READ
        for path in (*self.writable, private):
            yield path, kernel.CHANGE

    def _forget(self, private: Path) -> None:
        """Drop what the environment knows of the world outside."""
        for name in [name for name in os.environ if _SECRET.search(name)]:
            del os.environ[name]
        for name in ("TMPDIR", "HOME", "XDG_CACHE_HOME", "TRITON_CACHE_DIR", "TORCH_HOME"):
            os.environ[name] = str(private)
        tempfile.tempdir = str(private)
        os.chdir(private)
        for number in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)


def _without(folder: Path, protected: Iterable[str]) -> Iterator[Path]:
    """The folder, or if something protected is below it all in it that is not."""
    inside = [path for path in protected if Path(path).is_relative_to(folder)]
    if str(folder) in inside:
        return
    if not inside:
        yield folder
        return
    for path in folder.iterdir():
        # A rule for a link would be one for what it leads to.
        if not path.is_symlink():
            yield from _without(path, inside)


def packages_of(module: str) -> tuple[Path, ...]:
    """Where a module's code is: folders of its package, and files that it imports beside it."""
    top = module.partition(".")[0]
    folders = [Path(folder) for folder in getattr(sys.modules.get(top), "__path__", ())]
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or top in {"oneshui", "sweeps", *sys.stdlib_module_names}:
        return tuple(folders)
    return (*folders, *files_behind(module, Path(file)).values())
