"""Checks of a checkpoint on a Prismatic VLM: that its statistics, pixels and action tokens belong together.

Knows what openvla-7b's folder holds; builds no network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillframe.errors import CheckpointError
from stillframe.models.actions import ActionBins, Statistics
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.llama.decoder import Decoder
from stillframe.models.prismatic.config import PrismaticConfig
from stillframe.models.prismatic.pixels import PixelPipeline
from stillframe.models.prismatic.vision import unused_tensors
from stillframe.models.scales import log_differences
from stillframe.models.soundness import zero_rows

ACTION_NAMES = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
# The towers' last block, final norm and attention pool are stored but feed nothing.
NEVER_READ = ("vision_backbone.fused_featurizer.attn_pool.",)


def norm_stats(folder: CheckpointFolder, config: PrismaticConfig) -> Mapping[str, Any]:
    """Statistics beside the weights take precedence over those in config.json; differences are logged."""
    chosen = folder.json("dataset_statistics.json") if folder.has("dataset_statistics.json") else config.norm_stats
    log_differences(folder.path, chosen, config.norm_stats)
    return chosen


def check_action(folder: CheckpointFolder, statistics: Statistics) -> None:
    """Clients read what each number means, so there are as many numbers as names."""
    if statistics.action_dim != len(ACTION_NAMES):
        raise CheckpointError(
            f"{folder.path}: its statistics ({', '.join(statistics.scales)}) are of actions with "
            f"{statistics.action_dim} numbers; only {len(ACTION_NAMES)} are supported: {', '.join(ACTION_NAMES)}"
        )


def check_action_rows(folder: CheckpointFolder, decoder: Decoder, bins: ActionBins) -> None:
    """Every action token has weights: they are at the end of two tensors, where a download may have stopped."""
    first = bins.text_vocab_size - bins.bins + 1
    for name, table in (("model.embed_tokens", decoder.model.embed_tokens), ("lm_head", decoder.lm_head)):
        fault = zero_rows(f"language_model.{name}.weight", table.weight[first : bins.text_vocab_size], first)
        if fault is not None:
            raise CheckpointError(f"{folder.path}: {fault}")


def unused_names(config: PrismaticConfig) -> list[str]:
    """Full names of stored tensors that feed nothing."""
    names = zip(("featurizer", "fused_featurizer"), config.towers, strict=True)
    return [f"vision_backbone.{tower}.{key}" for tower, sizes in names for key in unused_tensors(sizes)] + [*NEVER_READ]


def check_pixels(pixels: PixelPipeline, config: PrismaticConfig) -> None:
    """The towers take images of the size they were built for, each with its own normalisation."""
    side_px = config.towers[0].image_px
    if pixels.size != (side_px, side_px) or len(pixels.means) != len(config.towers):
        raise CheckpointError(
            f"preprocessor_config.json makes {len(pixels.means)} x {pixels.size} pixels; "
            f"expected {len(config.towers)} x {(side_px, side_px)}, one per tower"
        )
