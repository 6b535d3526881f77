"""How a deployment's vision towers run: its `vision_towers`, told to the model.

Knows the setting, the model and this machine's cores; not how towers are run side by side.
"""

from __future__ import annotations

import logging

import torch

from stillframe.daemon.config import VisionTowers
from stillframe.daemon.cores import usable_cores
from stillframe.models.base import PolicyModel
from stillframe.models.side_by_side import HasTowers, side_by_side


def run_towers(model: PolicyModel, wanted: VisionTowers, log: logging.Logger) -> None:
    """Have the towers run as wanted; a model with a single one stays as it is, which is logged.

    Warns where two towers on this CPU want more cores than there are: frames may then take longer than in turn.
    """
    if wanted == "in-turn":
        return
    if not isinstance(model, HasTowers):
        log.info("vision_towers: %s has one vision tower, beside which nothing runs", model.info.name)
        return
    model.run_towers(side_by_side(model.device))
    threads, cores = torch.get_num_threads(), usable_cores()
    if model.device.type == "cpu" and cores < 2 * threads:
        fault = "two vision towers side by side want %d cores (threads: %d), and this process may use %d"
        log.warning(f"vision_towers: {fault}; 'in-turn', or fewer threads, may be faster", 2 * threads, threads, cores)
