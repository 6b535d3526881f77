"""In which dtype a CPU is faster: measured on a decoder layer of a checkpoint's sizes, with weights that mean nothing.

Knows a decoder's sizes; no checkpoint, no configuration.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from stillframe.domain import WeightScheme
from stillframe.models.llama.decoder import Decoder, DecoderConfig
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import SequenceSlice
from stillframe.models.llama.weight_packing import pack_for_inference
from stillframe.models.quantised.quantise import check_scheme, quantise
from stillframe.reuse.kv import FrameKV, KVShape

PROMPT_ROWS, DRAFT_ROWS, PASSES = 290, 6, 6  # of a keyframe whose every draft token was wrong
ENOUGH_S = 0.2  # of timing; each dtype once at least

# How much faster a layer has to be for a frame to gain 1.25: what lies round the layers takes as long in either dtype.
# One thread of an EPYC 9004 has 1.2 at 128 wide (jaco-tiny, whose frames gain nothing), 1.7 from 256 wide on.
WORTH = 1.4

CPU = torch.device("cpu")
DTYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class DtypeTiming:
    """Time of one layer for one frame, on one thread."""

    float32_ms: float
    bfloat16_ms: float

    @property
    def dtype(self) -> torch.dtype:
        """float32, unless bfloat16 is so much faster that its rounding is worth it."""
        return torch.bfloat16 if self.float32_ms >= WORTH * self.bfloat16_ms else torch.float32

    @property
    def name(self) -> str:
        """The dtype's, as a configuration says it."""
        return str(self.dtype).removeprefix("torch.")


def time_dtypes(sizes: DecoderConfig, weights: WeightScheme = "as-is") -> DtypeTiming:
    """Time both, over weights of that kind. Takes the memory of two layers, and a second where these are large."""
    with torch.inference_mode():
        return DtypeTiming(*_fastest_ms([_frame(one_layer(sizes, dtype, weights)) for dtype in DTYPES]))


def one_layer(sizes: DecoderConfig, dtype: torch.dtype, weights: WeightScheme = "as-is") -> Decoder:
    """A decoder of a single layer and hardly a vocabulary, packed as a checkpoint's is."""
    with torch.device("meta"):
        positions = max(sizes.max_position_embeddings, PROMPT_ROWS)
        lone = replace(sizes, num_hidden_layers=1, vocab_size=1, max_position_embeddings=positions)
        decoder = Decoder(lone).to(dtype)
    check_scheme(weights, decoder, dtype, CPU)
    decoder.to_empty(device=CPU).requires_grad_(requires_grad=False)
    for parameter in decoder.parameters():
        parameter.fill_(0.01)
    quantise(decoder, weights, dtype, CPU)
    pack_for_inference(decoder)
    return decoder.eval()


def _frame(decoder: Decoder) -> Callable[[], None]:
    """A prefill and the passes behind it."""
    sizes, dtype = decoder.config, decoder.model.norm.weight.dtype
    shape = KVShape(1, sizes.num_key_value_heads, sizes.head_dim, PROMPT_ROWS, dtype, CPU)
    kv, rows = FrameKV(shape.allocate()), torch.ones(PROMPT_ROWS, sizes.hidden_size, dtype=dtype)
    runner, draft_start = DecoderRunner(decoder), PROMPT_ROWS - DRAFT_ROWS

    def compute() -> None:
        runner.forward([SequenceSlice(rows, 0, kv)])
        for _ in range(PASSES):
            runner.forward([SequenceSlice(rows[draft_start:], draft_start, kv)])

    return compute


def _fastest_ms(jobs: list[Callable[[], None]]) -> list[float]:
    """Of each job, in turns, so that other load meets all of them. Once before that, untimed."""
    for job in jobs:
        job()
    rounds: list[list[float]] = []
    while sum(map(sum, rounds)) < ENOUGH_S:
        rounds.append([_thread_s(job) for job in jobs])
    return [1000 * min(own) for own in zip(*rounds, strict=True)]


def _thread_s(job: Callable[[], None]) -> float:
    started_s = time.thread_time()
    job()
    return time.thread_time() - started_s
