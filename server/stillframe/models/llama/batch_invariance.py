"""Batch invariance: whether, on this machine, a row's numbers depend on which rows share its pass. Tested at load.

Knows the shapes of passes that follow each other; not what speculative decoding does with the answer.

Nothing promises that they do not: a product may be summed up in another order where there are more rows. On CPUs it
mostly is not, from a few rows on, and there the draft's rows in a prefill yield to the bit what passes over these rows
alone yield. Tested with the decoder's own weights and dtype, and as many threads as torch has now.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import SequenceSlice
from stillframe.reuse.kv import FrameKV, KVShape

DRAFT_ROWS = 6  # behind a prompt
SHORT = range(5, 22)  # rows of a prompt: remainders of blocks of 4, 8 or 16 rows show here
LONG = (43, 150, 283)
LAYERS = 2  # of one layer's weights: all rows go through the first, through the last only output rows


def is_batch_invariant(decoder: Decoder) -> bool:
    """Whether no difference was found. On a GPU False, untested: there every count of rows has a kernel of its own."""
    if decoder.model.norm.weight.device.type != "cpu":
        return False
    with torch.inference_mode():
        return all(torch.equal(one, other) for one, other in _pairs(DecoderRunner(_shortened(decoder))))


def _pairs(runner: DecoderRunner) -> Iterator[tuple[Tensor, Tensor]]:
    """Tensors that have to be equal."""
    decoder = runner.decoder
    noise = torch.Generator().manual_seed(0)
    longest = decoder.config.max_position_embeddings - DRAFT_ROWS
    for rows in range(SHORT.start, min(SHORT.stop, longest)):
        yield _prefilled_and_repeated(runner, _prompt(decoder, rows, noise))
    prompts = [_prompt(decoder, min(rows, longest), noise) for rows in LONG]
    for prompt in prompts:
        yield _prefilled_and_repeated(runner, prompt)
        yield _prefilled_and_repeated(runner, _thinned(prompt))
    hidden = torch.randn(1 + DRAFT_ROWS, decoder.config.hidden_size, generator=noise).to(prompts[0].rows.dtype)
    yield _said(decoder, hidden)[-DRAFT_ROWS:], _said(decoder, hidden[-DRAFT_ROWS:])
    yield _together_and_alone(runner, prompts)
    yield _together_and_alone(runner, [_draft(prompt) for prompt in prompts])


def _prefilled_and_repeated(runner: DecoderRunner, prompt: SequenceSlice) -> tuple[Tensor, Tensor]:
    """The draft's rows in the prefill, and in a pass of their own over the keys and values that it left."""
    return runner.forward([prompt])[0][-DRAFT_ROWS:], runner.forward([_draft(prompt)])[0]


def _together_and_alone(runner: DecoderRunner, sequences: list[SequenceSlice]) -> tuple[Tensor, Tensor]:
    """What is said of several sequences in one pass, and of each in its own."""
    together = _said(runner.decoder, torch.cat(runner.forward(sequences)))
    return together, torch.cat([_said(runner.decoder, runner.forward([sequence])[0]) for sequence in sequences])


def _said(decoder: Decoder, hidden: Tensor) -> Tensor:
    """Logits of hidden rows; the rows themselves where no head of the decoder reads them."""
    return decoder.logits(hidden) if decoder.has_head else hidden


def _prompt(decoder: Decoder, rows: int, noise: torch.Generator) -> SequenceSlice:
    """A prompt of so many rows with a draft behind it, in a cache of its own."""
    sizes, dtype = decoder.config, decoder.model.norm.weight.dtype
    whole = rows + DRAFT_ROWS
    kv = FrameKV(
        KVShape(LAYERS, sizes.num_key_value_heads, sizes.head_dim, whole, dtype, torch.device("cpu")).allocate()
    )
    return SequenceSlice(torch.randn(whole, sizes.hidden_size, generator=noise).to(dtype), 0, kv, read=1 + DRAFT_ROWS)


def _thinned(sequence: SequenceSlice) -> SequenceSlice:
    """Every third row of the prompt is dropped after the first layer's keys and values: a delta frame."""
    rows = torch.arange(len(sequence.rows))
    return replace(sequence, kept={0: rows[(rows % 3 > 0) | (rows >= len(rows) - 1 - DRAFT_ROWS)]})


def _draft(sequence: SequenceSlice) -> SequenceSlice:
    """The rows behind the prompt, over the keys and values that are there."""
    return SequenceSlice(sequence.rows[-DRAFT_ROWS:], len(sequence.rows) - DRAFT_ROWS, sequence.kv)


def _shortened(decoder: Decoder) -> Decoder:
    """A few layers of the first one's weights, under the decoder's own norm and, where it has one, head."""
    with torch.device("meta"):
        short = Decoder(replace(decoder.config, num_hidden_layers=LAYERS), has_head=decoder.has_head)
    short.model.layers = nn.ModuleList([decoder.model.layers[0]] * LAYERS)
    short.model.norm = decoder.model.norm
    if decoder.has_head:
        short.lm_head = decoder.lm_head
    return short
