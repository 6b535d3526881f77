"""What a policy for LIBERO begins with: another policy's network, its positions resized to other pictures.

Knows checkpoints' tensors; no data.
"""

from __future__ import annotations

from dataclasses import replace
from math import isqrt
from pathlib import Path

from torch import Tensor
from torch.nn import functional

from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.prismatic.config import PrismaticConfig
from stillframe.models.prismatic.network import PrismaticNetwork
from stillframe_lab.train.new_checkpoint import load_network
from stillframe_lab.train.recipe import Recipe

POSITIONS = "pos_embed"


def begin_with(network: PrismaticNetwork, start: Path, recipe: Recipe) -> None:
    """Take over the weights of a checkpoint of the recipe's widths, whose pictures may be of another size.

    Its rows of words are taken as they are: what they mean is learned anew. Raises CheckpointError for other widths.
    """
    before = PrismaticConfig.from_json(CheckpointFolder(start).json("config.json")).towers[0].image_px
    theirs = load_network(start, replace(recipe, image_px=before)).state_dict()
    own = network.state_dict()
    network.load_state_dict(
        {
            name: resized(tensor, own[name].shape[1]) if name.endswith(POSITIONS) else tensor
            for name, tensor in theirs.items()
        }
    )


def resized(positions: Tensor, count: int) -> Tensor:
    """[1, patches, width] of a square grid -> [1, count, width] of another."""
    before, after = isqrt(positions.shape[1]), isqrt(count)
    square = positions.transpose(1, 2).reshape(1, -1, before, before)
    return functional.interpolate(square, (after, after), mode="bilinear", antialias=True).flatten(2).transpose(1, 2)
