"""How much a decoder multiplies for one step: the count that a reuse ratio has to be worth.

Knows sizes and row counts; no time and no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from stillframe.models.decoder import DecoderConfig


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
