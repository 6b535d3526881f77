"""The goldens' three checkpoints, whole, each in a folder that a test may spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

GOLDENS = Path(__file__).parents[2] / "goldens"


@pytest.fixture
def openvla(tmp_path: Path) -> Path:
    """Decodes tokens."""
    return Path(shutil.copytree(GOLDENS / "openvla-micro", tmp_path / "openvla-micro"))


@pytest.fixture
def oft(openvla: Path) -> Path:
    """The same with a head and a projector of the state beside it."""
    return Path(shutil.copytree(GOLDENS / "oft-micro", openvla, dirs_exist_ok=True))


@pytest.fixture
def cogact(tmp_path: Path) -> Path:
    """A run folder, and a tokenizer beside it."""
    folder = Path(shutil.copytree(GOLDENS / "cogact" / "cogact-micro", tmp_path / "cogact-micro"))
    shutil.copy(GOLDENS / "openvla-micro" / "tokenizer.json", folder)
    return folder
