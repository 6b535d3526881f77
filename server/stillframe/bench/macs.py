"""How much a decoder multiplies for one step: the count that a reuse ratio has to be worth.

Knows sizes and row counts; no time and no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from stillframe.models.decoder import DecoderConfig
from stillframe.models.vision import TowerConfig


@dataclass(frozen=True)
class Work:
    """What a part of a step cannot do without."""

    macs: int  # multiply-adds
    read_bytes: int  # weights, each once, and the keys and values that are looked at

    def __add__(self, other: Work) -> Work:
        return Work(self.macs + other.macs, self.read_bytes + other.read_bytes)


def decoder_macs(config: DecoderConfig, rows: int, reused: Sequence[int], action_tokens: int, passes: int = 1) -> int:
    """Multiply-adds of one step: the prefill of `rows`, of which `reused[l]` do not go through layer l, and decoding.

    A row writes its keys and values in the layer in which it drops out, too: there it costs these two projections.

    Each pass, the prefill among them, has a row for every action token but the last; the output head runs once for each
    token that a pass speaks of. Attention counts active rows x all keys, twice (scores and mixing), for a row looks at
    reused keys too; what a causal kernel may skip is counted. Norms, rotations, softmax and the embeddings' look-up
    multiply next to nothing and are left out.
    """
    guesses = action_tokens - 1
    keys = rows + guesses
    prefill = sum(_layer(config, keys - left_out, keys) for left_out in reused)
    prefill += sum(_keys_and_values(config) * (now - before) for before, now in pairwise((0, *reused)))
    decode = (passes - 1) * _layer(config, guesses, keys) * config.num_hidden_layers
    return prefill + decode + (1 + passes * guesses) * config.hidden_size * config.vocab_size


def _keys_and_values(config: DecoderConfig) -> int:
    """Of one row."""
    return 2 * config.hidden_size * config.num_key_value_heads * config.head_dim


def _layer(config: DecoderConfig, rows: int, keys: int) -> int:
    """One layer over `rows`: projections and feed-forward of each, and its look at every key."""
    width = config.hidden_size
    projections = 2 * width * width + _keys_and_values(config)  # q and o, k and v
    feed_forward = 3 * width * config.intermediate_size  # gate, up, down
    attention = 2 * keys * width  # over all heads together
    return rows * (projections + feed_forward + attention)


def decoder_pass(
    config: DecoderConfig, active: Sequence[int], keys: int, heads: int, item_bytes: int, robots: int = 1
) -> Work:
    """One pass over `active[l]` rows of each robot in layer l, each looking at `keys` keys; `heads` rows get logits.

    A row that goes through fewer layers than the first ones' writes its keys and values where it leaves. `robots` alike
    share the pass: their rows are multiplied by weights that are read once.
    """
    rows = sum(_layer(config, count, keys) for count in active)
    rows += sum(_keys_and_values(config) * (before - now) for before, now in pairwise(active))
    head = config.hidden_size * config.vocab_size
    weights = config.num_hidden_layers * _layer(config, 1, 0) + head
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
