"""The folders of one training. Knows paths; reads and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Places:
    """Where a policy's training finds and leaves things."""

    run: Path  # its state
    data: Path  # demonstrations
    out: Path  # where the checkpoint goes
    start: Path | None  # the checkpoint that it begins with
