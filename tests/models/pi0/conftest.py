"""The micro checkpoints of pi0 and pi0.5 in folders that a test may spoil, in openpi's layout and in lerobot's.

Knows no test.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stillframe.models.pi0.model import Pi0
from stillframe.models.registry import load_policy

GOLDENS = Path(__file__).parents[2] / "goldens" / "pi0"
LEROBOT = "-lerobot"
Tensors = dict[str, Tensor]


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[[str], Path]:
    """'pi0-micro', 'pi05-micro-lerobot', ... in a folder of its own."""

    def copied(name: str) -> Path:
        folder = Path(shutil.copytree(GOLDENS / name, tmp_path / name))
        if name.endswith(LEROBOT):
            plain = GOLDENS / name.removesuffix(LEROBOT)
            shutil.copy(plain / "paligemma_tokenizer.model", folder / "tokenizer.model")
            tensors = load_file(plain / "model.safetensors")
            save_file({f"model.{key}": each for key, each in tensors.items()}, folder / "model.safetensors")
        return folder

    return copied


@pytest.fixture
def rewrite() -> Callable[[Path, Callable[[Tensors], Any]], None]:
    """Change a folder's tensors."""

    def apply(folder: Path, change: Callable[[Tensors], Any]) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file({name: each.contiguous() for name, each in tensors.items()}, folder / "model.safetensors")

    return apply


@pytest.fixture
def edit() -> Callable[[Path, Callable[[Any], Any]], None]:
    """Change a JSON file."""

    def apply(file: Path, change: Callable[[Any], Any]) -> None:
        document = json.loads(file.read_text())
        change(document)
        file.write_text(json.dumps(document))

    return apply


@pytest.fixture
def load() -> Callable[..., Pi0]:
    """Load a folder's contract: `load(folder, cameras=["base_0_rgb"])`, keys of config.json; `real`: with weights."""

    def loaded(folder: Path, *, real: bool = False, **config: Any) -> Pi0:
        device = torch.device("cpu" if real else "meta")
        policy = load_policy(folder, dtype=torch.float32, device=device, config=config)
        assert isinstance(policy, Pi0)
        return policy

    return loaded
