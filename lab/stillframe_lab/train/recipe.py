"""The recipes of jaco-tiny and jaco-tiny-wrist: all hyperparameters, in one frozen dataclass.

Knows numbers, and the instructions that are trained; no code that uses them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stillframe_client.sim import COLOURS, Goal

INSTRUCTIONS = tuple(Goal(task, colour) for task in ("reach", "pick") for colour in COLOURS)


@dataclass(frozen=True)
class Recipe:
    """Sizes, data and optimiser. One recipe gives one checkpoint (on one machine, by one thread)."""

    seed: int = 7
    cameras: tuple[str, ...] = ("front",)  # of the simulator; labels are in the first one's pixels

    # the network
    image_px: int = 224
    tower_dim: int = 64
    tower_depth: int = 3  # the last block is stored but not read, as in OpenVLA
    tower_heads: int = 2
    width: int = 128
    layers: int = 4
    heads: int = 4
    feed_forward: int = 336

    # demonstrations: noisy-expert rollouts, then the policy's own mistakes with the expert's labels (DAgger)
    shards: int = 2  # folders of frames per collection, each with a seed of its own
    demo_frames: int = 26_000
    dagger_frames: int = 5_000  # per round
    dagger_at: tuple[int, ...] = (1_500, 2_600, 3_700)  # steps after which a round is collected
    dagger_expert_share: float = 0.3  # actions of a round that the expert takes
    dagger_draw: float = 0.4  # share of a batch drawn from the DAgger rounds, once there are any

    # optimiser
    steps: int = 5_500
    batch_images: int = 16  # each with six instructions
    learning_rate: float = 1.5e-3
    warmup_steps: int = 100
    decay_from: float = 0.4  # of all steps; then linearly to zero
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    betas: tuple[float, float] = (0.9, 0.95)
    ema_decay: float = 0.998

    # targets
    soft_sigma_bins: float = 4.0
    jitter_sigma_bins: float = 4.0  # of the action tokens fed back in, so that no exact value becomes a password
    action_share: float = 2.0  # of the action loss in the sum; the auxiliary losses have one each
    action_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.5)
    noise_sigma_max: float = 3.0  # grey levels, on half of the pictures

    # selection, on seeds that the model card's evaluation never sees
    execute: int = 1  # actions of each answer that are played before the policy looks again
    select_episodes: int = 40
    select_seed: int = 500_000


JACO_TINY = Recipe()
# Two cameras cost twice as much a frame; from jaco-tiny's weights on, a sixth of its steps is enough.
JACO_TINY_WRIST = replace(
    JACO_TINY,
    seed=8,
    cameras=("front", "wrist"),
    demo_frames=8_000,
    dagger_frames=2_000,
    dagger_at=(600,),
    steps=900,
    learning_rate=8e-4,
    warmup_steps=60,
    decay_from=0.65,
    ema_decay=0.995,
    select_episodes=20,
)
