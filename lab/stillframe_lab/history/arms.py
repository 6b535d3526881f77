"""The arms: what is kept of older frames, and who says so. And the settings that make them.

Knows names and settings; no model and no episode.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from stillframe.history.checkpoint import HistoryConfig
from stillframe.history.settings import HistorySettings, ScorerName
from stillframe.history.store import MIB, ChunkShape

OFF, FULL, WINDOW, GATE, LINEAR, RAW = "off", "full", "window", "gate", "linear", "raw"
SCORER_OF: dict[str, ScorerName] = {
    FULL: "recency",
    WINDOW: "recency",
    "novelty": "novelty",
    "attention": "attention",
    LINEAR: "linear",
    GATE: "gate",
}
ARMS = (OFF, *SCORER_OF)  # that are played; raw is timed only
BOUNDED = tuple(arm for arm in SCORER_OF if arm != FULL)
WINDOW_FRAMES = 1  # of every bounded arm: the last frame stays, all else is the scorer's to say


def chunk_bytes(config: HistoryConfig) -> int:
    """Keys and values of one frame's chunk."""
    sizes = (config.layers, config.kv_heads, config.head_dim, config.chunk_tokens, config.slots)
    return ChunkShape(*sizes, torch.float32, torch.device("cpu")).nbytes


def history_of(arm: str, chunks: int | None, config: HistoryConfig, knobs: HistorySettings) -> HistorySettings:
    """What a deployment would have to say for an arm to be what it is; `chunks` None: without end.

    Decay is the deployment's. Nothing goes but for want of room, so that arms of equal bytes hold equal bytes.
    """
    budget = None if chunks is None else chunks * chunk_bytes(config) / MIB
    return replace(
        knobs,
        enabled=arm != OFF,
        gate=SCORER_OF.get(arm, knobs.gate),
        chunk_tokens=None,
        window_frames=0 if chunks is None else WINDOW_FRAMES,
        budget_mib=budget,
        threshold=0.0,
    )
