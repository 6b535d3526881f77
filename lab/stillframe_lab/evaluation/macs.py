"""Count the multiply-adds and bytes of a step.

Knows sizes and row counts; no time and no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from stillframe.models.llama.decoder import DecoderConfig
from stillframe.models.prismatic.vision import TowerConfig


@dataclass(frozen=True)
class Work:
    """Multiply-adds and bytes of one part of a step."""

    macs: int  # multiply-adds
    read_bytes: int  # weights, each once, and the keys and values attended to

    def __add__(self, other: Work) -> Work:
        return Work(self.macs + other.macs, self.read_bytes + other.read_bytes)


def decoder_macs(config: DecoderConfig, rows: int, reused: Sequence[int], action_tokens: int, passes: int = 1) -> int:
    """Multiply-adds of one step: see `step_work`."""
    return sum(work.macs for work in step_work(config, rows, reused, action_tokens, passes))


def step_work(
    config: DecoderConfig,
    rows: int,
    reused: Sequence[int],
    action_tokens: int,
    passes: int = 1,
    *,
    item_bytes: int = 1,
    robots: int = 1,
) -> tuple[Work, ...]:
    """Each pass of one step: a prefill of `rows`, of which `reused[l]` do not go through layer l, and those after it.

    Each pass, the prefill among them, has a row for every action token but the last; the output head runs once for each
    token that a pass speaks of. Only rows that the head reads go through the prefill's last layer.
    """
    guesses, layers = action_tokens - 1, config.num_hidden_layers
    keys = rows + guesses
    entering = [keys, *(keys - left_out for left_out in reused[:-1]), action_tokens]
    prefill = decoder_pass(config, entering, keys, action_tokens, item_bytes, robots)
    again = decoder_pass(config, [guesses] * (layers + 1), keys, guesses, item_bytes, robots)
    return (prefill, *[again] * (passes - 1))


def history_macs(config: DecoderConfig, slots: int, text_rows: int, action_tokens: int, passes: int = 1) -> int:
    """Multiply-adds of attending to so many history slots: text and action rows do, in each layer.

    Only rows that are read go through the prefill's last layer. Pooling and scoring, once a frame, are left out.
    """
    guesses, layers = action_tokens - 1, config.num_hidden_layers
    looks = (layers - 1) * (text_rows + guesses) + action_tokens + (passes - 1) * layers * guesses
    return 2 * slots * config.hidden_size * looks


def decoder_pass(
    config: DecoderConfig, entering: Sequence[int], keys: int, heads: int, item_bytes: int, robots: int = 1
) -> Work:
    """One pass over `entering[l]` rows of each robot in layer l, of which entering[l + 1] go on.

    Attention counts rows that go on x all keys, twice (scores and values), reused keys included; what a causal kernel
    may skip is counted. A row that does not go on costs two projections, of its keys and values. `heads`
    rows get logits. Norms, rotations, softmax and the embeddings' look-up multiply next to nothing and are left out.
    `robots` alike share the pass: their rows are multiplied by weights that are read once.
    """
    whole, left = _layer(config, keys), _keys_and_values(config)
    rows = sum(going * whole + (here - going) * left for here, going in pairwise(entering))
    head = config.hidden_size * config.vocab_size
    weights = config.num_hidden_layers * _layer(config, keys=0) + head
    looked_at = config.num_hidden_layers * 2 * keys * config.num_key_value_heads * config.head_dim
    return Work(robots * (rows + heads * head), item_bytes * (weights + robots * looked_at))


def vision_work(model: Any, item_bytes: int, robots: int = 1) -> Work:
    """Both towers and the projector over a picture of each robot, without the last blocks, which feed nothing.

    `model`: a policy whose configuration names `towers`.
    """
    towers: Sequence[TowerConfig] = model.config.towers
    width = model.decoder.config.hidden_size
    dim = sum(tower.embed_dim for tower in towers)
    projector = 4 * dim * dim + 4 * dim * width + width * width
    macs = sum(_tower_macs(tower) for tower in towers) + towers[0].grid ** 2 * projector
    weights = sum((tower.depth - 1) * _block(tower) for tower in towers) + projector
    return Work(robots * macs, item_bytes * weights)


def _tower_macs(tower: TowerConfig) -> int:
    tokens = tower.grid**2 + tower.prefix_tokens
    patches = tower.grid**2 * 3 * tower.patch_px**2 * tower.embed_dim
    return patches + (tower.depth - 1) * tokens * (_block(tower) + 2 * tokens * tower.embed_dim)


def _block(tower: TowerConfig) -> int:
    """One block's weights: q, k, v and o, and the feed-forward's two."""
    return 4 * tower.embed_dim**2 + 2 * tower.embed_dim * tower.mlp_dim


def _keys_and_values(config: DecoderConfig) -> int:
    """Of one row."""
    return 2 * config.hidden_size * config.num_key_value_heads * config.head_dim


def _layer(config: DecoderConfig, keys: int) -> int:
    """One row in one layer: projections and feed-forward, and its look at every key."""
    width = config.hidden_size
    projections = 2 * width * width + _keys_and_values(config)  # q and o, k and v
    feed_forward = 3 * width * config.intermediate_size  # gate, up, down
    attention = 2 * keys * width  # over all heads together
    return projections + feed_forward + attention
