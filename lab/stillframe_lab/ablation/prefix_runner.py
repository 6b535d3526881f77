"""PrefixEveryStep: runs a flow policy as if its prefix were not kept within a frame: its pass comes before every step.

Knows how a chunk is drawn over a prefix; measures nothing. A mode of measurement: every pass over one prefix writes the
same keys and values to the bit, so the chunk is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from stillframe.errors import ConfigError
from stillframe.models.base import Decoded, PolicyModel, Prefilled
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import SequenceSlice
from stillframe.models.pi0.model import Pi0
from stillframe.models.runner import ModelRunner


@dataclass(frozen=True)
class RepeatableRunner(DecoderRunner):
    """A decoder, of whose passes the last can be run again."""

    last: list[SequenceSlice] = field(default_factory=list)

    def forward(self, sequences: Sequence[SequenceSlice]) -> list[Tensor]:
        """See DecoderRunner."""
        self.last[:] = sequences
        return super().forward(sequences)

    def repeat(self) -> None:
        """The last pass once more, into the same caches; its hooks have seen it."""
        super().forward([replace(own, hook=None) for own in self.last])


@dataclass(frozen=True)
class PrefixEveryStep(ModelRunner):
    """A pi0's or pi0.5's passes: as many over the prefix as there are steps from noise to a chunk."""

    model: Pi0
    decoder: RepeatableRunner

    @classmethod
    def of(cls, model: PolicyModel) -> PrefixEveryStep:
        """Raises ConfigError for a policy that draws nothing over a prefix."""
        return cls(pi0_of(model), RepeatableRunner(model.decoder))

    def act(self, prefilled: Sequence[Prefilled]) -> list[Decoded]:
        """As `Pi0.act` of chunks that are held to nothing; before each step but the first the prefix's pass again."""
        model, steps = self.model, self.model.config.flow.steps
        noise = torch.stack([model.noise(one.seed) for one in prefilled]).to(model.device)
        hooks = [one.expert_hook for one in prefilled]
        drawn = model.network.drawn(*model.expert_input(prefilled), noise, None, hooks)
        *_, chunks = self._between_passes(drawn)
        return [replace(one, passes=steps - 1) for one in model.decoded(prefilled, chunks)]

    def _between_passes(self, drawn: Iterator[Tensor]) -> Iterator[Tensor]:
        """What each step begins with, then the chunks, which take no pass."""
        for step, actions in enumerate(drawn):
            if 0 < step < self.model.config.flow.steps:
                self.decoder.repeat()
            yield actions


def pi0_of(model: PolicyModel) -> Pi0:
    """The model itself. Raises ConfigError for one of another family."""
    if not isinstance(model, Pi0):
        raise ConfigError(
            f"{model.info.name} is of family {model.info.family}, which draws no chunk over a prefix; "
            "expected a pi0 or pi0.5"
        )
    return model
