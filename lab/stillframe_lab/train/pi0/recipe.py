"""The recipes of jaco-tiny-pi0 and jaco-tiny-pi05: what they have beside other chunked policies' hyperparameters.

Knows numbers; no code that uses them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stillframe_lab.train.chunked.recipe import ChunkRecipe
from stillframe_lab.train.recipe import JACO_TINY, Recipe


@dataclass(frozen=True)
class Pi0Recipe(ChunkRecipe):
    """Sizes, data and optimiser of a flow over chunks. `head_width` is the action expert's."""

    adaptive: bool = False  # pi0.5: norms steered by time, the state in the prompt
    head_dim: int = 128  # of both decoders: room for all key heads of the start in one
    expert_feed_forward: int = 288
    distil_steps: int = 0  # steps first in which the tower alone learns, the start's patches
    start: Recipe = JACO_TINY  # sizes of the OpenVLA that it learns from then


JACO_TINY_PI0 = Pi0Recipe(
    seed=11,
    tower_dim=144,
    tower_depth=2,  # all are read
    layers=5,  # the start's, and one more: what the last one makes of its rows is not read, only keys and values
    demo_frames=8_000,
    dagger_frames=2_000,
    dagger_at=(900, 1_300, 1_700),
    steps=2_200,
    learning_rate=1e-3,
    warmup_steps=60,
    decay_from=0.5,
    ema_decay=0.995,
    select_episodes=20,
    horizon=10,
    execute=5,
    head_width=96,
    distil_steps=400,
)
# It begins with jaco-tiny-pi0's weights. Pictures see the text, the state's numbers among it, for most of the steps.
JACO_TINY_PI05 = replace(
    JACO_TINY_PI0,
    adaptive=True,
    dagger_at=(300, 600, 1_400),
    steps=2_000,
    learning_rate=7e-4,
    shared_share=0.375,
    distil_steps=0,
)
