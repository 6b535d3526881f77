"""OpenVLA: two vision towers, a projector, a Llama that decodes action tokens.

Knows the layout of openvla-7b's folder; no HTTP and no session. Source: openvla/openvla prismatic/extern/hf.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from stillframe.domain import ActionChunk, Observation, PolicyInfo
from stillframe.errors import Unprocessable
from stillframe.models.actions import Statistics, no_action
from stillframe.models.base import Decoded, ImageEncoder, Prefilled, Prepared
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.llama.batch_invariance import is_batch_invariant
from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.layout import TokenLayout
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.speculative import DecodeResult, speculative_decode
from stillframe.models.llama.weight_packing import pack_for_inference
from stillframe.models.openvla.checks import (
    ACTION_NAMES,
    check_action,
    check_action_rows,
    check_pixels,
    norm_stats,
    unused_names,
)
from stillframe.models.openvla.config import OpenVLAConfig
from stillframe.models.openvla.pixels import PixelPipeline
from stillframe.models.openvla.prompt import PromptEncoder
from stillframe.models.openvla.vision import Projector, VisionBackbone

__all__ = ["ACTION_NAMES", "OpenVLA", "OpenVLAConfig", "OpenVLANetwork"]


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
        self._no_motion_tokens = {
            key: config.bins.encode(scale.normalise(np.zeros(statistics.action_dim)))
            for key, scale in statistics.scales.items()
        }

    @classmethod
    def load(cls, folder: CheckpointFolder, *, dtype: torch.dtype, device: torch.device) -> OpenVLA:
        """Check the whole folder, then read it."""
        config = OpenVLAConfig.from_json(folder.json("config.json"))
        pixels = PixelPipeline.from_config(folder.json("preprocessor_config.json"))
        check_pixels(pixels, config)
        statistics = Statistics(norm_stats(folder, config))
        check_action(folder, statistics)
        max_text = config.decoder.max_position_embeddings - _patches(config) - statistics.action_dim
        prompt = PromptEncoder(folder.file("tokenizer.json"), max_text, config.decoder.vocab_size)
        config.check_sizes(folder)
        with torch.device("meta"):
            network = OpenVLANetwork(config)
        folder.load_into(network, dtype=dtype, device=device, unused=unused_names(config))
        check_action_rows(folder, network.language_model, config.bins)
        network.requires_grad_(requires_grad=False)
        prepare_for_inference(network)
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
    def fixed_rows(self) -> int:
        """BOS, every camera's patches and the action's tokens."""
        return 1 + _patches(self.config) + self.statistics.action_dim

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels of both towers, height and width of what `encode_images` takes."""
        return 6, *self.pixels.size

    @property
    def info(self) -> PolicyInfo:
        """The contract that clients read at /v1/models."""
        return PolicyInfo(
            name=self.name,
            family="openvla",
            parameters=sum(parameter.numel() for parameter in self.network.parameters()),
            dtype=str(self.dtype).removeprefix("torch."),
            device=str(self.device),
            cameras=self.config.cameras,
            image_size=self.pixels.size,
            action_names=ACTION_NAMES,
            gripper="0 = close, 1 = open",
            chunk_horizon=1,
            norm_stats={
                key: {"q01": scale.q01.tolist(), "q99": scale.q99.tolist(), "mask": scale.mask.tolist()}
                for key, scale in self.statistics.scales.items()
            },
            default_unnorm_key=self.statistics.default_key,
            batch_invariant=self.decoder.batch_invariant,
            unknown_words=self.prompt.unknown_words,
        )

    def prepare(self, observation: Observation) -> Prepared:
        """Resize, normalise and tokenise one picture a camera and the instruction."""
        cameras = _seen(observation, self.config.cameras)
        unnorm_key = self.statistics.resolve(observation.unnorm_key)
        crop = observation.center_crop
        views = {camera: self.pixels.views(observation.images[camera], crop) for camera in cameras}
        pixels = torch.stack([self.pixels.normalised(view) for view in views.values()])
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()  # for an asynchronous copy to the GPU
        ids = self.prompt.ids(observation.instruction)
        return Prepared(
            views=views,
            pixels=pixels,
            ids=torch.tensor(ids),
            layout=self._layout(cameras, len(ids)),
            unnorm_key=unnorm_key,
            no_motion_tokens=self._no_motion_tokens[unnorm_key],
            actions=self.config.bins.ids,
        )

    def encode_images(self, pixels: Tensor) -> Tensor:
        """[n, 6, H, W] -> projected patches [n, patches, width]."""
        return self.network.patches(pixels)

    def embed(self, prepared: Sequence[Prepared], encode_images: ImageEncoder | None = None) -> list[Tensor]:
        """Of each: BOS, every camera's patches, the rest of the text -> [prompt_rows, width]."""
        pixels = [one.pixels.to(self.device, non_blocking=True).to(self.dtype) for one in prepared]
        encode = encode_images or self.encode_images
        patches = torch.split(encode(torch.cat(pixels)), [len(own) for own in pixels])
        texts = [self.decoder.embed(one.ids.to(self.device, non_blocking=True)) for one in prepared]
        return [torch.cat((text[:1], own.flatten(0, 1), text[1:])) for text, own in zip(texts, patches, strict=True)]

    def act(self, prefilled: Sequence[Prefilled], runner: DecoderRunner) -> list[Decoded]:
        """Decode the actions' tokens and scale them to the robot's units."""
        results = speculative_decode(runner, prefilled)
        return [self._scaled(one.prepared.unnorm_key, result) for one, result in zip(prefilled, results, strict=True)]

    def _scaled(self, unnorm_key: str, result: DecodeResult) -> Decoded:
        """Tokens -> the data set's units. NaN where there is no action."""
        refusal = result.refusal or no_action(result.ids, self.config.bins.ids)
        unit = np.full(len(result.ids), np.nan) if refusal else self.config.bins.decode(result.ids)
        normalised = unit[None]
        chunk = ActionChunk(self.statistics.scales[unnorm_key].unnormalise(normalised), unnorm_key, result.ids)
        return Decoded(chunk, normalised, result.passes, result.accepted, refusal)

    def _layout(self, cameras: Sequence[str], ids: int) -> TokenLayout:
        """[BOS] [patches, camera after camera] [text] [action]: BOS counts as text but sits first."""
        grid = self.config.towers[0].grid
        starts = range(1, 1 + _patches(self.config), grid**2)
        patches = {camera: range(start, start + grid**2) for camera, start in zip(cameras, starts, strict=True)}
        text = range(1 + _patches(self.config), _patches(self.config) + ids)
        action = range(text.stop, text.stop + self.statistics.action_dim)
        return TokenLayout(patches, (grid, grid), text, action)


def prepare_for_inference(network: OpenVLANetwork) -> None:
    """Pack and fuse weights for inference (irreversible), then test batch invariance."""
    decoder = network.language_model
    decoder.measure_head()  # while the head's rows can be read
    pack_for_inference(network)
    decoder.batch_invariant = is_batch_invariant(decoder)


def _patches(config: OpenVLAConfig) -> int:
    """Of all cameras together."""
    return len(config.cameras) * config.towers[0].grid ** 2


def _seen(observation: Observation, cameras: tuple[str, ...]) -> tuple[str, ...]:
    """The cameras in the policy's order, each with a picture. One alone may go by any name."""
    got = tuple(observation.images)
    if len(cameras) == 1:
        if len(got) != 1:
            detail = f"this policy sees exactly one picture; got: {', '.join(got) or 'none'}"
            raise Unprocessable("unknown-camera", detail, pointer="/image")
        return got
    known = ", ".join(cameras)
    for name in got:
        if name not in cameras:
            detail = f"there is no camera {name!r}; this policy has {known}"
            raise Unprocessable("unknown-camera", detail, pointer="/images")
    for name in cameras:
        if name not in got:
            detail = f"there is no picture from camera {name!r}; this policy needs {known}"
            raise Unprocessable("missing-camera", detail, pointer="/images")
    return cameras
