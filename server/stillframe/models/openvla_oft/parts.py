"""What fine-tuning leaves beside OpenVLA's weights, by which a folder of OpenVLA-OFT is recognised.

Knows names of parts and keys; reads no tensor.
"""

from __future__ import annotations

from stillframe.models.checkpoint import INDEX_NAME, SINGLE_NAME, CheckpointFolder
from stillframe.models.parts import part_files

ACTION_HEAD, STATE_PROJECTOR = "action_head", "proprio_projector"
PARTS = (ACTION_HEAD, STATE_PROJECTOR)
KEYS = ("action_head", "num_actions_chunk")  # of config.json, that no plain OpenVLA has


def recognised(folder: CheckpointFolder) -> bool:
    """Whether an OpenVLA checkpoint's folder is of this family: by files beside it, config.json, or its tensors."""
    if any(part_files(folder, part) for part in PARTS) or any(key in folder.json("config.json") for key in KEYS):
        return True
    if not (folder.has(SINGLE_NAME) or folder.has(INDEX_NAME)):
        return False
    return any(name.startswith(tuple(f"{part}." for part in PARTS)) for name in folder.tensor_files())
