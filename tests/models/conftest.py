"""Checkpoint folders to read and to spoil: the goldens' micro OpenVLA, and a fresh one of a few kilobytes.

Knows no test.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stillframe_lab.train.new_checkpoint import new_network, save_checkpoint
from stillframe_lab.train.recipe import Recipe

TINY = replace(Recipe(), tower_dim=16, tower_depth=2, tower_heads=2, width=16, layers=2, heads=2, feed_forward=24)

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="session")
def micro() -> Path:
    """The goldens' checkpoint: read, never written."""
    return Path(__file__).parents[1] / "goldens" / "openvla-micro"


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh checkpoint of random weights: copied, never written."""
    folder = tmp_path_factory.mktemp("pristine") / "tiny"
    save_checkpoint(folder, dict(new_network(TINY).state_dict()), TINY)
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    copied: Path = shutil.copytree(pristine, tmp_path / "tiny")
    return copied


@pytest.fixture
def edit(folder: Path) -> Callable[[str, Edit], None]:
    """Change one of the copy's JSON files in place."""

    def apply(name: str, change: Edit) -> None:
        document = json.loads((folder / name).read_text())
        change(document)
        (folder / name).write_text(json.dumps(document))

    return apply
