"""Which files a pi0 or pi0.5 checkpoint is read from, of all that a published folder holds.

Knows names; opens config.json and the index alone. What is missing is missed here, before the weights are fetched.
"""

from __future__ import annotations

import re

from stillframe.errors import CheckpointError
from stillframe.models.checkpoint import INDEX_NAME
from stillframe.models.hub.listed import ListedFolder
from stillframe.models.pi0.folder import FAMILIES
from stillframe.models.pi0.statistics import ASSETS, NORM_STATS
from stillframe.models.pi0.tokenizer import NAMES, no_tokenizer

PROCESSORS = re.compile(r"policy_(pre|post)processor(_\w+)?\.(json|safetensors)")  # lerobot's, and their statistics
STATISTICS = re.compile(rf"{ASSETS}/([^/]+/){{1,2}}{NORM_STATS}")  # openpi's


def files_read(folder: ListedFolder) -> list[str]:
    """Names, small ones first. Raises CheckpointError where one is missing."""
    is_lerobots = folder.json("config.json").get("type") in FAMILIES
    wanted, what = (
        (PROCESSORS, "policy_preprocessor.json") if is_lerobots else (STATISTICS, f"{ASSETS}/ID/{NORM_STATS}")
    )
    statistics = sorted(name for name in folder.sizes if wanted.fullmatch(name))
    if not statistics:
        raise CheckpointError(f"{folder.source} lacks {what}, which scales actions and state")
    tokenizer = [name for name in NAMES if name in folder.sizes or folder.has(name)][:1]
    if not tokenizer:
        raise no_tokenizer(folder)
    return ["config.json", *folder.listed([INDEX_NAME]), *statistics, *tokenizer, *folder.safetensors()]
