"""The arms: ways to keep older frames, and the history settings of each.

Knows names and settings; no model and no episode.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from stillframe.history.checkpoint import HistoryConfig
from stillframe.history.settings import HistorySettings, ScorerName
from stillframe.history.store import MIB, ChunkShape

OFF, FULL, WINDOW, SAMPLING, GATE, LINEAR, RAW = "off", "full", "window", "sampling", "gate", "linear", "raw"
SCORER_OF: dict[str, ScorerName] = {
    FULL: "recency",
    WINDOW: "recency",
    SAMPLING: "sampling",
    "novelty": "novelty",
    "attention": "attention",
    LINEAR: "linear",
    GATE: "gate",
}
ARMS = (OFF, *SCORER_OF)  # played in episodes; raw is timed only
BOUNDED = tuple(arm for arm in SCORER_OF if arm != FULL)
WINDOW_FRAMES = 1  # of every bounded arm: the last frame is always kept, the others by their score


def chunk_bytes(config: HistoryConfig) -> int:
    """Keys and values of one frame's chunk."""
    sizes = (config.layers, config.kv_heads, config.head_dim, config.chunk_tokens, config.slots)
    return ChunkShape(*sizes, torch.float32, torch.device("cpu")).nbytes


def history_of(arm: str, chunks: int | None, config: HistoryConfig, knobs: HistorySettings) -> HistorySettings:
    """The history settings of an arm; `chunks` None: unbounded.

    Decay is the deployment's. Chunks are evicted only when full, so that arms of equal budget hold equal bytes.
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
