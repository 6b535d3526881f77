"""The fresh micro checkpoint with what fine-tuning puts beside it: a head and a projector of the state.

Knows no test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stillframe.models.openvla_oft.heads import RegressionHead, StateProjector
from stillframe.models.openvla_oft.model import OpenVLAOFT
from stillframe.models.registry import load_policy

WIDTH, ACTION_DIM, STATE_DIM = 16, 7, 8
HEAD, PROJECTOR = "action_head--5_checkpoint.pt", "proprio_projector--5_checkpoint.pt"


def saved(module: torch.nn.Module, prefix: str = "module.") -> dict[str, Tensor]:
    """A module's tensors as distributed training names them."""
    return {f"{prefix}{name}": tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.fixture
def parts() -> Callable[..., dict[str, Mapping[str, Tensor]]]:
    """Make parts: `parts(row=16, action_dim=7, state_dim=8)` -> file name -> tensors."""

    def make(
        row: int = WIDTH, action_dim: int = ACTION_DIM, state_dim: int = STATE_DIM, blocks: int = 2
    ) -> dict[str, Mapping[str, Tensor]]:
        torch.manual_seed(3)
        head, projector = RegressionHead(row, row, action_dim, blocks), StateProjector(state_dim, row)
        return {HEAD: saved(head), PROJECTOR: saved(projector)}

    return make


@pytest.fixture
def oft(folder: Path, edit: Callable[..., None], parts: Callable[..., dict[str, Mapping[str, Tensor]]]) -> Path:
    """A folder to spoil: head, projector, and a state's statistics."""
    for name, tensors in parts().items():
        torch.save(tensors, folder / name)
    ends = {"q01": [-1.0] * STATE_DIM, "q99": [1.0] * STATE_DIM}
    edit("dataset_statistics.json", lambda sets: sets["jaco_sim"].update(proprio=ends))
    edit("config.json", lambda config: config.update(num_actions_chunk=4, cameras=["image"]))
    return folder


@pytest.fixture
def load() -> Callable[..., OpenVLAOFT]:
    """Load a folder's policy in fp32: `load(folder, use_proprio=False)`, keys of config.json."""

    def loaded(folder: Path, **config: Any) -> OpenVLAOFT:
        policy = load_policy(folder, dtype=torch.float32, device=torch.device("cpu"), config=config)
        assert isinstance(policy, OpenVLAOFT)
        return policy

    return loaded
