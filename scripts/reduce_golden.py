"""Makes ``tests/golden/``, what a fresh clone has of the golden data, from the full set.

    uv run python scripts/reduce_golden.py FULL_SET [FOLDER]

Files are copied, or keep the tensors whose names fit a pattern below. ``manifest.json`` lists every
file, with the exact names of its tensors if some were left out, so that a test can tell what is not
there on purpose from what got lost. ``README.md`` is written by hand and stays.
"""

from __future__ import annotations

import argparse
import json
import shutil
from fnmatch import fnmatchcase
from pathlib import Path

from safetensors.torch import load_file, save_file

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"

COPIED = [
    *("lr_schedule.json", "transforms.json"),
    *("split_dict.json", "split_list.json", "split_list_gaps.json"),
    *(
        f"{case}/{name}"
        for case in ("multilabel", "multiclass")
        for name in (
            *("case.json", "expected.json", "metrics.safetensors"),
            *("simulated_requests.json", "split.json", "subsets.json"),
        )
    ),
    # What the methods start from; multilabel, because only there every variant has numbers.
    *(
        f"multilabel/{name}.safetensors"
        for name in (
            *("data", "model_before", "dumb_teacher"),
            *("jit_noise", "metaloss", "metaloss_forward"),
        )
    ),
    # Multiclass, because there the attack finds members and its TPR is not 0.
    "multiclass/rmia.safetensors",
]

# Of a network: the class token, small parts of the second block, and the end.
WEIGHTS = ["cls_token", "blocks.1.attn.proj.*", "blocks.1.norm*", "norm.*", "head.*"]
# Of a learned loss: what is small, among it the second largest of all gradients.
NET = ["input_block.1.*", "input_block.2.bias", "output_block.*"]
KEPT = {
    "transforms.safetensors": ["odd.*"],
    "multiclass/data.safetensors": ["targets", "identities"],
    "multilabel/ssd.safetensors": [f"*.{name}" for name in WEIGHTS],
    "multilabel/jit.safetensors": [f"*.after.{name}" for name in WEIGHTS],
    "multilabel/scrub.safetensors": [f"*.after_epoch?.{name}" for name in WEIGHTS],
    "multilabel/bad_teacher.safetensors": [f"*.after_epoch2.{name}" for name in WEIGHTS],
    "multilabel/pretrain_loop.safetensors": [f"after_epoch3.{name}" for name in WEIGHTS],
    "multilabel/pgu.safetensors": [
        *(f"*.after_epoch2.{name}" for name in WEIGHTS),
        "faithful.after_epoch2.patch_embed.proj.weight",
        *("faithful.*.blocks.0.attn.qkv", "faithful.retain_singular_values.*"),
        "fixcov.projection.patch_embed.proj",
    ],
    "multilabel/meta_unlearn.safetensors": [
        *(f"inner_grad.{name}" for name in WEIGHTS),
        *(f"unlearned*.{name}" for name in WEIGHTS),
        *(f"outer_grad.*.{name}" for name in NET),
        *(f"outer_grad.full.smooth_l1.{name}" for name in ("embed.*", "input_block.2.*")),
        *(f"metatrain_epoch1.metaloss.{name}" for name in NET),
    ],
}


def reduce(full: Path, folder: Path) -> None:
    """Write the reduced set and its manifest.

    Raises:
        ValueError: A pattern fits no tensor, or nothing would be left out of a file.
    """
    manifest: dict[str, list[str] | None] = {}
    for name in [*COPIED, *KEPT]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name in COPIED:
            shutil.copyfile(full / name, folder / name)
            manifest[name] = None
            continue
        tensors = load_file(full / name)
        idle = [p for p in KEPT[name] if not any(fnmatchcase(t, p) for t in tensors)]
        kept = {t: v for t, v in tensors.items() if any(fnmatchcase(t, p) for p in KEPT[name])}
        if idle or len(kept) == len(tensors):
            raise ValueError(f"{name}: {idle or KEPT[name]} keeps nothing, or everything")
        save_file(kept, folder / name)
        manifest[name] = sorted(kept)
    lines = (f"{json.dumps(name)}: {json.dumps(manifest[name])}" for name in sorted(manifest))
    (folder / "manifest.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main() -> None:
    """Read the arguments and write the set."""
    parser = argparse.ArgumentParser(description="Makes tests/golden/ from the full golden set.")
    parser.add_argument("full_set", type=Path, help="folder of the full golden data")
    parser.add_argument("folder", type=Path, nargs="?", default=GOLDEN, help="where to write")
    arguments = parser.parse_args()
    reduce(arguments.full_set, arguments.folder)


if __name__ == "__main__":
    main()
