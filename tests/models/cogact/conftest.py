"""A copy of the golden run folder that a test may spoil."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

GOLDENS = Path(__file__).parents[2] / "goldens"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder as it is published, and Llama's tokenizer beside it."""
    folder = tmp_path / "cogact-micro"
    shutil.copytree(GOLDENS / "cogact" / "cogact-micro", folder)
    shutil.copy(GOLDENS / "openvla-micro" / "tokenizer.json", folder)
    return folder


@pytest.fixture
def edit(run: Path) -> Callable[[Callable[[dict[str, Any]], Any]], None]:
    """Change config.json."""

    def apply(change: Callable[[dict[str, Any]], Any]) -> None:
        file = run / "config.json"
        config = json.loads(file.read_text())
        change(config)
        file.write_text(json.dumps(config))

    return apply


@pytest.fixture
def edit_weights(run: Path) -> Callable[[Callable[[dict[str, Any]], Any]], None]:
    """Change what the .pt file holds under `model`."""

    def apply(change: Callable[[dict[str, Any]], Any]) -> None:
        (file,) = (run / "checkpoints").glob("*.pt")
        saved = torch.load(file, weights_only=True)
        change(saved["model"])
        torch.save(saved, file)

    return apply
