"""OpenVLA: two vision towers, a projector, a Llama that decodes action tokens.

Knows the layout of openvla-7b's folder; no HTTP and no session. Source: openvla/openvla prismatic/extern/hf.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from stillframe.domain import ActionChunk, PolicyInfo, WeightScheme
from stillframe.models.actions import Statistics, no_action
from stillframe.models.base import Decoded, ImageEncoder, Prefilled, Prepared
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.llama.draft import Ids
from stillframe.models.llama.layout import Mask, TokenLayout
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.speculative import DecodeResult, speculative_decode
from stillframe.models.prismatic.checks import ACTION_NAMES, check_action, check_pixels, norm_stats
from stillframe.models.prismatic.config import PrismaticConfig
from stillframe.models.prismatic.network import load_network
from stillframe.models.prismatic.pixels import PixelPipeline
from stillframe.models.prismatic.policy import PrismaticPolicy, patch_count, patch_ranges
from stillframe.models.prismatic.prompt import PromptEncoder
from stillframe.models.prismatic.tokenizer import tokenizer_file


class OpenVLA(PrismaticPolicy):
    """A loaded OpenVLA checkpoint: the family behind `models.base.PolicyModel`."""

    mask = Mask.CAUSAL

    @classmethod
    def load(
        cls, folder: CheckpointFolder, *, dtype: torch.dtype, device: torch.device, weights: WeightScheme = "as-is"
    ) -> OpenVLA:
        """Check the whole folder, then read it."""
        config = PrismaticConfig.from_json(folder.json("config.json"))
        pixels = PixelPipeline.from_config(folder.json("preprocessor_config.json"))
        check_pixels(pixels, config)
        statistics = Statistics(norm_stats(folder, config))
        check_action(folder, statistics)
        max_text = config.decoder.max_position_embeddings - patch_count(config) - statistics.action_dim
        prompt = PromptEncoder(tokenizer_file(folder), max_text, config.decoder.vocab_size)
        network = load_network(folder, config, dtype=dtype, device=device, weights=weights)
        return cls(folder.name, config, network, pixels, prompt, statistics)

    @property
    def fixed_rows(self) -> int:
        """BOS, every camera's patches and the action's tokens."""
        return 1 + patch_count(self.config) + self.statistics.action_dim

    @property
    def answer_rows(self) -> int:
        """The prompt's last and those of all guesses but the last, on which nothing follows."""
        return self.statistics.action_dim

    @property
    def info(self) -> PolicyInfo:
        """See `PrismaticPolicy.contract`."""
        return self.contract(family="openvla", action_names=ACTION_NAMES, chunk_horizon=1)

    @property
    def action_ids(self) -> range:
        """The last of the vocabulary, a bin each."""
        return self.config.bins.ids

    def no_motion_tokens(self, unnorm_key: str) -> Ids:
        """The tokens of an action that moves nothing, of a data set."""
        return self._no_motion_tokens[unnorm_key]

    @cached_property
    def _no_motion_tokens(self) -> dict[str, Ids]:
        """Of each data set, the tokens of an action that moves nothing."""
        nothing = np.zeros(self.statistics.action_dim)
        scales = self.statistics.scales.items()
        return {key: self.config.bins.encode(scale.normalise(nothing)) for key, scale in scales}

    def embed(self, prepared: Sequence[Prepared], encode_images: ImageEncoder | None = None) -> list[Tensor]:
        """Of each: BOS, every camera's patches, the rest of the text -> [prompt_rows, width]."""
        return self.prompt_rows(prepared, encode_images)

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
        return Decoded(chunk, normalised, result.passes, result.accepted, refusal, result.bit_equal)

    def layout(self, cameras: Sequence[str], ids: int) -> TokenLayout:
        """[BOS] [patches, camera after camera] [text] [action]: BOS counts as text but sits first."""
        grid, patches = self.config.towers[0].grid, patch_count(self.config)
        text = range(1 + patches, patches + ids)
        action = range(text.stop, text.stop + self.statistics.action_dim)
        return TokenLayout(patch_ranges(self.config, cameras), (grid, grid), text, action)
