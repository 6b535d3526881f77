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

from stillframe.models.llama.decoder import DecoderLayer
from stillframe.models.pi0.expert import AdaptiveNorm, FixedNorm
from stillframe.models.pi0.folder import JUNK, Pi0Folder
from stillframe.models.pi0.network import Pi0Network
from stillframe.models.prismatic.network import PrismaticNetwork
from stillframe_lab.train.new_checkpoint import SPECIAL, WORDS, sincos_2d
from stillframe_lab.train.pi0.files import sizes_of
from stillframe_lab.train.pi0.recipe import Pi0Recipe
from stillframe_lab.train.pi0.vocabulary import BLANK, NUMBERS, forms, pieces

POSITION_AMPLITUDE = 0.5  # of sin-cos positions, at the scale of the patches
EMBEDDING_STD = 0.5  # of a text row
NUMBER_AMPLITUDE = 0.7  # of a number's code
GATE_STD = 0.02


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
    """Take over words and layers of an OpenVLA of the same width and depth."""
    llama, gemma = teacher.language_model.model, network.decoder.model
    at, scale = _ids(), network.decoder.config.embedding_scale
    for index, word in enumerate(WORDS, len(SPECIAL) + 1):  # the lone space stands between them
        for form in forms(word):
            gemma.embed_tokens.weight[at[form]] = llama.embed_tokens.weight[index] / scale
    for theirs, own in zip(llama.layers, gemma.layers, strict=True):
        _take_layer(cast("DecoderLayer", own), cast("DecoderLayer", theirs))
    gemma.norm.load_state_dict(llama.norm.state_dict())


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


def _take_layer(own: DecoderLayer, theirs: DecoderLayer) -> None:
    """Queries, outputs, feed-forward and norms as they are, keys and values by the mean of the heads."""
    state = theirs.state_dict()
    width = own.self_attn.head_dim
    for part in ("k", "v"):
        name = f"self_attn.{part}_proj.weight"
        state[name] = state[name].unflatten(0, (-1, width)).mean(0)
    own.load_state_dict(state)


def _ids() -> dict[str, int]:
    """Of each piece."""
    return {piece: id_ for id_, piece in enumerate(pieces())}
