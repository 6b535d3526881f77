"""OpenVLA's config.json, checked: the sizes of towers and decoder, the action's ids, the statistics.

Knows openvla-7b's fields and what they leave out; no tensor. What we would compute wrongly is refused here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from stillframe.errors import CheckpointError
from stillframe.models.actions import ActionBins
from stillframe.models.decoder import DecoderConfig
from stillframe.models.vision import TOWERS, TowerConfig

Required = TypeVar("Required")

SUPPORTED = {
    "arch_specifier": "no-align+fused-gelu-mlp",
    "image_resize_strategy": "resize-naive",
    "use_fused_vision_backbone": True,
    "vision_backbone_id": "dinosiglip-vit-so-224px",
}
# Of text_config, where it says so at all: what a plain Llama is.
SUPPORTED_TEXT = {"model_type": "llama", "hidden_act": "silu", "rope_scaling": None}
FRACTIONS = ("rms_norm_eps", "rope_theta")  # of text_config; every other number there is a size
CAMERA = "image"  # the one camera's name where config.json names none


@dataclass(frozen=True)
class OpenVLAConfig:
    """What config.json says, with the defaults that it leaves out."""

    towers: tuple[TowerConfig, TowerConfig]  # DINOv2, SigLIP
    decoder: DecoderConfig
    bins: ActionBins
    norm_stats: Mapping[str, Any]
    cameras: tuple[str, ...] = (CAMERA,)  # in the order of their patches

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> OpenVLAConfig:
        """Read config.json; CheckpointError names the variant that is not supported."""
        for key, value in SUPPORTED.items():
            if config.get(key) != value:
                raise CheckpointError(f"config.json: {key} is {config.get(key)!r}; only {value!r} is supported")
        decoder = _decoder_config(_require(config, "text_config", dict))
        norm_stats = config.get("norm_stats") or {}
        if not isinstance(norm_stats, Mapping):
            raise CheckpointError(
                f"config.json: norm_stats is a {type(norm_stats).__name__}; expected data sets by name"
            )
        return cls(_towers(config), decoder, _bins(config, decoder), norm_stats, _cameras(config))


def _decoder_config(text: Mapping[str, Any]) -> DecoderConfig:
    """Llama's sizes from text_config; what it leaves out is LlamaConfig's default."""
    for key, value in SUPPORTED_TEXT.items():
        if text.get(key, value) != value:
            raise CheckpointError(f"config.json: text_config.{key} is {text[key]!r}; only {value!r} is supported")
    sizes = {each.name: text[each.name] for each in dataclasses.fields(DecoderConfig) if each.name in text}
    sizes.setdefault("num_key_value_heads", sizes.get("num_attention_heads", DecoderConfig.num_attention_heads))
    for key, size in sizes.items():
        _check_size(f"text_config.{key}", size, whole=key not in FRACTIONS)
    decoder = DecoderConfig(**sizes)
    _check_divides("text_config.hidden_size", decoder.hidden_size, "num_attention_heads", decoder.num_attention_heads)
    heads, kv_heads = decoder.num_attention_heads, decoder.num_key_value_heads
    _check_divides("text_config.num_attention_heads", heads, "num_key_value_heads", kv_heads)
    return decoder


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
        raise CheckpointError(f"config.json: cameras is {names!r}; expected a list of one or more names")
    if len(set(names)) < len(names):
        raise CheckpointError(f"config.json: cameras is {names!r}; expected every name once")
    return tuple(names)


def _towers(config: Mapping[str, Any]) -> tuple[TowerConfig, TowerConfig]:
    """DINOv2's and SigLIP's sizes, from their timm ids and the overrides that small checkpoints carry."""
    ids = _require(config, "timm_model_ids", list)
    if list(ids) != list(TOWERS):
        raise CheckpointError(f"config.json: timm_model_ids are {ids}; only {list(TOWERS)} are supported")
    overrides = config.get("timm_overrides") or {}
    try:
        dino, siglip = (_tower(name, **overrides.get(name, {})) for name in ids)
    except (TypeError, AttributeError) as error:
        raise CheckpointError(f"config.json: timm_overrides cannot be applied ({error})") from error
    return dino, siglip


def _tower(name: str, **sizes: object) -> TowerConfig:
    """A tower with some sizes of its own. TypeError for a size that towers do not have."""
    where = f"timm_overrides.{name}"
    for key, size in sizes.items():
        _check_size(f"{where}.{key}", size, whole=True)
    tower = dataclasses.replace(TOWERS[name], **cast("dict[str, Any]", sizes))
    _check_divides(f"{where}.embed_dim", tower.embed_dim, "num_heads", tower.num_heads)
    return tower


def _check_size(where: str, size: object, *, whole: bool) -> None:
    """Above 0, and whole unless it may be a fraction; JSON's true is no number."""
    if type(size) not in ((int,) if whole else (int, float)) or not cast("float", size) > 0:
        raise CheckpointError(f"config.json: {where} is {size!r}; expected a {'whole ' * whole}number above 0")


def _check_divides(where: str, size: int, what: str, parts: int) -> None:
    if size % parts:
        raise CheckpointError(f"config.json: {where} is {size}; expected a multiple of {what}, which is {parts}")


def _require(config: Mapping[str, Any], key: str, kind: type[Required]) -> Required:
    """A field of config.json that has to be there, of the right kind."""
    value = config.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise CheckpointError(f"config.json: {key} is {value!r}; expected {kind.__name__}")
    return value
