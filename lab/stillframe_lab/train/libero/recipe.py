"""The recipes of libero-tiny and libero-tiny-oft: what they have beside jaco-tiny's hyperparameters.

Knows numbers; no code that uses them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stillframe_lab.train.chunked.recipe import InstructedRecipe


@dataclass(frozen=True)
class LiberoRecipe(InstructedRecipe):
    """Sizes, data and optimiser of a policy for one suite."""

    suite: str = "libero_spatial"
    image_px: int = 112
    cameras: tuple[str, ...] = ("agentview", "wrist")
    demo_seed: int = 1  # of the draws; recipes with the same one share demonstrations
    demo_keep: float = 0.4  # share of a demonstration's steps that have pictures
    demos_each: int = 16  # of each task
    round_each: int = 3  # demonstrations of each task in a DAgger round, from where the policy led


LIBERO_TINY_OFT = LiberoRecipe(
    seed=12,
    steps=5_000,
    dagger_at=(1_200, 2_200),
    batch_images=16,
    learning_rate=1e-3,
    warmup_steps=100,
    decay_from=0.5,
    ema_decay=0.995,
    action_weights=(1.0, 1.0, 1.0, 0.3, 0.3, 0.3, 1.0),
)
# Of the eight actions ahead it says the first.
LIBERO_TINY = replace(
    LIBERO_TINY_OFT, seed=13, execute=1, steps=7_000, dagger_at=(1_500, 3_000, 4_500), ema_decay=0.998
)
