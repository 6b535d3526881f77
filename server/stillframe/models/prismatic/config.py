"""config.json of a checkpoint on a Prismatic VLM, checked: sizes of towers and decoder, action ids, statistics.

Knows openvla-7b's fields and what they leave out; no tensor. What we would compute wrongly is refused here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from stillframe.errors import CheckpointError
from stillframe.files.kinds import shown
from stillframe.models.actions import ActionBins
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.llama.decoder import DecoderConfig
from stillframe.models.prismatic.vision import TOWERS, TowerConfig

Required = TypeVar("Required")

SUPPORTED = {
    "arch_specifier": "no-align+fused-gelu-mlp",
    "image_resize_strategy": "resize-naive",
    "use_fused_vision_backbone": True,
    "vision_backbone_id": "dinosiglip-vit-so-224px",
}
# Of text_config, where it is given: a plain Llama.
SUPPORTED_TEXT = {"model_type": "llama", "hidden_act": "silu", "rope_scaling": None}
FRACTIONS = ("rms_norm_eps", "rope_theta")  # of text_config; every other number there is a size
# Sizes that no tensor shows: positions are a table that is made at load, an image's side is squared.
MOST_POSITIONS, MOST_SIDE_PX, MOST_CAMERAS = 2**18, 4096, 64
EMBEDDING = "language_model.model.embed_tokens.weight"
SETTINGS = ("cameras",)  # keys that a deployment may say otherwise
CAMERA = "image"  # the one camera's name where config.json names none


@dataclass(frozen=True)
class PrismaticConfig:
    """The contents of config.json, with defaults for what it leaves out."""

    towers: tuple[TowerConfig, TowerConfig]  # DINOv2, SigLIP
    decoder: DecoderConfig
    bins: ActionBins
    norm_stats: Mapping[str, Any]
    cameras: tuple[str, ...] = (CAMERA,)  # in the order of their patches

    def check_sizes(self, folder: CheckpointFolder) -> None:
        """Raise CheckpointError for sizes that contradict the folder's weights, before anything is built."""
        sides = ("vocab_size", "hidden_size", "intermediate_size")
        sizes = {f"text_config.{side}": getattr(self.decoder, side) for side in sides}
        counts = {"text_config.num_hidden_layers": self.decoder.num_hidden_layers}
        for name, tower in zip(TOWERS, self.towers, strict=True):
            sizes |= {f"timm_overrides.{name}.embed_dim": tower.embed_dim, f"the mlp of {name}": tower.mlp_dim}
            counts[f"timm_overrides.{name}.depth"] = tower.depth
        layer, decoder = "language_model.model.layers.0.mlp.gate_proj.weight", self.decoder
        embedding = (decoder.vocab_size, decoder.hidden_size)
        shapes = {EMBEDDING: embedding, layer: (decoder.intermediate_size, decoder.hidden_size)}
        folder.check_sizes(sizes, counts, shapes)

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> PrismaticConfig:
        """Read config.json; CheckpointError names the variant that is not supported."""
        for key, value in SUPPORTED.items():
            if config.get(key) != value:
                raise CheckpointError(
                    f"config.json: {key} is {shown(repr(config.get(key)))}; only {value!r} is supported"
                )
        decoder = _decoder_config(_require(config, "text_config", dict))
        norm_stats = config.get("norm_stats") or {}
        if not isinstance(norm_stats, Mapping):
            raise CheckpointError(
                f"config.json: norm_stats is a {type(norm_stats).__name__}; expected data sets by name"
            )
        read = cls(_towers(config), decoder, _bins(config, decoder), norm_stats, _cameras(config))
        _check_room(read)
        return read


def _decoder_config(text: Mapping[str, Any]) -> DecoderConfig:
    """Llama's sizes from text_config; what it leaves out is LlamaConfig's default."""
    for key, value in SUPPORTED_TEXT.items():
        if text.get(key, value) != value:
            raise CheckpointError(
                f"config.json: text_config.{key} is {shown(repr(text[key]))}; only {value!r} is supported"
            )
    sizes = {each.name: text[each.name] for each in dataclasses.fields(DecoderConfig) if each.name in text}
    sizes.setdefault("num_key_value_heads", sizes.get("num_attention_heads", DecoderConfig.num_attention_heads))
    for key, size in sizes.items():
        _check_size(f"text_config.{key}", size, whole=key not in FRACTIONS)
    decoder = DecoderConfig(**sizes)
    _check_at_most("text_config.max_position_embeddings", decoder.max_position_embeddings, MOST_POSITIONS)
    _check_divides("text_config.hidden_size", decoder.hidden_size, "num_attention_heads", decoder.num_attention_heads)
    if decoder.head_dim % 2:
        raise CheckpointError(
            f"config.json: text_config.hidden_size is {decoder.hidden_size} for {decoder.num_attention_heads} heads; "
            "expected an even number for each, whose halves are turned"
        )
    heads, kv_heads = decoder.num_attention_heads, decoder.num_key_value_heads
    _check_divides("text_config.num_attention_heads", heads, "num_key_value_heads", kv_heads)
    return decoder


def _check_room(config: PrismaticConfig) -> None:
    """The images' patches and some text have to fit into the decoder's positions."""
    positions, patches = config.decoder.max_position_embeddings, len(config.cameras) * config.towers[0].grid ** 2
    if positions <= patches:
        raise CheckpointError(
            f"config.json: text_config.max_position_embeddings is {positions}; the pictures alone take {patches}"
        )


def _bins(config: Mapping[str, Any], decoder: DecoderConfig) -> ActionBins:
    """The action ids, which lie below the padding of the vocabulary."""
    bins = ActionBins(
        decoder.vocab_size - _require(config, "pad_to_multiple_of", int), _require(config, "n_action_bins", int)
    )
    if not 2 <= bins.bins <= bins.text_vocab_size <= decoder.vocab_size:
        raise CheckpointError(
            f"config.json: n_action_bins is {bins.bins}; expected 2 to {bins.text_vocab_size}, "
            "which is text_config.vocab_size less pad_to_multiple_of"
        )
    return bins


def _cameras(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Our key `cameras`, which OpenVLA's own checkpoints lack: the views, in the order of their patches."""
    names = config.get("cameras", [CAMERA])
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise CheckpointError(f"config.json: cameras is {shown(repr(names))}; expected a list of one or more names")
    _check_at_most("the number of cameras", len(names), MOST_CAMERAS)
    if len(set(names)) < len(names):
        raise CheckpointError(f"config.json: cameras is {shown(repr(names))}; expected every name once")
    return tuple(names)


def _towers(config: Mapping[str, Any]) -> tuple[TowerConfig, TowerConfig]:
    """DINOv2's and SigLIP's sizes, from their timm ids and the overrides that small checkpoints carry."""
    ids = _require(config, "timm_model_ids", list)
    if list(ids) != list(TOWERS):
        raise CheckpointError(f"config.json: timm_model_ids are {shown(ids)}; only {list(TOWERS)} are supported")
    overrides = config.get("timm_overrides") or {}
    try:
        dino, siglip = (_tower(name, **overrides.get(name, {})) for name in ids)
    except (TypeError, AttributeError) as error:
        raise CheckpointError(f"config.json: timm_overrides cannot be applied ({shown(error)})") from error
    return dino, siglip


def _tower(name: str, **sizes: object) -> TowerConfig:
    """A tower with some sizes of its own. TypeError for a size that towers do not have."""
    where = f"timm_overrides.{name}"
    for key, size in sizes.items():
        _check_size(f"{where}.{key}", size, whole=True)
    tower = dataclasses.replace(TOWERS[name], **cast("dict[str, Any]", sizes))
    _check_at_most(f"{where}.image_px", tower.image_px, MOST_SIDE_PX)
    _check_divides(f"{where}.embed_dim", tower.embed_dim, "num_heads", tower.num_heads)
    return tower


def _check_size(where: str, size: object, *, whole: bool) -> None:
    """Above 0, and whole unless it may be a fraction; JSON's true is no number."""
    if type(size) not in ((int,) if whole else (int, float)) or not 0 < _float(size) < math.inf:
        raise CheckpointError(
            f"config.json: {where} is {shown(repr(size))}; expected a {'whole ' * whole}number above 0"
        )


def _float(size: object) -> float:
    """A whole number beyond the largest float is like one that is not finite."""
    try:
        return float(cast("float", size))
    except OverflowError:
        return math.inf


def _check_at_most(where: str, size: int, most: int) -> None:
    if size > most:
        raise CheckpointError(f"config.json: {where} is {size}; expected at most {most}")


def _check_divides(where: str, size: int, what: str, parts: int) -> None:
    if size % parts:
        raise CheckpointError(f"config.json: {where} is {size}; expected a multiple of {what}, which is {parts}")


def _require(config: Mapping[str, Any], key: str, kind: type[Required]) -> Required:
    """A field of config.json that has to be there, of the right kind."""
    value = config.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise CheckpointError(f"config.json: {key} is {shown(repr(value))}; expected {kind.__name__}")
    return value
