"""CogACT: Prismatic's vision-language model, whose last row steers a diffusion transformer over a chunk of actions.

Knows run folders as they are published; no HTTP and no session. Source: microsoft/CogACT vla/cogactvla.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stillframe.domain import ActionChunk, Observation, PolicyInfo
from stillframe.models.actions import Statistics
from stillframe.models.base import Decoded, ImageEncoder, Prefilled, Prepared
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.cogact.config import CogACTConfig
from stillframe.models.cogact.diffusion import Denoising, denoise
from stillframe.models.cogact.dit import DiT
from stillframe.models.cogact.run_folder import RunFolder
from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.layout import TokenLayout
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.openvla.checks import ACTION_NAMES, check_action
from stillframe.models.openvla.model import OpenVLANetwork, camera_pictures, prepare_for_inference
from stillframe.models.openvla.pixels import PixelPipeline
from stillframe.models.openvla.prompt import PromptEncoder
from stillframe.models.openvla.vision import unused_tensors

CAMERA = "image"
COGNITION = 2  # the id, Llama's </s>, whose row steers
GRIPPER = -1  # of an action's numbers: open or closed, nothing between
# Published run folders have no preprocessor_config.json: ImageNet's for DINOv2, a half for SigLIP.
PIXELS = PixelPipeline(
    (224, 224), ((0.485, 0.456, 0.406), (0.5, 0.5, 0.5)), ((0.229, 0.224, 0.225), (0.5, 0.5, 0.5))
)
NO_TOKENS = np.empty(0, np.int64)  # an action is not decoded, so there is nothing to draft
NEVER_READ = ("vision_backbone.fused_featurizer.attn_pool.", "action_model.history_embedder.")


class CogACTNetwork(nn.Module):
    """Both models: only the first is cast to the deployment's dtype."""

    def __init__(self, config: CogACTConfig):
        super().__init__()
        self.vlm = OpenVLANetwork(config.towers, config.decoder)
        self.action_model = DiT(config.dit)


class CogACT:
    """A loaded CogACT checkpoint: the family behind `models.base.PolicyModel`."""

    def __init__(
        self, name: str, config: CogACTConfig, network: CogACTNetwork, prompt: PromptEncoder, statistics: Statistics
    ):
        self.name = name
        self.config = config
        self.network = network
        self.prompt = prompt
        self.statistics = statistics
        self.denoising = Denoising()

    @classmethod
    def load(cls, folder: CheckpointFolder, *, dtype: torch.dtype, device: torch.device) -> CogACT:
        """Check the whole folder, then read it. The diffusion transformer stays in fp32, as in the reference."""
        run = RunFolder(folder.path)
        config = CogACTConfig.read(run)
        statistics = Statistics(run.json("dataset_statistics.json"))
        check_action(run, statistics)
        room = config.decoder.max_position_embeddings - config.towers[0].grid ** 2
        prompt = PromptEncoder(run.file("tokenizer.json"), room, config.decoder.vocab_size, ending=(COGNITION,))
        with torch.device("meta"):
            network = CogACTNetwork(config)
        head = nn.ModuleDict({"action_model": network.action_model})
        run.load_into(head, dtype=torch.float32, device=device, unused=(*_parts(network.vlm), *NEVER_READ))
        run.load_into(network.vlm, dtype=dtype, device=device, unused=_unused(config))
        network.requires_grad_(requires_grad=False)
        prepare_for_inference(network.vlm)
        return cls(folder.path.resolve().name, config, network.eval(), prompt, statistics)

    @property
    def decoder(self) -> Decoder:
        """The language model."""
        return self.network.vlm.language_model

    @property
    def dtype(self) -> torch.dtype:
        """What the vision-language model's weights are stored and multiplied in."""
        return self.decoder.lm_head.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.decoder.lm_head.weight.device

    @property
    def fixed_rows(self) -> int:
        """BOS and the picture's patches."""
        return 1 + self._patches

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels of both towers, height and width of what `encode_images` takes."""
        return 6, *PIXELS.size

    @property
    def info(self) -> PolicyInfo:
        """The contract that clients read at /v1/models."""
        return PolicyInfo(
            name=self.name,
            family="cogact",
            parameters=sum(parameter.numel() for parameter in self.network.parameters()),
            dtype=str(self.dtype).removeprefix("torch."),
            device=str(self.device),
            cameras=(CAMERA,),
            image_size=PIXELS.size,
            action_names=ACTION_NAMES,
            gripper="0 = close, 1 = open",
            chunk_horizon=self.config.dit.horizon,
            norm_stats=self.statistics.contract,
            default_unnorm_key=self.statistics.default_key,
            batch_invariant=self.decoder.batch_invariant,
            unknown_words=self.prompt.unknown_words,
        )

    def prepare(self, observation: Observation) -> Prepared:
        """Resize, normalise and tokenise one picture and the instruction."""
        (camera,) = camera_pictures(observation, (CAMERA,))
        unnorm_key = self.statistics.resolve(observation.unnorm_key)
        view = PIXELS.views(observation.images[camera], observation.center_crop)
        pixels = PIXELS.normalised(view)[None]
        ids = self.prompt.ids(observation.instruction)
        return Prepared(
            views={camera: view},
            pixels=pixels.pin_memory() if self.device.type == "cuda" else pixels,
            ids=torch.tensor(ids),
            layout=self._layout(camera, len(ids)),
            unnorm_key=unnorm_key,
            no_motion_tokens=NO_TOKENS,
        )

    def encode_images(self, pixels: Tensor) -> Tensor:
        """[n, 6, H, W] -> projected patches [n, patches, width]."""
        return self.network.vlm.patches(pixels)

    def embed(self, prepared: Sequence[Prepared], encode_images: ImageEncoder | None = None) -> list[Tensor]:
        """Of each: BOS, the picture's patches, the rest of the text, the cognition token -> [prompt_rows, width]."""
        return self.network.vlm.embed(prepared, encode_images)

    def act(self, prefilled: Sequence[Prefilled], runner: DecoderRunner) -> list[Decoded]:  # noqa: ARG002 -- one pass
        """Draw a chunk for each last row, with noise that follows from the frame's seed alone."""
        condition = torch.stack([one.hidden[-1] for one in prefilled])
        noise = torch.stack([self._noise(one.seed) for one in prefilled])
        drawn = self.draw(condition, noise).cpu().double().numpy()
        return [self._scaled(one.prepared.unnorm_key, unit) for one, unit in zip(prefilled, drawn, strict=True)]

    def draw(self, condition: Tensor, noise: Tensor) -> Tensor:
        """[batch, width] and noise [batch, horizon, action_dim] -> normalised chunks, float32, not clipped."""
        model, device = self.network.action_model, self.device
        uncondition = model.z_embedder.uncondition
        return denoise(model, noise.to(device), condition.to(device).float(), uncondition, self.denoising)

    def _noise(self, seed: int) -> Tensor:
        """[horizon, action_dim]: the same for a seed on every device, for it is drawn in the host's memory."""
        dit = self.config.dit
        return torch.randn(dit.horizon, dit.action_dim, generator=torch.Generator().manual_seed(seed))

    def _scaled(self, unnorm_key: str, drawn: NDArray[np.float64]) -> Decoded:
        """[horizon, action_dim] -> the data set's units; the gripper is open or closed first. Not finite: as it is."""
        normalised = np.clip(drawn, -1.0, 1.0)
        normalised[:, GRIPPER] = np.where(np.isnan(drawn[:, GRIPPER]), np.nan, drawn[:, GRIPPER] >= 0.5)
        actions = self.statistics.scales[unnorm_key].unnormalise(normalised)
        return Decoded(ActionChunk(actions, unnorm_key), normalised, passes=0)

    def _layout(self, camera: str, ids: int) -> TokenLayout:
        """[BOS] [patches] [text, cognition token]; no action tokens follow."""
        grid, end = self.config.towers[0].grid, self._patches + ids
        text = range(1 + self._patches, end)
        return TokenLayout({camera: range(1, 1 + self._patches)}, (grid, grid), text, range(end, end))

    @property
    def _patches(self) -> int:
        grid: int = self.config.towers[0].grid
        return grid**2


def _parts(network: nn.Module) -> tuple[str, ...]:
    return tuple(f"{name}." for name, _ in network.named_children())


def _unused(config: CogACTConfig) -> tuple[str, ...]:
    """Names, or beginnings of names, of tensors that the vision-language model does not hold."""
    names = zip(("featurizer", "fused_featurizer"), config.towers, strict=True)
    towers = (f"vision_backbone.{tower}.{key}" for tower, sizes in names for key in unused_tensors(sizes))
    return (*towers, *NEVER_READ, "action_model.")
