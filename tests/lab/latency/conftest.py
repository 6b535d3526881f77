"""A very small model of random weights, the trained one, and the recorded scene."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stillframe.models.base import PolicyModel
from stillframe.models.checkpoint import CheckpointFolder
from stillframe_lab.latency.scene import Scene, load_scene
from stillframe_lab.latency.sizes import RandomFolder, Size, load_from

MICRO = Size(
    "micro",
    {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4},
    {"embed_dim": 32, "depth": 3, "num_heads": 2},
)
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def scene() -> Scene:
    """What ships."""
    return load_scene()


@pytest.fixture(scope="session")
def micro_folder(tmp_path_factory: pytest.TempPathFactory) -> RandomFolder:
    """Sixty-four wide, two layers, the real vocabulary."""
    return RandomFolder(tmp_path_factory.mktemp("micro"), MICRO)


@pytest.fixture(scope="session")
def tiny_folder() -> CheckpointFolder:
    """The checkpoint that ships."""
    return CheckpointFolder(Path(__file__).parents[3] / "checkpoints" / "jaco-tiny")


@pytest.fixture(scope="session")
def micro(micro_folder: RandomFolder) -> PolicyModel:
    """Loaded in float32."""
    return load_from(micro_folder, dtype=torch.float32, device=CPU)


@pytest.fixture(scope="session")
def tiny(tiny_folder: CheckpointFolder) -> PolicyModel:
    """Loaded in float32."""
    return load_from(tiny_folder, dtype=torch.float32, device=CPU)
