"""CogACT's config.json, checked, and what it leaves out: the sizes of its parts.

Knows the published files; no tensor's numbers. The vision-language model is Prismatic's over Llama 2, whose own
config.json gives the sizes; the diffusion transformer's follow from its tensors.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stillframe.errors import CheckpointError
from stillframe.files.kinds import shown
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.cogact.dit import DiTConfig
from stillframe.models.llama.decoder import DecoderConfig
from stillframe.models.openvla.vision import TOWERS, TowerConfig

BASE_VLM = "prism-dinosiglip-224px+7b"
# Llama-2-7b-hf with the vocabulary padded: not LlamaConfig's defaults in rms_norm_eps and positions.
LLAMA_2 = DecoderConfig(vocab_size=32064, rms_norm_eps=1e-5, max_position_embeddings=4096)
HEADS = {384: 4, 768: 12, 1024: 16}  # published widths -> heads, which no tensor shows
BLOCK = re.compile(r"action_model\.blocks\.(\d+)\.")
X, Z = "action_model.x_embedder.linear.weight", "action_model.z_embedder.linear.weight"
POSITIONS = "action_model.positional_embedding"


@dataclass(frozen=True)
class CogACTConfig:
    """Sizes of all parts."""

    towers: tuple[TowerConfig, TowerConfig]  # DINOv2, SigLIP
    decoder: DecoderConfig
    dit: DiTConfig

    @classmethod
    def read(cls, folder: CheckpointFolder) -> CogACTConfig:
        """Of a run folder. Raises CheckpointError for what is not served."""
        config = folder.json("config.json")
        _check_variant(config)
        sizes = config.get("micro_sizes") or {}  # small checkpoints carry them
        if not isinstance(sizes, Mapping):
            raise CheckpointError(f"config.json: micro_sizes is {shown(repr(sizes))}; expected sizes by part")
        towers = tuple(_replaced(TOWERS[name], sizes.get("timm_overrides", {}).get(name, {})) for name in TOWERS)
        decoder = _replaced(LLAMA_2, sizes.get("text_config", {}))
        read = cls((towers[0], towers[1]), decoder, _dit(folder, decoder, sizes.get("action_model", {})))
        _check_horizon(config, read.dit)
        return read


def _check_variant(config: Mapping[str, Any]) -> None:
    vla = config.get("vla")
    base = vla.get("base_vlm") if isinstance(vla, Mapping) else None
    if base != BASE_VLM:
        raise CheckpointError(f"config.json: vla.base_vlm is {shown(repr(base))}; only {BASE_VLM!r} is supported")
    if config.get("past_action_window_size", 0) != 0:
        past = shown(repr(config["past_action_window_size"]))
        raise CheckpointError(f"config.json: past_action_window_size is {past}; only 0 is supported")


def _check_horizon(config: Mapping[str, Any], dit: DiTConfig) -> None:
    future = config.get("future_action_window_size", dit.horizon - 1)
    if future != dit.horizon - 1 or config.get("action_dim", dit.action_dim) != dit.action_dim:
        raise CheckpointError(
            f"config.json: future_action_window_size is {shown(repr(future))} and action_dim "
            f"{shown(repr(config.get('action_dim')))}; the weights draw {dit.horizon} actions of {dit.action_dim}"
        )


def _replaced(sizes: Any, given: Any) -> Any:
    """Sizes with those that are given; what the class does not have is not a size."""
    known = {field.name: field.type for field in dataclasses.fields(sizes)}
    chosen = {name: value for name, value in dict(given).items() if name in known}
    for name, value in chosen.items():
        if type(value) not in (int, float) or not 0 < value < 2**31:
            raise CheckpointError(f"config.json: {name} is {shown(repr(value))}; expected a number above 0")
    return dataclasses.replace(sizes, **chosen)


def _dit(folder: CheckpointFolder, decoder: DecoderConfig, given: Any) -> DiTConfig:
    """Sizes of the diffusion transformer by the shapes of its tensors."""
    stored = folder.stored
    shapes = {name: stored[name][1].shape for name in (X, Z, POSITIONS) if name in stored}
    if len(shapes) < 3 or any(len(shape) != 2 for shape in shapes.values()):
        raise CheckpointError(
            f"{shown(folder.path)} has no diffusion head; expected tensors such as {X} in checkpoints/: is it a "
            "vision-language model alone?"
        )
    (width, action_dim), (_, condition), (rows, _) = shapes[X], shapes[Z], shapes[POSITIONS]
    heads = dict(given).get("num_heads", HEADS.get(width))
    if type(heads) is not int or heads < 1 or width % heads:
        raise CheckpointError(f"the diffusion head is {width} wide; expected one of {', '.join(map(str, HEADS))}")
    if condition != decoder.hidden_size:
        raise CheckpointError(
            f"the diffusion head is steered by rows of {condition} numbers, and the language model's have "
            f"{decoder.hidden_size}; expected a head that was trained with this model"
        )
    depth = len({found[1] for name in stored if (found := BLOCK.match(name))})
    return DiTConfig(width, depth, heads, condition, rows - 1, action_dim)
