"""CogACT: Prismatic's vision-language model, whose last row steers a diffusion transformer over a chunk of actions.

Knows run folders as they are published; no HTTP and no session. Source: microsoft/CogACT vla/cogactvla.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stillframe.domain import ActionChunk, PolicyInfo, RtcInfo, WeightScheme
from stillframe.models.actions import Statistics
from stillframe.models.base import Decoded, ImageEncoder, Prefilled, Prepared, drawn_together
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.cogact.config import CogACTConfig
from stillframe.models.cogact.diffusion import Denoising, denoise
from stillframe.models.cogact.dit import DiT, DiTConfig
from stillframe.models.cogact.run_folder import RunFolder
from stillframe.models.components import Component, component
from stillframe.models.guidance import Guidance, may_differentiate
from stillframe.models.llama.layout import Mask, TokenLayout
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.prismatic.checks import ACTION_NAMES, check_action
from stillframe.models.prismatic.network import load_network
from stillframe.models.prismatic.pixels import PixelPipeline
from stillframe.models.prismatic.policy import PrismaticPolicy, patch_count, patch_ranges
from stillframe.models.prismatic.prompt import PromptEncoder
from stillframe.models.prismatic.tokenizer import tokenizer_file
from stillframe.models.quantised.quantise import weight_bytes

COGNITION = 2  # the id, Llama's </s>, whose row steers
GRIPPER = -1  # of an action's numbers: open or closed, nothing between
# Published run folders have no preprocessor_config.json: ImageNet's numbers for DINOv2, a half for SigLIP.
PIXELS = PixelPipeline((224, 224), ((0.485, 0.456, 0.406), (0.5,) * 3), ((0.229, 0.224, 0.225), (0.5,) * 3))
HEAD, VLM = ("action_model.",), ("vision_backbone.", "projector.", "language_model.")  # how tensors' names begin
NEVER_READ = ("action_model.history_embedder.",)


class CogACT(PrismaticPolicy):
    """A loaded CogACT checkpoint: the family behind `models.base.PolicyModel`."""

    mask = Mask.CAUSAL
    answer_rows = 1  # the last steers
    head: DiT
    denoising: Denoising

    @classmethod
    def load(
        cls, folder: CheckpointFolder, *, dtype: torch.dtype, device: torch.device, weights: WeightScheme = "as-is"
    ) -> CogACT:
        """Check the whole folder, then read it. The diffusion transformer stays in fp32, as in the reference."""
        run = RunFolder(folder.path, folder.config)
        config = CogACTConfig.read(run)
        statistics = Statistics(run.json("dataset_statistics.json"))
        check_action(run, statistics)
        room = config.vlm.decoder.max_position_embeddings - patch_count(config.vlm)
        prompt = PromptEncoder(tokenizer_file(run), room, config.vlm.decoder.vocab_size, ending=(COGNITION,))
        network = load_network(
            run, config.vlm, dtype=dtype, device=device, weights=weights, action_tokens=False, beside=HEAD
        )
        policy = cls(folder.name, config.vlm, network, PIXELS, prompt, statistics)
        policy.head, policy.denoising = _load_head(run, config.dit, device), config.denoising
        return policy

    @property
    def fixed_rows(self) -> int:
        """BOS and the picture's patches."""
        return 1 + patch_count(self.config)

    @property
    def info(self) -> PolicyInfo:
        """See `PrismaticPolicy.contract`."""
        horizon, rtc = self.head.config.horizon, RtcInfo("diffusion", why=None)
        vlm = self.contract(family="cogact", action_names=ACTION_NAMES, chunk_horizon=horizon, rtc=rtc)
        parameters = vlm.parameters + sum(part.numel() for part in self.head.parameters())
        return replace(vlm, parameters=parameters, weight_bytes=vlm.weight_bytes + weight_bytes(self.head))

    def components(self, folder: CheckpointFolder) -> tuple[Component, ...]:
        """Those of the vision-language model, and the diffusion transformer."""
        sizes = self.head.config
        head = component(
            folder, HEAD[0], self.head, "diffusion head", layers=sizes.depth, width=sizes.width, heads=sizes.heads
        )
        return (*super().components(folder), head)

    def embed(self, prepared: Sequence[Prepared], encode_images: ImageEncoder | None = None) -> list[Tensor]:
        """Of each: BOS, the picture's patches, the rest of the text, the cognition token -> [prompt_rows, width]."""
        return self.prompt_rows(prepared, encode_images)

    def act(self, prefilled: Sequence[Prefilled], runner: DecoderRunner) -> list[Decoded]:  # noqa: ARG002 -- one pass
        """Draw a chunk for each last row, with noise that follows from the frame's seed alone; all robots together."""
        condition = torch.stack([one.hidden[-1] for one in prefilled])
        noise = torch.stack([self._noise(one.seed) for one in prefilled])
        guidance = Guidance.of([one.held for one in prefilled], noise.to(condition.device))
        drawn = self.draw(condition, noise, guidance).cpu().double().numpy()
        chunks = [self.scaled(one.prepared.unnorm_key, unit) for one, unit in zip(prefilled, drawn, strict=True)]
        return drawn_together(chunks)

    def draw(self, condition: Tensor, noise: Tensor, guidance: Guidance | None = None) -> Tensor:
        """[batch, width] and noise [batch, horizon, action_dim] -> normalised chunks, float32, not clipped."""
        nothing = self.head.z_embedder.uncondition
        with may_differentiate(guidance):
            return denoise(self.head, noise.to(nothing.device), condition.float(), nothing, self.denoising, guidance)

    def scaled(self, unnorm_key: str, drawn: NDArray[np.float64]) -> Decoded:
        """[horizon, action_dim] -> the data set's units; the gripper is open or closed first. NaN stays NaN."""
        normalised = np.clip(drawn, -1.0, 1.0)
        gripper = normalised[:, GRIPPER]
        normalised[:, GRIPPER] = np.where(np.isnan(gripper), gripper, gripper >= 0.5)
        actions = self.statistics.scales[unnorm_key].unnormalise(normalised)
        return Decoded(ActionChunk(actions, unnorm_key), normalised, passes=0, sampled=drawn)

    def _noise(self, seed: int) -> Tensor:
        """[horizon, action_dim]: the same for a seed on every device, for it is drawn in the host's memory."""
        shape = (self.head.config.horizon, self.head.config.action_dim)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def layout(self, cameras: Sequence[str], ids: int) -> TokenLayout:
        """[BOS] [patches] [text, cognition token]; no action tokens follow."""
        grid, patches = self.config.towers[0].grid, patch_count(self.config)
        text = range(1 + patches, patches + ids)
        return TokenLayout(patch_ranges(self.config, cameras), (grid, grid), text, range(text.stop, text.stop))


def _load_head(run: RunFolder, config: DiTConfig, device: torch.device) -> DiT:
    with torch.device("meta"):
        named = nn.ModuleDict({"action_model": DiT(config)})
    run.load_into(named, dtype=torch.float32, device=device, unused=(*VLM, *NEVER_READ))
    head = named["action_model"].requires_grad_(requires_grad=False).eval()
    assert isinstance(head, DiT)  # noqa: S101 -- as it was made
    return head
