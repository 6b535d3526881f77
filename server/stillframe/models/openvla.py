"""OpenVLA: two towers, a projector, a Llama that speaks action tokens.

Knows the layout of openvla-7b's folder; no HTTP and no session. Source: openvla/openvla prismatic/extern/hf.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from stillframe.domain import ActionChunk, Observation, PolicyInfo
from stillframe.errors import CheckpointError, Unprocessable
from stillframe.models.actions import ActionBins, Statistics
from stillframe.models.base import Decoded, Prepared
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.decoder import Decoder, DecoderConfig
from stillframe.models.greedy import decode_greedily
from stillframe.models.layout import TokenLayout
from stillframe.models.pixels import PixelPipeline
from stillframe.models.prompt import PromptEncoder
from stillframe.models.vision import TOWERS, Projector, TowerConfig, VisionBackbone, unused_tensors
from stillframe.reuse.kv import FrameKV

Required = TypeVar("Required")

CAMERA = "image"  # the one camera's name when a client gives none
ACTION_NAMES = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
SUPPORTED = {
    "arch_specifier": "no-align+fused-gelu-mlp",
    "image_resize_strategy": "resize-naive",
    "use_fused_vision_backbone": True,
    "vision_backbone_id": "dinosiglip-vit-so-224px",
}
# Of text_config, where it says so at all: what a plain Llama is.
SUPPORTED_TEXT = {"model_type": "llama", "hidden_act": "silu", "rope_scaling": None}
# The towers' last block, final norm and attention pool are stored but feed nothing.
NEVER_READ = ("vision_backbone.fused_featurizer.attn_pool.",)


@dataclass(frozen=True)
class OpenVLAConfig:
    """What config.json says, with the defaults that it leaves out."""

    towers: tuple[TowerConfig, TowerConfig]  # DINOv2, SigLIP
    decoder: DecoderConfig
    bins: ActionBins
    norm_stats: Mapping[str, Any]

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> OpenVLAConfig:
        """Read config.json; CheckpointError names the variant that is not supported."""
        for key, value in SUPPORTED.items():
            if config.get(key) != value:
                raise CheckpointError(f"config.json: {key} is {config.get(key)!r}; only {value!r} is supported")
        decoder = _decoder_config(_require(config, "text_config", dict))
        padding = _require(config, "pad_to_multiple_of", int)
        bins = ActionBins(decoder.vocab_size - padding, _require(config, "n_action_bins", int))
        return cls(_towers(config), decoder, bins, config.get("norm_stats") or {})


class OpenVLANetwork(nn.Module):
    """The tensors of a checkpoint, under its names."""

    def __init__(self, config: OpenVLAConfig):
        super().__init__()
        self.config = config
        dino, siglip = config.towers
        self.vision_backbone = VisionBackbone(dino, siglip)
        self.projector = Projector(dino.embed_dim + siglip.embed_dim, config.decoder.hidden_size)
        self.language_model = Decoder(config.decoder)

    def patches(self, pixels: Tensor) -> Tensor:
        """[batch, 6, H, W] -> projected patches [batch, patches, width]."""
        out: Tensor = self.projector(self.vision_backbone(pixels))
        return out


class OpenVLA:
    """A loaded OpenVLA checkpoint: the family behind `models.base.PolicyModel`."""

    def __init__(
        self,
        name: str,
        config: OpenVLAConfig,
        network: OpenVLANetwork,
        pixels: PixelPipeline,
        prompt: PromptEncoder,
        statistics: Statistics,
    ):
        self.name = name
        self.config = config
        self.network = network
        self.pixels = pixels
        self.prompt = prompt
        self.statistics = statistics

    @classmethod
    def load(cls, folder: CheckpointFolder, *, dtype: torch.dtype, device: torch.device) -> OpenVLA:
        """Check the whole folder, then read it."""
        config = OpenVLAConfig.from_json(folder.json("config.json"))
        pixels = PixelPipeline.from_config(folder.json("preprocessor_config.json"))
        _check_pixels(pixels, config)
        statistics = Statistics(_norm_stats(folder, config))
        max_text = config.decoder.max_position_embeddings - _patches(config) - statistics.action_dim
        prompt = PromptEncoder(folder.file("tokenizer.json"), max_text)
        with torch.device("meta"):
            network = OpenVLANetwork(config)
        folder.load_into(network, dtype=dtype, device=device, unused=_unused(config))
        network.requires_grad_(requires_grad=False)
        return cls(folder.path.resolve().name, config, network.eval(), pixels, prompt, statistics)

    @property
    def decoder(self) -> Decoder:
        """The language model."""
        return self.network.language_model

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are stored and multiplied in."""
        return self.decoder.lm_head.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.decoder.lm_head.weight.device

    @property
    def info(self) -> PolicyInfo:
        """The contract that clients read at /v1/models."""
        return PolicyInfo(
            name=self.name,
            family="openvla",
            parameters=sum(parameter.numel() for parameter in self.network.parameters()),
            dtype=str(self.dtype).removeprefix("torch."),
            device=str(self.device),
            cameras=(CAMERA,),
            image_size=self.pixels.size,
            action_names=ACTION_NAMES[: self.statistics.action_dim],
            gripper="0 = close, 1 = open",
            chunk_horizon=1,
            norm_stats={
                key: {"q01": scale.q01.tolist(), "q99": scale.q99.tolist(), "mask": scale.mask.tolist()}
                for key, scale in self.statistics.scales.items()
            },
            default_unnorm_key=self.statistics.default_key,
        )

    def prepare(self, observation: Observation) -> Prepared:
        """Resize, normalise, tokenise one picture and its instruction."""
        if len(observation.images) != 1:
            got = ", ".join(observation.images) or "none"
            raise Unprocessable("unknown-camera", f"this policy sees exactly one picture; got: {got}", pointer="/image")
        unnorm_key = self.statistics.resolve(observation.unnorm_key)
        views = {camera: self.pixels.views(image) for camera, image in observation.images.items()}
        pixels = torch.stack([self.pixels.normalised(view) for view in views.values()])
        ids = self.prompt.ids(observation.instruction)
        return Prepared(
            views=views,
            pixels=pixels.to(self.device, self.dtype),
            ids=torch.tensor(ids, device=self.device),
            layout=self._layout(next(iter(views)), len(ids)),
            unnorm_key=unnorm_key,
        )

    def embed(self, prepared: Prepared) -> Tensor:
        """BOS, the patches, the rest of the text -> [prompt_rows, width]."""
        text = self.decoder.embed(prepared.ids)
        patches = self.network.patches(prepared.pixels).flatten(0, 1)
        return torch.cat((text[:1], patches, text[1:]))

    def act(self, hidden: Tensor, prepared: Prepared, kv: FrameKV) -> Decoded:
        """Decode the action's tokens and scale them to the robot's units."""
        slots = prepared.layout.action
        tokens = decode_greedily(self.decoder, hidden[-1], slots, kv).cpu().numpy()
        scale = self.statistics.scales[prepared.unnorm_key]
        actions = scale.unnormalise(self.config.bins.decode(tokens))
        return Decoded(ActionChunk(actions[None], prepared.unnorm_key, tokens), passes=len(slots) - 1)

    def _layout(self, camera: str, ids: int) -> TokenLayout:
        """[BOS] [patches] [text] [action]: BOS counts as text but sits first."""
        patches = range(1, 1 + _patches(self.config))
        text = range(patches.stop, patches.stop + ids - 1)
        action = range(text.stop, text.stop + self.statistics.action_dim)
        grid = self.config.towers[0].grid
        return TokenLayout({camera: patches}, (grid, grid), text, action)


def _patches(config: OpenVLAConfig) -> int:
    return config.towers[0].grid ** 2


def _norm_stats(folder: CheckpointFolder, config: OpenVLAConfig) -> Mapping[str, Any]:
    """Statistics beside the weights win over those inside config.json."""
    return folder.json("dataset_statistics.json") if folder.has("dataset_statistics.json") else config.norm_stats


def _unused(config: OpenVLAConfig) -> list[str]:
    """Full names of stored tensors that feed nothing."""
    names = zip(("featurizer", "fused_featurizer"), config.towers, strict=True)
    return [f"vision_backbone.{tower}.{key}" for tower, sizes in names for key in unused_tensors(sizes)] + [*NEVER_READ]


def _check_pixels(pixels: PixelPipeline, config: OpenVLAConfig) -> None:
    """The towers have to be fed the size they were built for, each by its own normalisation."""
    side_px = config.towers[0].image_px
    if pixels.size != (side_px, side_px) or len(pixels.means) != len(config.towers):
        raise CheckpointError(
            f"preprocessor_config.json makes {len(pixels.means)} x {pixels.size} pixels; "
            f"expected {len(config.towers)} x {(side_px, side_px)}, one per tower"
        )


def _decoder_config(text: Mapping[str, Any]) -> DecoderConfig:
    """Llama's sizes from text_config; what it leaves out is LlamaConfig's default."""
    for key, value in SUPPORTED_TEXT.items():
        if text.get(key, value) != value:
            raise CheckpointError(f"config.json: text_config.{key} is {text[key]!r}; only {value!r} is supported")
    sizes = {each.name: text[each.name] for each in dataclasses.fields(DecoderConfig) if each.name in text}
    for key, size in sizes.items():
        if not isinstance(size, int | float) or size <= 0:
            raise CheckpointError(f"config.json: text_config.{key} is {size!r}; expected a number above 0")
    return DecoderConfig(**sizes)


def _towers(config: Mapping[str, Any]) -> tuple[TowerConfig, TowerConfig]:
    """DINOv2's and SigLIP's sizes, from their timm ids and the overrides that small checkpoints carry."""
    ids = _require(config, "timm_model_ids", list)
    if list(ids) != list(TOWERS):
        raise CheckpointError(f"config.json: timm_model_ids are {ids}; only {list(TOWERS)} are supported")
    overrides = config.get("timm_overrides") or {}
    try:
        dino, siglip = (dataclasses.replace(TOWERS[name], **overrides.get(name, {})) for name in ids)
    except (TypeError, AttributeError) as error:
        raise CheckpointError(f"config.json: timm_overrides cannot be applied ({error})") from error
    return dino, siglip


def _require(config: Mapping[str, Any], key: str, kind: type[Required]) -> Required:
    """A field of config.json that has to be there, of the right kind."""
    value = config.get(key)
    if not isinstance(value, kind):
        raise CheckpointError(f"config.json: {key} is {value!r}; expected {kind.__name__}")
    return value
