"""Small random decoders, and prompts in slots of a pool: what captured passes are tried on, without a GPU.

Knows no test. Recording is played: what would be recorded is computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from stillframe.domain import PassCounts
from stillframe.models.graphs.graph_runner import CudaGraphRunner
from stillframe.models.graphs.shapes import capture_shapes
from stillframe.models.llama.decoder import Decoder, DecoderConfig
from stillframe.models.llama.layout import Mask
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import SequenceSlice
from stillframe.reuse.kv import FrameKV, KVPool, KVShape

CAPACITY, ANSWER_ROWS = 40, 4
BUCKETS = (12, 24)
BATCHES = (1, 2, 4)


@dataclass
class Played:
    """Stands for a GPU's recorder."""

    recorded: int = 0
    replayed: int = 0

    def __call__(self, compute: Callable[[], None]) -> Callable[[], None]:
        """Compute once, as warming up does; then again when asked."""
        compute()
        self.recorded += 1

        def again() -> None:
            self.replayed += 1
            compute()

        return again


@dataclass
class House:
    """A decoder, its pool, and sequences to run."""

    decoder: Decoder
    pool: KVPool
    random: torch.Generator
    player: Played = field(default_factory=Played)
    mask: Mask = Mask.CAUSAL

    def captured(self, most: int = 4, hook_rows: int = 8) -> CudaGraphRunner:
        """Of everything that fits the pool."""
        shapes = capture_shapes(CAPACITY, ANSWER_ROWS, BATCHES, BUCKETS, most, drafted=self.mask is Mask.CAUSAL)
        return CudaGraphRunner(
            self.decoder,
            self.pool,
            shapes,
            self.player,
            hook_rows=hook_rows,
            counts=PassCounts(),
            mask=self.mask,
        )

    def runner(self, graphs: CudaGraphRunner | None = None) -> DecoderRunner:
        """Of passes that are replayed, or of none."""
        return DecoderRunner(self.decoder, graphs)

    def rows(self, number: int) -> Tensor:
        """Embedded rows."""
        return torch.randn(number, self.decoder.config.hidden_size, generator=self.random)

    def slot(self) -> FrameKV:
        """One of the pool's, with something in it."""
        kv = self.pool.acquire()
        assert kv is not None
        self.pool.storage[self.pool.slot_of(kv)].normal_(generator=self.random)
        return kv

    def prompt(self, rows: int, kv: FrameKV, dropped: Sequence[int] = (), layer: int = 0) -> SequenceSlice:
        """A prompt with guesses behind it, of which some rows leave after a layer."""
        kept = torch.tensor([row for row in range(rows) if row not in dropped])
        drops = {layer: kept} if dropped else {}
        return SequenceSlice(self.rows(rows), 0, kv, drops, read=ANSWER_ROWS, mask=self.mask)

    def guesses(self, prompt: SequenceSlice) -> SequenceSlice:
        """The rows behind the prompt."""
        first = prompt.stop - ANSWER_ROWS + 1
        return SequenceSlice(self.rows(ANSWER_ROWS - 1), first, prompt.kv)


@pytest.fixture
def new_house() -> Callable[..., House]:
    """Make one: `new_house(seed, layers=2, kv_heads=2, slots=6)`."""

    def make(seed: int = 0, layers: int = 2, kv_heads: int = 2, slots: int = 6) -> House:
        random = torch.Generator().manual_seed(seed)
        decoder = Decoder(DecoderConfig(31, 32, 40, layers, 4, kv_heads, CAPACITY)).eval()
        decoder.requires_grad_(requires_grad=False)
        for weight in decoder.parameters():
            if weight.dim() == 2:
                weight.copy_(torch.randn(weight.shape, generator=random) * 1.5 / weight.shape[1] ** 0.5)
        shape = KVShape(layers, kv_heads, 8, CAPACITY, torch.float32, torch.device("cpu"))
        return House(decoder, KVPool(shape, slots * shape.nbytes), random)

    return make


@pytest.fixture
def house(new_house: Callable[..., House]) -> House:
    """One."""
    return new_house()
