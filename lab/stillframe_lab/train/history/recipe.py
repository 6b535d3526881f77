"""The recipes of policies with a history: all hyperparameters, in frozen dataclasses.

Knows numbers; no code that uses them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stillframe.history.gate import Cell
from stillframe_lab.train.recipe import JACO_TINY, Recipe

FRAME_S = (0.02, 0.2)  # between two frames, as a gate is told: drawn for each episode

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
    """Sizes, data and optimiser. One recipe gives one checkpoint (on one machine, by one thread)."""

    policy: Recipe
    ordered_share: float = 0.0  # of the batches ask for two cues in their order
    scenes: tuple[tuple[str, int], ...] = (("simple", 11_000),)  # so many of each variant of the task
    slots: int = 2  # a frame
    branches: int = 3  # memories, and with them targets, for each picture of a batch
    cue_repeats: int = 6  # frames of one cue in a memory: 1 to so many
    idle_frames: tuple[int, ...] = (1, 4, 12, 32, 96)  # frames without a cue in a memory: one of these counts
    without: float = 0.1  # of the memories hold no cue at all
    colour_share: float = 0.5  # of the losses that ask the text for the cues and for the one that is due
    asked_after: tuple[int, ...] = (2, 3)  # layers: the due colour must be known before the cube is searched
    summary_share: float = 0.7  # of the loss that asks a frame's slots what its lamp shows

    # then scenes to which the cloned policy itself brings the arm, with the expert's labels (DAgger)
    mistakes: tuple[tuple[str, int], ...] = ()  # so many of episodes of each variant of the task; none: no such stage
    mistake_every: int = 3  # free steps
    mistake_share: float = 0.5  # of the pictures that are acted on
    corrected: tuple[int, float] = (500, 8e-4)  # steps, and the rate at which they begin

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
    keep_share: float = 0.1  # of the loss that asks for as much to be kept as labels say

    @property
    def correcting(self) -> MemoryRecipe:
        """The stage after the cloning, from its weights on."""
        steps, rate = self.corrected
        schedule = replace(self.policy, seed=self.policy.seed + 1, steps=steps, learning_rate=rate, decay_from=0.3)
        return replace(self, policy=schedule)

    @property
    def gate_schedule(self) -> Recipe:
        """The gate's optimiser and steps: no warm-up, and linearly to zero."""
        schedule = replace(self.policy, steps=self.gate_steps, learning_rate=self.gate_rate, betas=(0.9, 0.999))
        return replace(schedule, warmup_steps=1, decay_from=0.0, ema_decay=0.0)


REMEMBER_SMALL = MemoryRecipe(SMALL)
# From jaco-tiny's weights on: where cubes are, and how to reach them, is known.
JACO_TINY_MEMORY = MemoryRecipe(
    policy=replace(
        JACO_TINY,
        seed=22,
        steps=3_200,
        batch_images=12,
        learning_rate=1e-3,
        warmup_steps=50,
        decay_from=0.5,
        ema_decay=0.99,
    ),
    ordered_share=0.75,
    scenes=(("ordered", 3_000), ("ordered-distractor", 4_500)),
    episode_variants=("simple", "distractor", "ordered", "ordered-distractor"),
    episodes_each=12,
    taps=(0, 1, 2, 3),
)


@dataclass(frozen=True)
class JointRecipe:
    """The last stage: policy and gate together, on histories of bounded size.

    Apart from MemoryRecipe, so that a change here does not invalidate the cloning.
    """

    memory: MemoryRecipe
    steps: int = 200  # 0: no such stage
    learning_rate: float = 4e-4  # of the scorers: a tenth of what they began with
    policy_share: float = 0.05  # of it: what a policy leaves in its frames drifts away from what the scorers know
    warmup_steps: int = 20
    ema_decay: float = 0.95
    budgets: tuple[int, ...] = (3, 4, 8, 32)  # chunks that fit: one of these in each batch
    window_frames: int = 1
    agree_share: float = 1.0  # of the loss that asks for the answers that all of the memory gives
    worth_share: float = 1.0  # of the scorers' own losses

    @property
    def schedule(self) -> Recipe:
        """Optimiser and steps of the last stage."""
        own = {name: getattr(self, name) for name in ("steps", "learning_rate", "warmup_steps", "ema_decay")}
        return replace(self.memory.policy, **own)


JACO_TINY_TOGETHER = JointRecipe(JACO_TINY_MEMORY)
