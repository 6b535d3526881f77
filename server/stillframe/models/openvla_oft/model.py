"""OpenVLA-OFT: one bidirectional pass over pictures, state, text and the places of a chunk's numbers.

Knows the layout of its checkpoints; no HTTP and no session. Source: moojink/openvla-oft prismatic/extern/hf.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillframe.domain import ActionChunk, Observation, PolicyInfo, RtcInfo, WeightScheme
from stillframe.errors import Flaw, Internal, not_an_action, not_finite
from stillframe.models.actions import Statistics, no_action
from stillframe.models.base import Decoded, ImageEncoder, Prefilled, Prepared
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.components import Component
from stillframe.models.llama.layout import Mask, TokenLayout
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.openvla_oft.config import OFTConfig
from stillframe.models.openvla_oft.heads import RegressionHead, StateProjector
from stillframe.models.openvla_oft.loading import action_statistics, regression_head, state_projector, state_reader
from stillframe.models.openvla_oft.parts import ACTION_HEAD, PARTS, STATE_PROJECTOR
from stillframe.models.parts import find_part
from stillframe.models.prismatic.checks import check_pixels, norm_stats
from stillframe.models.prismatic.config import PrismaticConfig
from stillframe.models.prismatic.network import PrismaticNetwork, load_network
from stillframe.models.prismatic.pixels import PixelPipeline
from stillframe.models.prismatic.policy import NO_TOKENS, PrismaticPolicy, patch_count, patch_ranges
from stillframe.models.prismatic.prompt import PromptEncoder
from stillframe.models.prismatic.tokenizer import tokenizer_file
from stillframe.models.quantised.quantise import weight_bytes
from stillframe.models.state import StateReader

STOP_ID = 2  # </s>, behind the action's places
NOT_HELD = (
    "its chunk comes out of one pass, with no steps from noise that could be guided; blend chunks in the client "
    "instead, as ChunkPlayer(blend='linear') does"
)


class OpenVLAOFT(PrismaticPolicy):
    """A loaded checkpoint: the family behind `models.base.PolicyModel`."""

    mask = Mask.BIDIRECTIONAL

    def __init__(
        self,
        name: str,
        oft: OFTConfig,
        network: PrismaticNetwork,
        pixels: PixelPipeline,
        prompt: PromptEncoder,
        statistics: Statistics,
        head: RegressionHead | None,
        projector: StateProjector | None,
        reader: StateReader | None,
    ):
        """`head` None: the decoder's own says tokens. `projector` and `reader` None: no state is read."""
        super().__init__(name, oft.backbone, network, pixels, prompt, statistics)
        self.oft = oft
        self.head = head
        self.projector = projector
        self._reader = reader

    @classmethod
    def load(
        cls, folder: CheckpointFolder, *, dtype: torch.dtype, device: torch.device, weights: WeightScheme = "as-is"
    ) -> OpenVLAOFT:
        """Check the whole folder, then read it."""
        config = folder.json("config.json")
        head, projector = (find_part(folder, part) for part in (ACTION_HEAD, STATE_PROJECTOR))
        stats = norm_stats(folder, PrismaticConfig.from_json(config))
        oft = OFTConfig.of(config, head, projector, stats)
        pixels = PixelPipeline.from_config(folder.json("preprocessor_config.json"))
        check_pixels(pixels, oft.backbone)
        statistics, reader = action_statistics(folder, stats, oft), state_reader(stats, oft)
        max_text = oft.backbone.decoder.max_position_embeddings - _rows_beside_text(oft) + 1
        prompt = PromptEncoder(tokenizer_file(folder), max_text, oft.backbone.decoder.vocab_size)
        network = load_network(
            folder,
            oft.backbone,
            dtype=dtype,
            device=device,
            weights=weights,
            action_tokens=oft.head == "discrete",
            beside=[f"{part}." for part in PARTS],
        )
        own_head = regression_head(head, oft, dtype, device)
        own_projector = state_projector(projector, oft, dtype, device)
        name = folder.name
        return cls(name, oft, network, pixels, prompt, statistics, own_head, own_projector, reader)

    @property
    def fixed_rows(self) -> int:
        """BOS, every camera's patches, the state, the action's places and what ends them."""
        return _rows_beside_text(self.oft)

    @property
    def answer_rows(self) -> int:
        """From the row before the action's first place to the end."""
        return self.oft.action_rows + 2

    @property
    def info(self) -> PolicyInfo:
        """See `PrismaticPolicy.contract`."""
        parts = [part for part in (self.network, self.head, self.projector) if part is not None]
        return self.contract(
            family="openvla-oft",
            parameters=sum(weight.numel() for part in parts for weight in part.parameters()),
            weight_bytes=weight_bytes(*parts),
            action_names=self.oft.action_names,
            chunk_horizon=self.oft.chunk,
            state=None if self._reader is None else self._reader.info,
            rtc=RtcInfo(why=NOT_HELD),
        )

    def components(self, folder: CheckpointFolder) -> tuple[Component, ...]:
        """Those of the backbone, the head, the projector of the state."""
        made = [*super().components(folder)]
        if self.head is not None and (part := find_part(folder, ACTION_HEAD)):
            model = self.head.model
            made.append(part.component("action head", len(model.mlp_resnet_blocks), model.fc1.out_features))
        if self.projector is not None and (part := find_part(folder, STATE_PROJECTOR)):
            made.append(part.component("state projector", 2, self.projector.fc2.out_features))
        return tuple(made)

    @property
    def action_ids(self) -> range | None:
        """Those of the decoder's own head; None: the head beside it says numbers."""
        return self.config.bins.ids if self.head is None else None

    def scaled_state(self, observation: Observation, unnorm_key: str) -> Tensor | None:
        """The robot's state [numbers], scaled by the data set's statistics and clipped; None: it reads none."""
        if self._reader is None:
            return None
        return torch.from_numpy(self._reader.read(observation.state, unnorm_key)).float()

    def embed(self, prepared: Sequence[Prepared], encode_images: ImageEncoder | None = None) -> list[Tensor]:
        """Of each: BOS, patches, state, the rest of the text, zeros for the action, the stop token -> [rows, width]."""
        patches = self.patch_rows(prepared, encode_images)
        stop = self.decoder.model.embed_tokens.weight[STOP_ID : STOP_ID + 1]
        places = stop.new_zeros(self.oft.action_rows, stop.shape[1])
        texts = [self.decoder.embed(one.ids.to(self.device, non_blocking=True)) for one in prepared]
        return [
            torch.cat((text[:1], own, *self._state_row(one), text[1:], places, stop))
            for one, text, own in zip(prepared, texts, patches, strict=True)
        ]

    def act(self, prefilled: Sequence[Prefilled], runner: DecoderRunner) -> list[Decoded]:  # noqa: ARG002 (one pass is all)
        """The chunk from the hidden rows, each number's from the row before its place. One by one: what it is alone."""
        rows = self.oft.action_rows
        return [self._decoded(one.prepared.unnorm_key, one.hidden[:rows]) for one in prefilled]

    def _decoded(self, unnorm_key: str, hidden: Tensor) -> Decoded:
        ids, refusal = (NO_TOKENS, None) if self.head is not None else _said(self.decoder.logits(hidden))
        refusal = refusal or (no_action(ids, self.config.bins.ids) if len(ids) else None)
        normalised = self._normalised(hidden, ids) if refusal is None else np.full(self._shape, np.nan)
        actions = self.statistics.scales[unnorm_key].unnormalise(normalised)
        return Decoded(ActionChunk(actions, unnorm_key, ids), normalised, passes=0, refusal=refusal)

    def _normalised(self, hidden: Tensor, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """[chunk, action_dim] of the head, or of the tokens that the decoder said."""
        if self.head is None:
            return self.config.bins.decode(ids).reshape(self._shape)
        said: NDArray[np.float64] = self.head(hidden).double().cpu().numpy()
        return said

    @property
    def _shape(self) -> tuple[int, int]:
        return self.oft.chunk, len(self.oft.action_names)

    def _state_row(self, prepared: Prepared) -> tuple[Tensor, ...]:
        """[1, width], or nothing."""
        if prepared.state is None or self.projector is None:
            return ()
        row: Tensor = self.projector(prepared.state.to(self.device, self.dtype)[None])
        return (row,)

    def layout(self, cameras: Sequence[str], ids: int) -> TokenLayout:
        """[BOS] [patches] [state] [text] [the action's places] [stop]: BOS counts as text but sits first."""
        grid, after = self.config.towers[0].grid, 1 + patch_count(self.config)
        state = range(after, after + bool(self.oft.state_names))
        text = range(state.stop, state.stop + ids - 1)
        action = range(text.stop, text.stop + self.oft.action_rows)
        tail = range(action.stop, action.stop + 1)
        return TokenLayout(patch_ranges(self.config, cameras), (grid, grid), text, action, state, tail, self.mask)


def _said(logits: Tensor) -> tuple[NDArray[np.int64], Internal | None]:
    """The likeliest ids of logits [rows, vocabulary], and why they mean nothing."""
    spread = (logits.amax(dim=-1) - logits.amin(dim=-1)).double().cpu()
    ids = logits.argmax(dim=-1).cpu().numpy()
    if not bool(spread.isfinite().all()):
        return ids, not_finite()
    if not bool(spread.all()):
        return ids, not_an_action(Flaw.FLAT, "The policy finds every token as likely as every other.")
    return ids, None


def _rows_beside_text(oft: OFTConfig) -> int:
    """BOS among them."""
    return 1 + patch_count(oft.backbone) + bool(oft.state_names) + oft.action_rows + 1
