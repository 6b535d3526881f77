"""Compares a checkpoint's folder with a golden file, stage by stage.

Knows readers and the registry; prints nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stillframe.errors import ConfigError
from stillframe.models.base import PolicyModel
from stillframe.models.registry import load_policy, open_folder
from stillframe_lab.parity.golden import Golden
from stillframe_lab.parity.ledger import Ledger
from stillframe_lab.parity.readers import READERS, families_of, reader_of


@dataclass(frozen=True)
class Parity:
    """What came of it."""

    checkpoint: Path
    golden: Path
    family: str
    ledger: Ledger
    unknown_keys: Sequence[str]  # of the golden file
    layouts: Sequence[str]  # families whose layout the golden file is in

    @property
    def status(self) -> int:
        """Of the command: 0 all within tolerance, 1 a stage over it, 2 nothing could be compared."""
        return 2 if not self.ledger.compared else 1 if self.ledger.first_over else 0


def compare(checkpoint: Path, golden_file: Path, device: torch.device) -> Parity:
    """Load the checkpoint in float32 as each case asks for it, and walk through all cases.

    Raises CheckpointError for a folder that is not served, ConfigError for a file that is no golden, or a family that
    has no reader here.
    """
    with closing(Golden(golden_file)) as golden:
        family, _ = open_folder(checkpoint)
        reader = reader_of(family)
        if reader is None:
            raise ConfigError(f"there is no reader for goldens of {family}; there are those of {', '.join(READERS)}")
        ledger = Ledger(reader.stages)
        with torch.inference_mode():
            reader.compare(golden, lambda keys: _load(checkpoint, device, keys), ledger)
        left_out = [re.compile(f"(^|_){re.escape(case)}(/|$)") for case in ledger.left_out]
        unknown = golden.unread([*reader.passed_over, *left_out])
        return Parity(checkpoint, golden_file, family, ledger, unknown, families_of(golden))


def _load(checkpoint: Path, device: torch.device, keys: Mapping[str, Any]) -> PolicyModel:
    return load_policy(checkpoint, dtype=torch.float32, device=device, config=keys)
