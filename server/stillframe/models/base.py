"""PolicyModel: the protocol that a family implements, and a frame's records from stage to stage.

Knows the order of the stages; no family, no session.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillframe.domain import ActionChunk, Image, Observation, PolicyInfo
from stillframe.errors import Internal
from stillframe.models.expert_probe import ExpertHook
from stillframe.models.held_chunk import HeldChunk, SampledChunk
from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.draft import Draft, Ids
from stillframe.models.llama.history_attention import HistoryKV
from stillframe.models.llama.layout import Mask, TokenLayout
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import PromptHook
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.relevance import Relevance

ImageEncoder = Callable[[Tensor], Tensor]  # images [n, channels, H, W] -> rows [n, patches, width]


@dataclass(frozen=True)
class Prepared:
    """One observation, ready for the vision encoder."""

    views: dict[str, Image]  # camera -> uint8 [H, W, 3] as the model sees it
    pixels: Tensor  # [cameras, 6, H, W] float32, in the host's memory
    ids: Tensor  # [text tokens], BOS first, in the host's memory
    layout: TokenLayout
    unnorm_key: str
    no_motion_tokens: Ids  # [action's tokens] of no motion: the draft where nothing better is known
    actions: range | None = None  # the ids that are actions, where the family decodes tokens; None: it does not
    state: Tensor | None = None  # [numbers] of the robot's, scaled, in the host's memory; None: the family reads none
    padded_views: bool = False  # whether a view shows its picture with bars that make it a square; else it fills it
    rounded_views: bool = False  # whether pixels are finer than views: equal views may then have others
    known: Mapping[str, Tensor] = field(default_factory=dict, repr=False)  # camera -> rows [patches, width] of the same
    # picture, computed before: `embed` may take them


@dataclass(frozen=True)
class Prefilled:
    """One observation after its prefill."""

    prepared: Prepared
    hidden: Tensor  # [rows, width]; the last are the prompt's last and those of `draft.input_ids`
    kv: FrameKV  # of the prompt; decoding appends to it
    draft: Draft
    history: HistoryKV | None = None  # older frames, to which decoding attends as well
    seed: int = 0  # of what chance a family needs: the same for a frame whenever it is computed
    held: HeldChunk | None = None  # what its chunk goes on with, where the policy's `info.rtc` says that it can
    expert_hook: ExpertHook | None = None  # what sees its actions attend to the prompt, where `has_expert`


@dataclass(frozen=True)
class Decoded:
    """An action and what decoding took."""

    chunk: ActionChunk
    normalised: NDArray[np.float64]  # [horizon, action_dim] in [-1, 1]: the same actions before they are scaled
    passes: int  # of the decoder, after the prefill
    accepted: int = 0  # draft tokens that the prefill accepted, from the first on
    refusal: Internal | None = None  # why it is no action, as far as the family knows; its numbers are then NaN
    bit_equal: bool = True  # whether passes over this frame alone, without guesses, give the same, however they round
    sampled: NDArray[np.float64] | None = None  # [horizon, its numbers] as they were drawn, before any clip and scale:
    # what the next chunk can be held to; None: the family's chunks cannot be held


def picture_rows(prepared: Sequence[Prepared], encode: Callable[[list[Tensor]], Tensor]) -> list[list[Tensor]]:
    """Of each, camera by camera, its rows [patches, width]: those that are known, the others of one call of `encode`.

    That takes pictures [channels, H, W] in the host's memory.
    """
    unknown = [one.pixels[at] for one in prepared for at, camera in enumerate(one.views) if camera not in one.known]
    made = iter(encode(unknown) if unknown else ())
    return [[one.known[camera] if camera in one.known else next(made) for camera in one.views] for one in prepared]


def drawn_together(chunks: list[Decoded]) -> list[Decoded]:
    """The chunks that one batch of a head's passes gave: several are equal to each robot's own up to rounding only."""
    return [replace(chunk, bit_equal=False) for chunk in chunks] if len(chunks) > 1 else chunks


def sampled_chunk(prepared: Prepared, sampled: NDArray[np.float64]) -> SampledChunk:
    """What `Decoded.sampled` of a frame is to the next ones."""
    state = None if prepared.state is None else prepared.state.double().numpy()
    return SampledChunk(sampled, prepared.unnorm_key, state)


class RelevanceProbe(Protocol):
    """Notes, while a frame is computed, what says afterwards which patches matter for its task."""

    @property
    def on_prompt(self) -> PromptHook | None:
        """What sees the rows of its prefill; None: nothing of it does."""
        ...

    @property
    def on_expert(self) -> ExpertHook | None:
        """What sees its actions drawn; None: nothing of it does."""
        ...

    def relevance(self, kv: FrameKV) -> Relevance:
        """What was attended to in `kv`, which the frame has filled."""
        ...


class PolicyModel(Protocol):
    """One family's checkpoint, loaded. Called by the engine's thread alone, under inference_mode, but for `prepare`.

    Observations of several robots are batched, and each result is what it would be alone.
    """

    @property
    def info(self) -> PolicyInfo:
        """What it is and what its numbers mean."""
        ...

    @property
    def decoder(self) -> Decoder:
        """The language model, whose keys and values are cached."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are stored and multiplied in."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        ...

    @property
    def fixed_rows(self) -> int:
        """Positions that a prompt and its action take beside the text: what a FrameKV has to hold for every frame."""
        ...

    @property
    def answer_rows(self) -> int:
        """Rows at a prefill's end whose hidden states say the action, those of a draft behind the prompt included."""
        ...

    @property
    def mask(self) -> Mask:
        """That of every layout."""
        ...

    @property
    def has_expert(self) -> bool:
        """Whether an action expert attends to the prompt's keys, layer by layer: then it can say what matters."""
        ...

    def prepare(self, observation: Observation) -> Prepared:
        """Resize, normalise, tokenise. Any thread. Raises Unprocessable for what this checkpoint cannot serve."""
        ...

    def embed(self, prepared: Sequence[Prepared], encode_images: ImageEncoder | None = None) -> list[Tensor]:
        """Vision encoder and token embeddings -> each prompt's rows [prompt_rows, width].

        `encode_images` takes the place of the model's own encoder, and gives the same; None: its own.
        """
        ...

    def act(self, prefilled: Sequence[Prefilled], runner: DecoderRunner) -> list[Decoded]:
        """From the hidden rows of prefills over prompts and `draft.input_ids` to actions.

        May decode on with each `kv`, by passes of `runner`, which runs this model's decoder.

        An answer that is no action is not repaired: it comes as `Decoded.refusal`, or as the numbers that it is. The
        engine checks every answer before anything of it is kept or returned.
        """
        ...
