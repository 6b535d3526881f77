"""CogACT's config.json, checked, and what it leaves out: the sizes of its parts.

Knows the published files; no tensor's numbers. The vision-language model is Prismatic's over Llama 2, whose own
config.json gives the sizes; the diffusion transformer's follow from its tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stillframe.errors import CheckpointError
from stillframe.files.kinds import shown
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.cogact.diffusion import Denoising, step_counts
from stillframe.models.cogact.dit import DiTConfig
from stillframe.models.prismatic.config import SUPPORTED, PrismaticConfig
from stillframe.models.prismatic.vision import TOWERS

BASE_VLM = "prism-dinosiglip-224px+7b"
# Llama-2-7b-hf with the vocabulary padded: not LlamaConfig's defaults in rms_norm_eps and positions.
LLAMA_2 = {"vocab_size": 32064, "rms_norm_eps": 1e-5, "max_position_embeddings": 4096}
SMALL = "micro_sizes"  # our key, which published checkpoints lack: the sizes of small ones, part by part
HEADS = {384: 4, 768: 12, 1024: 16}  # published widths -> heads, which no tensor shows
STEPS, GUIDANCE = "num_ddim_steps", "cfg_scale"
SETTINGS = (STEPS, GUIDANCE)  # keys that a deployment may say otherwise
MOST_GUIDANCE = 20.0
BLOCK = re.compile(r"action_model\.blocks\.(\d+)\.")
X, Z = "action_model.x_embedder.linear.weight", "action_model.z_embedder.linear.weight"
POSITIONS = "action_model.positional_embedding"


@dataclass(frozen=True)
class CogACTConfig:
    """Sizes of both models."""

    vlm: PrismaticConfig
    dit: DiTConfig
    denoising: Denoising

    @classmethod
    def read(cls, folder: CheckpointFolder) -> CogACTConfig:
        """Of a run folder. Raises CheckpointError for what is not served."""
        config = folder.json("config.json")
        vlm = cls.from_json(config)
        heads = _small_sizes(config).get("action_model", {}).get("num_heads")
        dit = _dit(folder, vlm.decoder.hidden_size, heads)
        _check_horizon(config, dit)
        return cls(vlm, dit, _denoising(config))

    @staticmethod
    def from_json(config: Mapping[str, Any]) -> PrismaticConfig:
        """The vision-language model's sizes by config.json. Raises CheckpointError for another variant."""
        _check_variant(config)
        sizes = _small_sizes(config)
        written: dict[str, Any] = {
            **SUPPORTED,
            "timm_model_ids": [*TOWERS],
            "timm_overrides": sizes.get("timm_overrides", {}),
            "text_config": {**LLAMA_2, **sizes.get("text_config", {})},
            "pad_to_multiple_of": 64,
            "n_action_bins": 256,  # of the vision-language model it began as: no action is decoded
        }
        return PrismaticConfig.from_json(written)


def _small_sizes(config: Mapping[str, Any]) -> Mapping[str, Any]:
    sizes = config.get(SMALL) or {}
    if not isinstance(sizes, Mapping) or not all(isinstance(part, Mapping) for part in sizes.values()):
        raise CheckpointError(f"config.json: {SMALL} is {shown(repr(sizes))}; expected sizes by part")
    return sizes


def _check_variant(config: Mapping[str, Any]) -> None:
    vla = config.get("vla")
    base = vla.get("base_vlm") if isinstance(vla, Mapping) else None
    if base != BASE_VLM:
        raise CheckpointError(f"config.json: vla.base_vlm is {shown(repr(base))}; only {BASE_VLM!r} is supported")
    past = config.get("past_action_window_size", 0)
    if past != 0:
        raise CheckpointError(f"config.json: past_action_window_size is {shown(repr(past))}; only 0 is supported")


def _check_horizon(config: Mapping[str, Any], dit: DiTConfig) -> None:
    said = {"future_action_window_size": dit.horizon - 1, "action_dim": dit.action_dim}
    for key, size in said.items():
        if config.get(key, size) != size:
            raise CheckpointError(f"config.json: {key} is {shown(repr(config[key]))}; the weights are for {size}")


def _denoising(config: Mapping[str, Any]) -> Denoising:
    """How chunks are drawn: our keys, which published checkpoints lack."""
    steps, guidance = config.get(STEPS, Denoising.steps), config.get(GUIDANCE, Denoising.guidance)
    if type(steps) is not int or steps not in step_counts():
        expected = ", ".join(map(str, step_counts()))
        raise CheckpointError(f"config.json: {STEPS} is {shown(repr(steps))}; expected one of {expected}")
    if type(guidance) not in (int, float) or not 0 <= guidance <= MOST_GUIDANCE:
        raise CheckpointError(
            f"config.json: {GUIDANCE} is {shown(repr(guidance))}; expected 0 to {MOST_GUIDANCE:g}, at most 1 for none"
        )
    return Denoising(steps, float(guidance))


def _dit(folder: CheckpointFolder, condition_width: int, heads: Any) -> DiTConfig:
    """Sizes of the diffusion transformer by the shapes of its tensors; `heads` where they are not the published."""
    stored = folder.stored
    shapes = {name: stored[name][1].shape for name in (X, Z, POSITIONS) if name in stored}
    if len(shapes) < 3 or any(len(shape) != 2 for shape in shapes.values()):
        raise CheckpointError(
            f"{shown(folder.path)} has no diffusion head; expected tensors such as {X}: is it a vision-language model "
            "alone?"
        )
    (width, action_dim), (_, condition), (rows, _) = shapes[X], shapes[Z], shapes[POSITIONS]
    heads = HEADS.get(width) if heads is None else heads
    if type(heads) is not int or heads < 1 or width % heads:
        raise CheckpointError(f"the diffusion head is {width} wide; expected one of {', '.join(map(str, HEADS))}")
    if condition != condition_width:
        raise CheckpointError(
            f"the diffusion head is steered by rows of {condition} numbers, the language model's have "
            f"{condition_width}; expected a head that was trained with this model"
        )
    depth = len({found[1] for name in stored if (found := BLOCK.match(name))})
    return DiTConfig(width, depth, heads, condition, rows - 1, action_dim)
