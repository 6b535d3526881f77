"""What LeRobot's own loader reads of a dataset: `read_with_lerobot.py DATASET EPISODE OUT.npz`, offline.

Run by the interpreter of the environment that `make test-lerobot` makes; imports nothing of ours. OUT holds each value
of every frame under its key, its task under "task"; under "next." what delta_timestamps give for the frame after; under
"batch." the same frames from a DataLoader, the last first; under "chosen." those of EPISODE, loaded alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

import numpy as np
import torch

NAME = "stillframe/recording"  # the dataset's id on the hub, which it is not on
PICTURE_OPERATORS = ("nms", "qnms")


def import_torchvision() -> None:
    """Import it, which lerobot does, whichever torch is here.

    Its wheel in the package index is for a torch with CUDA. Beside one for CPUs it finds none of its operators, and
    stops at two that it wants to describe; no dataset needs these, so they are declared.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in PICTURE_OPERATORS:
            signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{operator}", signature)


def stacked(items: Iterable[Mapping[str, Any]], prefix: str = "") -> dict[str, Any]:
    """The values of all items by key, [items, ...]."""
    rows = list(items)
    return {prefix + key: np.stack([np.asarray(row[key]) for row in rows]) for key in rows[0]}


def main(root: Path, episode: int, out: Path) -> None:
    """Read the dataset at `root` in four ways."""
    import_torchvision()
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.datasets.utils import dataset_to_policy_features

    whole = LeRobotDataset(NAME, root=root)
    cameras = whole.meta.camera_keys
    next_s = 1 / whole.fps
    following = LeRobotDataset(NAME, root=root, delta_timestamps={key: [0.0, next_s] for key in ("action", *cameras)})
    chosen = LeRobotDataset(NAME, root=root, episodes=[episode])
    backwards = torch.utils.data.DataLoader(whole, batch_size=len(whole), sampler=range(len(whole) - 1, -1, -1))
    (batch,) = backwards
    known = {
        "fps": whole.fps,
        "lengths": [row["length"] for row in whole.meta.episodes],
        "begins": [row["dataset_from_index"] for row in whole.meta.episodes],
        "inputs": sorted(dataset_to_policy_features(whole.features)),
        "mean.action": whole.meta.stats["action"]["mean"],
        **{f"mean.{key}": whole.meta.stats[key]["mean"] for key in cameras},
        **stacked(whole[at] for at in range(len(whole))),
        **stacked((following[at] for at in range(len(following))), "next."),
        **stacked((chosen[at] for at in range(len(chosen))), "chosen."),
        **{f"batch.{key}": np.asarray(values) for key, values in batch.items()},
    }
    np.savez(out, **known)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
