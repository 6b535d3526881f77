"""Whether, on this machine, a row's numbers depend on which rows share its pass. Asked once, when a decoder is loaded.

Knows the shapes of passes that follow each other; not what speculation makes of the answer.

Nothing promises that they do not: a product may be summed up in another order where there are more rows. On CPUs it
mostly is not, from a few rows on, and there the guesses' rows in a prefill say to the bit what passes over these rows
alone say. Tried with the decoder's own weights and dtype, and as many threads as torch has now.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import Strand
from stillframe.reuse.kv import FrameKV, KVShape

GUESSES = 6  # rows behind a prompt
SHORT = range(5, 22)  # rows of a prompt: what depends on what is left over of blocks of 4, 8 or 16 rows shows here
LONG = (43, 150, 283)
LAYERS = 2  # of one layer's weights: all rows go through the first, through the last only those that are read


def steady(decoder: Decoder) -> bool:
    """Whether no difference was found. On a GPU: no, without a try, for there every count of rows has its kernel."""
    if decoder.lm_head.weight.device.type != "cpu":
        return False
    with torch.inference_mode():
        return all(torch.equal(one, other) for one, other in _pairs(DecoderRunner(_shortened(decoder))))


def _pairs(runner: DecoderRunner) -> Iterator[tuple[Tensor, Tensor]]:
    """What has to be equal."""
    decoder = runner.decoder
    noise = torch.Generator().manual_seed(0)
    longest = decoder.config.max_position_embeddings - GUESSES
    for rows in range(SHORT.start, min(SHORT.stop, longest)):
        yield _prefilled_and_again(runner, _prompt(decoder, rows, noise))
    prompts = [_prompt(decoder, min(rows, longest), noise) for rows in LONG]
    for prompt in prompts:
        yield _prefilled_and_again(runner, prompt)
        yield _prefilled_and_again(runner, _thinned(prompt))
    said = torch.randn(1 + GUESSES, decoder.config.hidden_size, generator=noise).to(prompts[0].rows.dtype)
    yield decoder.logits(said)[-GUESSES:], decoder.logits(said[-GUESSES:])
    yield _together_and_alone(runner, prompts)
    yield _together_and_alone(runner, [_guesses(prompt) for prompt in prompts])


def _prefilled_and_again(runner: DecoderRunner, prompt: Strand) -> tuple[Tensor, Tensor]:
    """The guesses' rows in the prefill, and in a pass of their own over the keys and values that it left."""
    return runner.forward([prompt])[0][-GUESSES:], runner.forward([_guesses(prompt)])[0]


def _together_and_alone(runner: DecoderRunner, strands: list[Strand]) -> tuple[Tensor, Tensor]:
    """What several strands say in one pass, and each in its own."""
    together = runner.decoder.logits(torch.cat(runner.forward(strands)))
    return together, torch.cat([runner.decoder.logits(runner.forward([strand])[0]) for strand in strands])


def _prompt(decoder: Decoder, rows: int, noise: torch.Generator) -> Strand:
    """A prompt of so many rows with guesses behind it, in a cache of its own."""
    sizes, dtype = decoder.config, decoder.lm_head.weight.dtype
    whole = rows + GUESSES
    kv = FrameKV(
        KVShape(LAYERS, sizes.num_key_value_heads, sizes.head_dim, whole, dtype, torch.device("cpu")).allocate()
    )
    return Strand(torch.randn(whole, sizes.hidden_size, generator=noise).to(dtype), 0, kv, read=1 + GUESSES)


def _thinned(strand: Strand) -> Strand:
    """Of the prompt every third row drops out after the first layer's keys and values: a delta frame."""
    rows = torch.arange(len(strand.rows))
    return replace(strand, kept={0: rows[(rows % 3 > 0) | (rows >= len(rows) - 1 - GUESSES)]})


def _guesses(strand: Strand) -> Strand:
    """The rows behind the prompt, over the keys and values that are there."""
    return Strand(strand.rows[-GUESSES:], len(strand.rows) - GUESSES, strand.kv)


def _shortened(decoder: Decoder) -> Decoder:
    """A few layers of the first one's weights, under the decoder's own norm and head."""
    with torch.device("meta"):
        short = Decoder(replace(decoder.config, num_hidden_layers=LAYERS))
    short.model.layers = nn.ModuleList([decoder.model.layers[0]] * LAYERS)
    short.model.norm, short.lm_head = decoder.model.norm, decoder.lm_head
    return short
