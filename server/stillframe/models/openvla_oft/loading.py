"""Builds what is loaded beside the backbone: statistics that fit the head, the state's reader, head and projector.

Knows parts and their config; no pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from stillframe.errors import CheckpointError
from stillframe.files.kinds import shown
from stillframe.models.actions import Statistics
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.openvla_oft.config import OFTConfig
from stillframe.models.openvla_oft.heads import RegressionHead, StateProjector
from stillframe.models.parts import Part
from stillframe.models.state import StateReader, state_scales

SLACK = 1e-8  # that the reference adds to the range of each number of an action


def action_statistics(folder: CheckpointFolder, stats: Mapping[str, Any], oft: OFTConfig) -> Statistics:
    """Raises CheckpointError where they are of another action than the head's."""
    statistics = Statistics(stats, oft.ends, SLACK)
    if statistics.action_dim != len(oft.action_names):
        raise CheckpointError(
            f"{shown(folder.path)}: its statistics ({', '.join(statistics.scales)}) are of actions with "
            f"{statistics.action_dim} numbers, its head says {len(oft.action_names)}; check that they belong together"
        )
    return statistics


def state_reader(stats: Mapping[str, Any], oft: OFTConfig) -> StateReader | None:
    """None where no state is read. Raises CheckpointError for statistics that scale none."""
    if not oft.state_names:
        return None
    return StateReader(oft.state_names, oft.state_units, state_scales(stats, len(oft.state_names), oft.ends))


def regression_head(
    part: Part | None, oft: OFTConfig, dtype: torch.dtype, device: torch.device
) -> RegressionHead | None:
    """None where the decoder's own head says the actions."""
    if part is None or oft.head == "discrete":
        return None
    width, blocks = part.shape("model.fc1.weight")[0], sum(name.endswith(".ffn.1.weight") for name in part.tensors)
    with torch.device("meta"):
        head = RegressionHead(oft.backbone.decoder.hidden_size, width, len(oft.action_names), blocks)
    part.load_into(head, dtype=dtype, device=device)
    return head


def state_projector(
    part: Part | None, oft: OFTConfig, dtype: torch.dtype, device: torch.device
) -> StateProjector | None:
    """None where no state is read."""
    if part is None or not oft.state_names:
        return None
    with torch.device("meta"):
        projector = StateProjector(len(oft.state_names), oft.backbone.decoder.hidden_size)
    part.load_into(projector, dtype=dtype, device=device)
    return projector
