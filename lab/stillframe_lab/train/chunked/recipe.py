"""The recipes of jaco-tiny-oft and jaco-tiny-cogact: what they have beside jaco-tiny's hyperparameters.

Knows numbers; no code that uses them.
"""

from __future__ import annotations

from dataclasses import dataclass

from stillframe_lab.train.recipe import Recipe


@dataclass(frozen=True)
class ChunkRecipe(Recipe):
    """Sizes, data and optimiser of a policy that says `horizon` actions at once."""

    horizon: int = 8  # actions in a chunk
    execute: int = 8
    shared_share: float = 0.75  # of the steps: instructions share a picture's rows, which do not see them
    state_noise: float = 0.01  # on the state, in its normalised units
    head_width: int = 256
    head_depth: int = 2  # blocks

    # diffusion
    head_heads: int = 4
    repeats: int = 4  # noisy copies of each chunk in a batch
    unsteered: float = 0.1  # share of them whose condition is left out, for guidance


@dataclass(frozen=True)
class InstructedRecipe(ChunkRecipe):
    """Of a policy whose frames are labelled for the one instruction of their episode."""

    auxiliary_share: float = 0.5
    copy_share: float = 5.0


JACO_TINY_OFT = ChunkRecipe(
    seed=9,
    cameras=("front", "wrist"),
    demo_frames=8_000,
    dagger_frames=2_000,
    dagger_at=(400, 700),
    steps=1_200,
    learning_rate=1e-3,
    warmup_steps=60,
    decay_from=0.5,
    ema_decay=0.995,
    select_episodes=20,
)
JACO_TINY_COGACT = ChunkRecipe(
    seed=10,
    demo_frames=8_000,
    dagger_frames=2_000,
    dagger_at=(600, 1_100, 1_600),
    steps=2_400,
    learning_rate=1e-3,
    warmup_steps=60,
    decay_from=0.4,
    ema_decay=0.995,
    select_episodes=20,
    horizon=16,
    head_width=128,
    head_depth=3,
)
