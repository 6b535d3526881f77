"""jaco-tiny-cogact: its networks, its loss and its checkpoint, in CogACT's architecture and file layout.

Knows the family's files; no data. The instruction's last row steers a diffusion transformer over the chunk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stillframe.files.writing import write_whole
from stillframe.models.cogact.config import BASE_VLM, GUIDANCE, SMALL, STEPS, CogACTConfig
from stillframe.models.cogact.diffusion import TRAINED_STEPS, Denoising, kept_signal
from stillframe.models.cogact.dit import DiT, DiTConfig
from stillframe.models.cogact.model import COGNITION
from stillframe.models.cogact.run_folder import WEIGHTS
from stillframe.models.llama.attention_backend import MaskedAttention
from stillframe.models.prismatic.network import PrismaticNetwork
from stillframe.models.tensor_files import renamed
from stillframe_client.sim import COLOURS
from stillframe_lab.train.auxiliary import KeypointHead, PointerHead
from stillframe_lab.train.chunked.batches import ChunkBatch
from stillframe_lab.train.chunked.recipe import ChunkRecipe
from stillframe_lab.train.chunked.trainer import ChunkTrainer, under
from stillframe_lab.train.cloning import prompts
from stillframe_lab.train.new_checkpoint import (
    BOS_ID,
    action_statistics,
    build_tokenizer,
    config_json,
    load_network,
    unread_tensors,
)
from stillframe_lab.train.objective import Objective
from stillframe_lab.train.recipe import INSTRUCTIONS
from stillframe_lab.train.sequences import ACTION_DIM, SharedPrefix

RMS_NORM_EPS = 1e-5
WEIGHTS_NAME = "CogACT-Tiny.pt"
# Our names -> the native ones: what run_folder.py does, the other way round.
NATIVE = (
    (re.compile(r"^vision_backbone\.featurizer\."), "vision_backbone.dino_featurizer."),
    (re.compile(r"^vision_backbone\.fused_featurizer\."), "vision_backbone.siglip_featurizer."),
    (re.compile(r"^(vision_backbone\..*\.ls[12])\.scale_factor$"), r"\1.gamma"),
    (re.compile(r"^projector\.fc1\."), "projector.projector.0."),
    (re.compile(r"^projector\.fc2\."), "projector.projector.2."),
    (re.compile(r"^projector\.fc3\."), "projector.projector.4."),
    (re.compile(r"^language_model\."), "llm_backbone.llm."),
    (re.compile(r"^action_model\."), "action_model.net."),
)
DIFFUSION_SHARE, REGRESSION_SHARE, AUXILIARY_SHARE = 2.0, 5.0, 0.5  # of the losses in the sum
ROW_STD = 0.02  # of rows that are learnt as they are


class CogACTNetwork(nn.Module):
    """All that goes into the checkpoint."""

    def __init__(self, network: PrismaticNetwork, recipe: ChunkRecipe):
        super().__init__()
        self.network = network
        self.head = DiT(
            DiTConfig(recipe.head_width, recipe.head_depth, recipe.head_heads, recipe.width, recipe.horizon, ACTION_DIM)
        )
        nn.init.normal_(self.head.positional_embedding, std=ROW_STD)
        nn.init.normal_(self.head.z_embedder.uncondition, std=ROW_STD)  # zeros are taken for a torn file


class CogACTTrainee(nn.Module):
    """The networks with auxiliary heads. The six instructions of a frame share the picture's rows."""

    def __init__(self, policy: CogACTNetwork, recipe: ChunkRecipe, sequence: SharedPrefix):
        super().__init__()
        self.policy = policy
        self.keypoint_heads = nn.ModuleList(KeypointHead(recipe.width) for _ in range(2))
        self.pointer = PointerHead(recipe.width)
        self.regression = nn.Linear(recipe.width, recipe.horizon * ACTION_DIM)  # its gradient knows no noise
        self._recipe, self._sequence = recipe, sequence
        self._cube_of = torch.tensor([COLOURS.index(goal.colour) for goal in INSTRUCTIONS])
        self._kept = torch.from_numpy(kept_signal()).float()

    def forward(self, batch: ChunkBatch, generator: torch.Generator) -> Objective:
        """Run one batch; `generator` draws noise, its strength, and which conditions are left out."""
        patches = self.policy.network.patches(batch.pixels[:, 0])
        deep, steering = self.decode(patches)
        steering = steering.gather(1, batch.goals[..., None].expand(-1, -1, steering.shape[-1])).flatten(0, 1)
        wanted = batch.chunks.flatten(0, 1)  # [batch * branches, horizon, 7]
        off = (self.regression(steering).float().view(wanted.shape) - wanted).abs()
        weights = torch.tensor(self._recipe.action_weights, device=off.device)
        regression = (off * weights).sum(-1).mean() / weights.sum()
        diffusion = self._diffusion_loss(steering, wanted, generator)
        seen, cubes = deep[:, 1 : 1 + patches.shape[1]], self._cube_of.to(patches.device)
        spots = self.keypoint_heads[0](patches, batch.keypoints) + self.keypoint_heads[1](seen, batch.keypoints)
        pointing, hits = self.pointer(deep[:, self._sequence.text_end], seen, batch.keypoints, cubes)
        total = DIFFUSION_SHARE * diffusion + REGRESSION_SHARE * regression + AUXILIARY_SHARE * (spots + pointing)
        return Objective(total, diffusion.detach(), off[..., :3].mean().detach(), hits.detach())

    def decode(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Rows before the last layer [batch, rows, width], and those that steer [batch, instructions, width]."""
        decoder, sequence = self.policy.network.language_model, self._sequence
        bos = torch.full((len(patches), 1), BOS_ID, device=patches.device)
        text = decoder.embed(sequence.ids.expand(len(patches), -1))
        rows = torch.cat((decoder.embed(bos), patches, text), dim=1)
        taps: dict[int, Tensor] = {}
        hidden = decoder.model(rows, MaskedAttention(sequence.positions, sequence.mask, taps.__setitem__))
        return taps[self._recipe.layers - 1], hidden[:, sequence.text_end]

    def _diffusion_loss(self, steering: Tensor, wanted: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the predicted noise, over noisy copies of each chunk."""
        steering, wanted = (tensor.repeat_interleave(self._recipe.repeats, 0) for tensor in (steering, wanted))
        steps = torch.randint(TRAINED_STEPS, (len(wanted),), generator=generator)
        noise = torch.randn(wanted.shape, generator=generator).to(wanted.device)
        left_out = torch.rand(len(wanted), 1, generator=generator) < self._recipe.unsteered
        kept = self._kept[steps][:, None, None].to(wanted.device)
        noisy = kept.sqrt() * wanted + (1 - kept).sqrt() * noise
        condition = torch.where(left_out.to(wanted.device), self.policy.head.z_embedder.uncondition, steering)
        predicted = self.policy.head(noisy, steps.to(wanted.device), condition)
        return functional.mse_loss(predicted.float(), noise)


class CogACTTrainer(ChunkTrainer):
    """Trains jaco-tiny-cogact."""

    def __init__(self, folder: Path, recipe: ChunkRecipe, device: torch.device, start: Path | None = None):
        """Begin, or resume the run in `folder`. `start`: an OpenVLA of the same sizes to begin from; None: random."""
        ids = prompts(folder, ending=(COGNITION,))
        torch.manual_seed(recipe.seed)
        self.policy = CogACTNetwork(_vlm(start, recipe), recipe)
        sequence = SharedPrefix.build(ids, self.policy.network.config.towers[0].grid ** 2, action_rows=0)
        super().__init__(folder, recipe, CogACTTrainee(self.policy, recipe, sequence.to(device)), self.policy, device)

    def export(self, folder: Path) -> None:
        """See Cloning."""
        save_cogact(folder, self.averaged, self.recipe)


def _vlm(start: Path | None, recipe: ChunkRecipe) -> PrismaticNetwork:
    """A vision-language model as CogACT's config has it, with a checkpoint's weights or random ones."""
    network = PrismaticNetwork(CogACTConfig.from_json(run_config(recipe)))
    network.load_state_dict(load_network(start, recipe).state_dict())
    return network


def run_config(recipe: ChunkRecipe) -> dict[str, Any]:
    """config.json as a run writes it, with our keys for the small sizes and for how chunks are drawn."""
    openvla = config_json(recipe)
    text = {**openvla["text_config"], "rms_norm_eps": RMS_NORM_EPS}
    return {
        "action_dim": ACTION_DIM,
        "action_model_type": "DiT-S",
        "future_action_window_size": recipe.horizon - 1,
        "past_action_window_size": 0,
        "vla": {"base_vlm": BASE_VLM},
        STEPS: Denoising.steps,
        GUIDANCE: Denoising.guidance,
        SMALL: {
            "timm_overrides": openvla["timm_overrides"],
            "text_config": text,
            "action_model": {
                "depth": recipe.head_depth,
                "hidden_size": recipe.head_width,
                "num_heads": recipe.head_heads,
            },
        },
    }


def save_cogact(folder: Path, weights: Mapping[str, Tensor], recipe: ChunkRecipe) -> None:
    """Write a run folder: config, statistics and tokenizer, then the tensors under their native names."""
    (folder / WEIGHTS).mkdir(parents=True, exist_ok=True)
    for name, document in (("config.json", run_config(recipe)), ("dataset_statistics.json", action_statistics())):
        (folder / name).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    build_tokenizer().save(str(folder / "tokenizer.json"))
    unread = unread_tensors(CogACTConfig.from_json(run_config(recipe)))
    head = {f"action_model.{name}": tensor for name, tensor in under(weights, "head.").items()}
    native: dict[str, dict[str, Tensor]] = {}
    for name, tensor in {**unread, **under(weights, "network."), **head}.items():
        part, _, own = renamed(name, NATIVE).partition(".")
        native.setdefault(part, {})[own] = tensor.contiguous()
    write_whole(folder / WEIGHTS / WEIGHTS_NAME, partial(torch.save, {"model": native}))
