"""What fine-tuning leaves beside OpenVLA's weights, by which a folder of OpenVLA-OFT is recognised.

Knows names of parts and keys; reads no tensor.
"""

from __future__ import annotations

from stillframe.models.checkpoint import INDEX_NAME, SINGLE_NAME, CheckpointFolder
from stillframe.models.hub.listed import ListedFolder
from stillframe.models.parts import check_one, part_files
from stillframe.models.prismatic.files import beside_weights

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


def files_read(folder: ListedFolder) -> list[str]:
    """Names of the files that a published checkpoint is read from: the parts before the weights, which take longest."""
    files = {part: [file.name for file in part_files(folder, part)] for part in PARTS}
    for part, names in files.items():
        check_one(folder, part, names)
    return [*beside_weights(folder), *(name for names in files.values() for name in names), *folder.safetensors()]
