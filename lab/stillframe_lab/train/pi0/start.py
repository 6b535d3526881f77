"""What a pi0 begins with: jaco-tiny's decoder, as far as a Gemma can have it; what a pi0.5 begins with: a pi0.

Knows the networks; no data. A Gemma of PaliGemma's kind has one key-value head: the mean of jaco-tiny's.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from stillframe.errors import ConfigError
from stillframe.models.llama.decoder import DecoderLayer
from stillframe.models.pi0.expert import AdaptiveNorm, FixedNorm
from stillframe.models.pi0.folder import JUNK, Pi0Folder
from stillframe.models.pi0.network import Pi0Network
from stillframe.models.prismatic.network import PrismaticNetwork
from stillframe_lab.train.new_checkpoint import BOS_ID, SPECIAL, WORDS, sincos_2d
from stillframe_lab.train.pi0.files import sizes_of
from stillframe_lab.train.pi0.recipe import Pi0Recipe
from stillframe_lab.train.pi0.vocabulary import BLANK, BOS, NUMBERS, forms, pieces

POSITION_AMPLITUDE = 0.5  # of sin-cos positions, at the scale of the patches
EMBEDDING_STD = 0.5  # of a text row
NUMBER_AMPLITUDE = 0.7  # of a number's code
GATE_STD = 0.02
GELU_PER_SILU = 1.702  # silu(x) is nearly this times gelu(x / this)


def new_network(recipe: Pi0Recipe) -> Pi0Network:
    """Random weights at scales that train. Numbers of the state begin as codes, near ones alike."""
    sizes = sizes_of(recipe)
    network = Pi0Network(sizes)
    vision = sizes.vision
    network.vision.pos_embed = nn.Parameter(POSITION_AMPLITUDE * sincos_2d(vision.grid, vision.width)[0])
    embedding, scale, at = network.decoder.model.embed_tokens.weight, sizes.decoder.embedding_scale, _ids()
    nn.init.normal_(embedding, std=EMBEDDING_STD / scale)
    with torch.no_grad():
        codes = number_codes(sizes.decoder.hidden_size) / scale
        embedding[[at[f"{BLANK}{number}"] for number in NUMBERS]] = codes
    for norm in network.expert.norms:
        if isinstance(norm, AdaptiveNorm):
            begin_adaptive(norm)
    return network


def number_codes(width: int) -> torch.Tensor:
    """[numbers, width]: waves of one turn and more over all of them."""
    share = torch.tensor(NUMBERS).float()[:, None] / len(NUMBERS)
    turns = torch.exp(torch.linspace(math.log(0.5), math.log(16.0), width // 2))
    angles = 2 * math.pi * share * turns
    return NUMBER_AMPLITUDE * torch.cat((angles.sin(), angles.cos()), dim=1)


def begin_adaptive(norm: AdaptiveNorm, gain: torch.Tensor | None = None) -> None:
    """As a norm that time hardly steers: `gain` (None: 1), no shift, open gates."""
    width = norm.dense.in_features
    nn.init.normal_(norm.dense.weight, std=GATE_STD / math.sqrt(width))
    with torch.no_grad():
        norm.dense.bias.zero_()
        norm.dense.bias[2 * width :] = 1.0
        if gain is not None:
            norm.dense.bias[:width] = gain - 1.0


@torch.no_grad()
def begin_with_llama(network: Pi0Network, teacher: PrismaticNetwork) -> None:
    """Take over words and layers of an OpenVLA of the same width, which may have fewer layers."""
    llama, gemma = teacher.language_model.model, network.decoder.model
    at, scale = _ids(), network.decoder.config.embedding_scale
    lone_space = len(SPECIAL)  # its words stand behind it
    taken = {at[form]: lone_space + 1 + index for index, word in enumerate(WORDS) for form in forms(word)}
    taken |= {at["\n"]: lone_space, at[BLANK]: lone_space, BOS: BOS_ID}  # a text's last row, and its first
    for own, theirs in taken.items():
        gemma.embed_tokens.weight[own] = llama.embed_tokens.weight[theirs] / scale
    for index, layer in enumerate(llama.layers):
        take_layer(cast("DecoderLayer", gemma.layers[index]), cast("DecoderLayer", layer))


@torch.no_grad()
def begin_with_pi0(network: Pi0Network, folder: Path, recipe: Pi0Recipe) -> None:
    """Take over all that a pi0.5 shares with a pi0 of the same sizes; norms go on as they are, not steered."""
    pi0 = Pi0Network(sizes_of(replace(recipe, adaptive=False)))
    Pi0Folder(folder).load_into(pi0, dtype=torch.float32, device=torch.device("cpu"), unused=JUNK)
    shared = network.state_dict().keys() & pi0.state_dict().keys()
    network.load_state_dict({name: pi0.state_dict()[name] for name in shared}, strict=False)
    for own, fixed in zip(network.expert.norms, pi0.expert.norms, strict=True):
        if isinstance(own, AdaptiveNorm):
            begin_adaptive(own, cast("FixedNorm", fixed).weight)


def take_layer(own: DecoderLayer, theirs: DecoderLayer) -> None:
    """A layer of a Llama in a Gemma whose one key head has room for all of its: what it computes is nearly the same.

    Channels turn as fast as before in the first head, and up to a third slower in the last. SiLU becomes the GELU of a
    narrower gate.
    """
    state, size, room = theirs.state_dict(), theirs.self_attn.head_dim, own.self_attn.head_dim
    query, key, value, out = (state[f"self_attn.{name}_proj.weight"] for name in "qkvo")
    heads = len(query) // size
    if heads * size > room:
        raise ConfigError(f"{heads} key heads of {size} numbers do not fit one of {room}; expected a larger head_dim")
    attention = {name: torch.zeros_like(tensor) for name, tensor in own.self_attn.state_dict().items()}
    for head in range(heads):
        at, mixed = slice(head * size, (head + 1) * size), head * room + head * size
        rows = _rows_of(head, heads, size, room)
        attention["q_proj.weight"][head * room + rows] = query[at] * math.sqrt(room / size)
        attention["k_proj.weight"][rows] = key[at]
        attention["v_proj.weight"][at] = value[at]
        attention["o_proj.weight"][:, mixed : mixed + size] = out[:, at]
    own.load_state_dict(
        {
            **state,
            **{f"self_attn.{name}": tensor for name, tensor in attention.items()},
            "mlp.gate_proj.weight": state["mlp.gate_proj.weight"] / GELU_PER_SILU,
            "mlp.up_proj.weight": state["mlp.up_proj.weight"] * GELU_PER_SILU,
        }
    )


def _rows_of(head: int, heads: int, size: int, room: int) -> torch.Tensor:
    """Which numbers of the one head stand for a head's: pairs that turn together stay pairs, nearly as fast."""
    pairs = torch.arange(size // 2) * (room // size) + head * (room // size) // heads
    return torch.cat((pairs, pairs + room // 2))


def _ids() -> dict[str, int]:
    """Of each piece."""
    return {piece: id_ for id_, piece in enumerate(pieces())}
