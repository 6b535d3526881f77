"""One sequence's part in a pass of the decoder: its rows, the cache in which they lie, and what its plan keeps of them.

Knows positions and plans; not what the rows mean, and not how a pass is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from stillframe.models.llama.decoder import Decoder, Tap
from stillframe.models.llama.history_attention import Recall
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.plan import ReusePlan


class PromptTap(Protocol):
    """A `decoder.Tap` over a prompt, which says how much of it it needs."""

    @property
    def text_rows(self) -> int | None:
        """How many of the prompt's last rows it needs to see; None: perhaps all."""
        ...

    def __call__(self, layer: int, rows: Tensor, /) -> None:
        """See `decoder.Tap`."""
        ...


@dataclass(frozen=True)
class Strand:
    """One sequence's part in a pass: adjoining rows, and the cache in which they lie."""

    rows: Tensor  # [n, width], embedded
    first: int  # position of the first
    kv: FrameKV
    kept: Mapping[int, Tensor] = field(
        default_factory=dict
    )  # layer -> indices, into the rows that enter it, of those that go on
    tap: Tap | None = None
    listens: int | None = None  # so many of the last rows the tap looks at; None: perhaps all
    read: int | None = None  # so many of the last rows' hidden states are read, None: all; never any that `kept` drops
    history: Recall | None = None  # older frames, at which the text's and the action's rows look as well

    @property
    def stop(self) -> int:
        """One past the last row's position."""
        return self.first + len(self.rows)


def prompt(
    decoder: Decoder,
    rows: Tensor,
    plan: ReusePlan,
    kv: FrameKV,
    tap: PromptTap | None = None,
    guesses: Tensor | None = None,
    read: int | None = None,
    history: Recall | None = None,
) -> Strand:
    """A prompt's embedded rows [plan.rows, width] by `plan`, over what `kv` holds of the reused ones.

    Behind them the token ids that are guessed to follow [n], which are never reused and which the tap does not see. The
    text's rows are never reused either, so the last 1 + n that come out are the prompt's last and those of the guesses.
    """
    after = 0 if guesses is None else len(guesses)
    listens = None if tap is None or tap.text_rows is None else tap.text_rows + after
    hears: Tap | None = tap
    if guesses is not None and after:
        rows, hears = torch.cat((rows, decoder.embed(guesses.to(rows.device)))), _of_prompt(tap, after)
    kv.begin()
    return Strand(rows, 0, kv, replace(plan, rows=len(rows)).kept, hears, listens, read, history)


def _of_prompt(tap: Tap | None, guesses: int) -> Tap | None:
    """The tap, without the rows of the guesses: what is listened to is the prompt."""
    return None if tap is None else lambda layer, rows: tap(layer, rows[:-guesses])
