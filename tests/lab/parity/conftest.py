"""Each family's golden checkpoint in a folder that a test may spoil, and the record that goes with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stillframe_lab.parity.run import Parity, compare

GOLDENS = Path(__file__).parents[2] / "goldens"
RECORDS = {
    "openvla": GOLDENS / "openvla-micro.npz",
    "openvla_oft": GOLDENS / "oft-micro.npz",
    "cogact": GOLDENS / "cogact" / "cogact-micro.npz",
    "pi0": GOLDENS / "pi0" / "pi0-micro.npz",
    "pi05": GOLDENS / "pi0" / "pi05-micro.npz",
}
SOME = {  # keys that are enough to tell the stages apart
    "openvla": ("f0/", "f0_i0/"),
    "openvla_oft": ("frames", "wrist_frames", "f0_i0_wrist1_proprio1_l1/", "f3_i0_wrist1_proprio1_l1/"),
    "pi0": ("instructions", "states", "f0/", "f0_i0_s0_c2"),
    "pi05": ("instructions", "states", "f0/", "f0_i0_s0_c2"),
    "cogact": ("instructions", "noise", "f0/", "i0/", "f0_i0/", "f0_i0_cfg1.5_ddim10_n0/"),
}


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[[str], Path]:
    """A family's checkpoint, in a folder of its own."""

    def copied(family: str) -> Path:
        folder = tmp_path / family
        if family == "cogact":
            shutil.copytree(GOLDENS / "cogact" / "cogact-micro", folder)
            shutil.copy(GOLDENS / "openvla-micro" / "tokenizer.json", folder)
            return folder
        if family in ("pi0", "pi05"):
            return Path(shutil.copytree(GOLDENS / "pi0" / f"{family}-micro", folder))
        shutil.copytree(GOLDENS / "openvla-micro", folder)
        if family == "openvla_oft":
            shutil.copytree(GOLDENS / "oft-micro", folder, dirs_exist_ok=True)
        return folder

    return copied


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Path]:
    """A few cases of a family's record, with some keys otherwise: `record("cogact", {"noise": ...})`; None: without."""

    def written(family: str, changes: dict[str, Any] | None = None) -> Path:
        with np.load(RECORDS[family]) as arrays:
            kept = {key: arrays[key] for key in arrays.files if key.startswith(SOME[family])}
        kept |= changes or {}
        file = tmp_path / f"{family}.npz"
        np.savez(file, **{key: value for key, value in kept.items() if value is not None})
        return file

    return written


@pytest.fixture
def compared() -> Callable[[Path, Path], Parity]:
    """Compare on the CPU."""
    return lambda folder, file: compare(folder, file, torch.device("cpu"))


@pytest.fixture
def nudge() -> Callable[[Path, str], None]:
    """Change one tensor of a folder a little, wherever it lies: `nudge(folder, "projector.fc1.weight")`."""

    def change(folder: Path, name: str) -> None:
        for file in sorted(folder.rglob("*.pt")):
            saved = torch.load(file, weights_only=True)
            if move(saved.get("model", {"": saved}), name):
                torch.save(saved, file)
                return
        tensors = load_file(folder / "model.safetensors")
        assert move({"": tensors}, name)
        save_file(tensors, folder / "model.safetensors")

    def move(parts: dict[str, dict[str, torch.Tensor]], name: str) -> bool:
        for part, tensors in parts.items():
            own = name.removeprefix(f"{part}.") if part else name
            if own in tensors:
                tensors[own] = tensors[own].clone()
                tensors[own].view(-1)[0] += 0.05
                return True
        return False

    return change


@pytest.fixture
def edit() -> Callable[[Path, Callable[[Any], Any]], None]:
    """Change a JSON file."""

    def apply(file: Path, change: Callable[[Any], Any]) -> None:
        document = json.loads(file.read_text())
        change(document)
        file.write_text(json.dumps(document))

    return apply
