"""PrismaticPolicy: what families on a Prismatic VLM have in common of a `models.base.PolicyModel`.

Knows pictures, their patches and the contract; no action head.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stillframe.domain import Image, Observation, PolicyInfo
from stillframe.errors import Unprocessable
from stillframe.models.actions import Statistics
from stillframe.models.base import ImageEncoder, Prepared, picture_rows
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.components import Component, component
from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.draft import Ids
from stillframe.models.llama.layout import TokenLayout
from stillframe.models.prismatic.config import PrismaticConfig
from stillframe.models.prismatic.network import PrismaticNetwork
from stillframe.models.prismatic.pixels import PixelPipeline
from stillframe.models.prismatic.prompt import PromptEncoder
from stillframe.models.quantised.quantise import weight_bytes
from stillframe.models.side_by_side import RunJobs
from stillframe.models.token_sparse import TokenSparseVision

GRIPPER = "0 = close, 1 = open"
NO_TOKENS = np.empty(0, np.int64)


class PrismaticPolicy(ABC):
    """A loaded checkpoint, but for what its action is."""

    has_expert = False

    def __init__(
        self,
        name: str,
        config: PrismaticConfig,
        network: PrismaticNetwork,
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

    @property
    def decoder(self) -> Decoder:
        """The language model."""
        return self.network.language_model

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are stored and multiplied in."""
        return self.decoder.model.embed_tokens.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.decoder.model.embed_tokens.weight.device

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels of both towers, height and width of what `encode_images` takes."""
        return 6, *self.pixels.size

    def encode_images(self, pixels: Tensor) -> Tensor:
        """[n, 6, H, W] -> projected patches [n, patches, width]."""
        return self.network.patches(pixels)

    @property
    def token_sparse_vision(self) -> TokenSparseVision:
        """Both towers, for pictures of which only some patches changed."""
        backbone = self.network.vision_backbone
        return TokenSparseVision((backbone.featurizer, backbone.fused_featurizer), self.network.projector, backbone.run)

    def run_towers(self, run: RunJobs) -> None:
        """See `side_by_side.HasTowers`. For what asks for `token_sparse_vision` from now on as well."""
        self.network.vision_backbone.run = run

    def contract(self, **own: Any) -> PolicyInfo:
        """The contract that clients read at /v1/models; `own`: the family's part of it."""
        common: Mapping[str, Any] = {
            "name": self.name,
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": str(self.device),
            "weights": self.decoder.weights,
            "weight_bytes": weight_bytes(self.network),
            "cameras": self.config.cameras,
            "image_size": self.pixels.size,
            "gripper": GRIPPER,
            "norm_stats": {
                key: {"q01": scale.q01.tolist(), "q99": scale.q99.tolist(), "mask": scale.mask.tolist()}
                for key, scale in self.statistics.scales.items()
            },
            "default_unnorm_key": self.statistics.default_key,
            "batch_invariant": self.decoder.batch_invariant,
            "unknown_words": self.prompt.unknown_words,
        }
        return PolicyInfo(**{**common, **own})

    @property
    def tokenizer_facts(self) -> Mapping[str, int]:
        """See `PromptEncoder.facts`."""
        return self.prompt.facts

    def components(self, folder: CheckpointFolder) -> tuple[Component, ...]:
        """Both towers, the projector, the decoder; a family adds its own behind them."""
        (dino, siglip), decoder, network = self.config.towers, self.config.decoder, self.network
        towers = (
            ("DINOv2 tower", "featurizer", network.vision_backbone.featurizer, dino),
            ("SigLIP tower", "fused_featurizer", network.vision_backbone.fused_featurizer, siglip),
        )
        made = [
            component(
                folder, f"vision_backbone.{key}.", tower, name,
                layers=sizes.depth - 1, width=sizes.embed_dim, heads=sizes.num_heads,
            )
            for name, key, tower, sizes in towers
        ]  # fmt: skip
        projector = component(folder, "projector.", network.projector, "projector", layers=3, width=decoder.hidden_size)
        llama = component(
            folder, "language_model.", network.language_model, "decoder",
            layers=decoder.num_hidden_layers, width=decoder.hidden_size, heads=decoder.num_attention_heads,
        )  # fmt: skip
        return (*made, projector, llama)

    def prepare(self, observation: Observation) -> Prepared:
        """Resize, normalise and tokenise the pictures and the instruction; scale the state where one is read.

        Raises Unprocessable for what is wrong first: the data set, the state, the pictures, the instruction.
        """
        unnorm_key = self.statistics.resolve(observation.unnorm_key)
        state = self.scaled_state(observation, unnorm_key)
        views, pixels = self.look(observation)
        ids = self.prompt.ids(observation.instruction)
        return Prepared(
            views=views,
            pixels=pixels,
            ids=torch.tensor(ids),
            layout=self.layout([*views], len(ids)),
            unnorm_key=unnorm_key,
            no_motion_tokens=self.no_motion_tokens(unnorm_key),
            actions=self.action_ids,
            state=state,
        )

    @abstractmethod
    def layout(self, cameras: Sequence[str], ids: int) -> TokenLayout:
        """Where all parts of a prompt with so many ids of text, BOS among them, lie."""

    @property
    def action_ids(self) -> range | None:
        """The ids that are actions; None: it decodes no tokens."""
        return None

    def no_motion_tokens(self, unnorm_key: str) -> Ids:  # noqa: ARG002 (of a family that decodes tokens)
        """The tokens of an action that moves nothing; none where none are drafted."""
        return NO_TOKENS

    def scaled_state(self, observation: Observation, unnorm_key: str) -> Tensor | None:  # noqa: ARG002 (of a family that reads it)
        """The robot's state [numbers] as the network takes it; None: it reads none."""
        return None

    def look(self, observation: Observation) -> tuple[dict[str, Image], Tensor]:
        """Each camera's view, in the policy's order, and all of them as the towers take them [cameras, 6, H, W]."""
        crop = observation.center_crop
        cameras = seen(observation, self.config.cameras)
        views = {camera: self.pixels.views(observation.images[camera], crop) for camera in cameras}
        pixels = torch.stack([self.pixels.normalised(view) for view in views.values()])
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()  # for an asynchronous copy to the GPU
        return views, pixels

    def prompt_rows(self, prepared: Sequence[Prepared], encode_images: ImageEncoder | None) -> list[Tensor]:
        """Of each: BOS, every camera's patches, the rest of the text -> [prompt_rows, width]."""
        patches = self.patch_rows(prepared, encode_images)
        texts = [self.decoder.embed(one.ids.to(self.device, non_blocking=True)) for one in prepared]
        return [torch.cat((text[:1], own, text[1:])) for text, own in zip(texts, patches, strict=True)]

    def patch_rows(self, prepared: Sequence[Prepared], encode_images: ImageEncoder | None) -> list[Tensor]:
        """Of each all cameras' patches, one camera behind the other: [patches, width]."""

        def encode(pictures: list[Tensor]) -> Tensor:
            pixels = [one.to(self.device, non_blocking=True).to(self.dtype) for one in pictures]
            return (encode_images or self.encode_images)(torch.stack(pixels))

        return [torch.cat(own) for own in picture_rows(prepared, encode)]


def patch_count(config: PrismaticConfig) -> int:
    """Of all cameras together."""
    return len(config.cameras) * config.towers[0].grid ** 2


def patch_ranges(config: PrismaticConfig, cameras: Sequence[str]) -> dict[str, range]:
    """Positions of each camera's patches: behind BOS, camera after camera."""
    grid = config.towers[0].grid
    starts = range(1, 1 + patch_count(config), grid**2)
    return {camera: range(start, start + grid**2) for camera, start in zip(cameras, starts, strict=True)}


def seen(observation: Observation, cameras: tuple[str, ...]) -> tuple[str, ...]:
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
