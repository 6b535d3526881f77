"""The recipes of policies with a history: every number that shapes their training, in one frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stillframe.memory.gate import Cell
from stillframe.train.recipe import JACO_TINY, Recipe

SMALL = replace(
    JACO_TINY,
    seed=21,
    image_px=112,
    layers=3,
    steps=900,
    batch_images=24,  # pictures that are acted on; as many again are only remembered
    learning_rate=2e-3,
    warmup_steps=50,
    decay_from=0.5,
    ema_decay=0.99,
)


@dataclass(frozen=True)
class MemoryRecipe:
    """What is trained on what. One recipe gives one checkpoint (on one machine, by one thread)."""

    policy: Recipe
    ordered_share: float = 0.0  # of the batches ask for two cues in their order
    scenes: tuple[tuple[str, int], ...] = (("simple", 11_000),)  # so many of each variant of the task
    slots: int = 2  # a frame
    branches: int = 3  # memories, and with them targets, for each picture of a batch
    cue_repeats: int = 6  # frames of one cue in a memory: 1 to so many
    idle_frames: tuple[int, ...] = (1, 4, 12, 32)  # frames without a cue in a memory: one of these counts
    without: float = 0.1  # of the memories hold no cue at all
    colour_share: float = 0.5  # of the loss that asks the text for the target's colour
    summary_share: float = 0.7  # of the loss that asks a frame's slots what its lamp shows

    # the gate, on sequences of summaries
    taps: tuple[int, ...] = (0, 1, 2)
    hidden: int = 64
    cell: Cell = "gru"
    episode_variants: tuple[str, ...] = ("simple", "distractor")  # of the episodes from which it learns
    episode_delays: tuple[int, ...] = (8, 24, 48)
    episodes_each: int = 20
    gate_steps: int = 600
    gate_batch: int = 16  # episodes
    gate_chunks: int = 64  # of each, from its first on
    gate_rate: float = 4e-3
    truncate: int = 12  # chunks through which a gradient goes back
    keep_share: float = 0.1  # of the loss that asks for no more to be kept than labels say


REMEMBER_SMALL = MemoryRecipe(SMALL)
# From jaco-tiny's weights on: where cubes are, and how to reach them, is known.
JACO_TINY_MEMORY = MemoryRecipe(
    policy=replace(
        JACO_TINY,
        seed=22,
        steps=1_800,
        batch_images=12,
        learning_rate=1e-3,
        warmup_steps=50,
        decay_from=0.5,
        ema_decay=0.99,
    ),
    ordered_share=0.6,
    scenes=(("simple", 2_500), ("ordered-distractor", 4_000)),
    episode_variants=("simple", "distractor", "ordered", "ordered-distractor"),
    episodes_each=12,
    taps=(0, 1, 2, 3),
)
