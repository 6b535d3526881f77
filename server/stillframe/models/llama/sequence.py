"""One sequence's part in a pass of the decoder: its rows, the cache in which they lie, and what its plan keeps of them.

Knows positions and plans; not what the rows mean, and not how a pass is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from stillframe.models.llama.attention_backend import LayerHook
from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.history_attention import HistoryKV
from stillframe.models.llama.layout import Mask
from stillframe.models.llama.pruning import PromptPruning
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.plan import ReusePlan


class PromptHook(Protocol):
    """An `attention_backend.LayerHook` over a prompt, which says how much of it it needs."""

    @property
    def text_rows(self) -> int | None:
        """How many of the prompt's last rows it needs to see; None: perhaps all."""
        ...

    def __call__(self, layer: int, rows: Tensor, /) -> None:
        """See `attention_backend.LayerHook`."""
        ...


@dataclass(frozen=True)
class SequenceSlice:
    """One sequence's part in a pass: adjoining rows, and the cache in which they lie."""

    rows: Tensor  # [n, width], embedded
    first: int  # position of the first
    kv: FrameKV
    kept: Mapping[int, Tensor] = field(default_factory=dict)  # layer -> indices of rows that survive it; none: all do
    hook: LayerHook | None = None
    hook_rows: int | None = None  # so many of the last rows the hook needs; None: perhaps all
    read: int | None = None  # so many of the last rows' hidden states are output, None: all; `kept` drops none of them
    history: HistoryKV | None = None  # older frames, to which the text's and the action's rows attend as well
    mask: Mask = Mask.CAUSAL
    pruning: PromptPruning | None = None  # takes out rows between layers, where `kept` drops none; for this pass

    @property
    def stop(self) -> int:
        """One past the last row's position."""
        return self.first + len(self.rows)


def prompt_slice(
    decoder: Decoder,
    rows: Tensor,
    plan: ReusePlan,
    kv: FrameKV,
    hook: PromptHook | None = None,
    draft_ids: Tensor | None = None,
    read: int | None = None,
    history: HistoryKV | None = None,
    mask: Mask = Mask.CAUSAL,
    pruning: PromptPruning | None = None,
) -> SequenceSlice:
    """A prompt's embedded rows [plan.rows, width] by `plan`, over what `kv` holds of the reused ones.

    Behind them the drafted token ids [n], which are never reused and which the hook does not see. The text's rows are
    never reused either, so the last 1 + n rows that come out are the prompt's last and those of the draft. Raises
    ValueError for `pruning` beside reuse or history: neither was published with it.
    """
    if pruning is not None:
        if plan.counts[-1] or history is not None:
            raise ValueError("pruning takes a prompt that is computed whole, without history")
        pruning.begin(rows)
    after = 0 if draft_ids is None else len(draft_ids)
    hook_rows = None if hook is None or hook.text_rows is None else hook.text_rows + after
    on_prompt: LayerHook | None = hook
    if draft_ids is not None and after:
        rows, on_prompt = torch.cat((rows, decoder.embed(draft_ids.to(rows.device)))), _without_draft(hook, after)
    kv.begin()
    kept = replace(plan, rows=len(rows)).kept
    return SequenceSlice(rows, 0, kv, kept, on_prompt, hook_rows, read, history, mask, pruning)


def _without_draft(hook: LayerHook | None, draft_rows: int) -> LayerHook | None:
    """The hook over the prompt's rows alone, without those of the draft."""
    return None if hook is None else lambda layer, rows: hook(layer, rows[:-draft_rows])
