"""HistoryManager: lends each frame the KV of its session's older frames, and adds it to them once it is answered.

Knows one model's history and what a session keeps; not when an episode ends, and no reuse. For the engine's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from stillframe.domain import HistoryInfo, HistoryReport, Scored
from stillframe.errors import CheckpointError, ConfigError
from stillframe.history.checkpoint import HistoryConfig, HistoryWeights
from stillframe.history.info import enabled_info
from stillframe.history.pooling import Pooled
from stillframe.history.scorers import (
    AttentionMass,
    GateScorer,
    LinearScorer,
    Novelty,
    Recency,
    Scorer,
    Summaries,
    Utilities,
)
from stillframe.history.settings import UNTRAINED, HistorySettings
from stillframe.history.store import MIB, ChunkShape, History, RetentionPolicy
from stillframe.models.base import Decoded, PolicyModel
from stillframe.models.llama.history_attention import HistoryKV, image_tokens
from stillframe.models.llama.layout import Mask, TokenLayout
from stillframe.reuse.kv import FrameKV
from stillframe.stopwatch import Clock

LONGEST_S = 10.0  # between two frames, as a scorer sees it

SCORERS: dict[str, Callable[[HistoryWeights], Scorer]] = {
    "gate": lambda weights: GateScorer(weights.gate),
    "linear": lambda weights: LinearScorer(weights.linear),
    "novelty": lambda weights: Novelty(),  # noqa: ARG005 (needs no training)
    "attention": lambda weights: AttentionMass(),  # noqa: ARG005 (the same)
    "recency": lambda weights: Recency(),  # noqa: ARG005 (the same)
    "sampling": lambda weights: Recency(),  # noqa: ARG005 (the same; the store goes by places)
}


@dataclass
class SessionHistory:
    """One session's older frames, of this episode."""

    history: History
    states: list[Tensor]  # the scorer's, one for each place of a chunk in a frame
    came_s: float | None = None  # when the last frame came
    attention: dict[int, Tensor] = field(default_factory=dict)  # layer -> the last prompt's rows' weights on slots
    scored: Scored = field(default_factory=Scored)  # what the last frame changed

    def add(self, chunks: Pooled, utilities: Utilities) -> None:
        """Add a frame's chunks, with their utilities [chunks]."""
        now = self.history.add(chunks, utilities)
        self.scored = Scored(tuple(utilities.tolist()), now.kept, now.dropped)

    @property
    def report(self) -> HistoryReport:
        """What is held now, and what was dropped."""
        history, tally = self.history, self.history.counts
        slots = history.held * history.shape.slots
        return HistoryReport(history.held, slots, tally.kept, tally.dropped, history.nbytes, self.scored)


@dataclass(frozen=True)
class FinishedFrame:
    """An answered frame, and its KV."""

    session: SessionHistory
    layout: TokenLayout
    kv: FrameKV
    decoded: Decoded


class HistoryManager:
    """One model's history of older frames."""

    def __init__(
        self,
        model: PolicyModel,
        weights: HistoryWeights,
        settings: HistorySettings,
        clock: Clock,
        scorer: Scorer | None = None,
    ):
        """`scorer` None: the one that the settings name.

        Raises CheckpointError for another model's weights, ConfigError for settings that do not fit them and for
        models whose layout has no place for older frames.
        """
        if model.info.chunk_horizon != 1:
            raise ConfigError(
                f"history.enabled: {model.info.name} answers with {model.info.chunk_horizon} actions at once, and only "
                "policies that say one action, token after token, can look at older frames; set it to false"
            )
        if model.mask is not Mask.CAUSAL:
            raise ConfigError(
                f"history.enabled: in {model.info.name} pictures attend to the text, which looks at older frames: "
                "their keys and values could not be kept as the frame's alone; set it to false"
            )
        sizes, config = model.decoder.config, weights.config
        if (config.layers, config.kv_heads, config.head_dim) != (
            sizes.num_hidden_layers,
            sizes.num_key_value_heads,
            sizes.head_dim,
        ):
            raise CheckpointError("memory.json is of another decoder's sizes; put the file back that training wrote")
        self._decoder, self._clock = model.decoder, clock
        self._taps, self._pooling = config.taps, weights.pooling.to(model.dtype)
        self._scorer = SCORERS[settings.gate](weights) if scorer is None else scorer
        tokens = settings.chunk_tokens or config.chunk_tokens
        self._said = len(model.info.action_names)  # tokens of an action; in a prefill all but the last have rows
        image = model.fixed_rows - 1 - self._said
        if image % tokens:
            raise ConfigError(f"history.chunk_tokens is {tokens}; expected a divisor of a frame's {image} image tokens")
        self._shape = ChunkShape(
            config.layers, config.kv_heads, config.head_dim, tokens, config.slots, model.dtype, model.device
        )
        budget = None if settings.budget_mib is None else int(settings.budget_mib * MIB)
        self._rules = RetentionPolicy(
            budget, image // tokens, settings.window_frames, settings.threshold, settings.decay, settings.evenly
        )
        self._rules.capacity(self._shape.nbytes)
        self.info: HistoryInfo = enabled_info(settings, weights, self._shape, self._rules)

    def begin(self) -> SessionHistory:
        """The history of a new episode."""
        return SessionHistory(History(self._shape, self._rules), [self._scorer.begin()] * self._rules.chunks_per_frame)

    def lend(self, session: SessionHistory, layout: TokenLayout) -> HistoryKV | None:
        """The older frames that a frame attends to; None where nothing is kept yet."""
        session.attention = {}
        columns = session.history.columns()
        if columns is None:
            return None
        return HistoryKV.of(
            self._decoder, columns, layout, session.attention.__setitem__ if self._scorer.needs_attention else None
        )

    def update(self, finished: Sequence[FinishedFrame]) -> None:
        """Add answered frames to their sessions: pool, score, keep the chunks of most utility."""
        if not finished:
            return
        pooled = [self._pooled(one) for one in finished]
        extras = torch.stack([self._extras(one) for one in finished])
        worth = np.zeros((len(finished), self._rules.chunks_per_frame))
        for chunk in range(self._rules.chunks_per_frame):
            summaries = Summaries.of(pooled, chunk, self._taps, extras)
            states = [one.session.states[chunk] for one in finished]
            worth[:, chunk], states = self._scorer.score(summaries, states)
            for one, state in zip(finished, states, strict=True):
                one.session.states[chunk] = state
        for one, chunks, utilities in zip(finished, pooled, worth, strict=True):
            self._update_utilities(one.session)
            one.session.add(chunks, utilities)
            one.session.came_s = self._clock()

    def _pooled(self, one: FinishedFrame) -> Pooled:
        keys, values = image_tokens(self._decoder, one.kv, one.layout)
        return self._pooling.frame(keys, values, self._shape.tokens)

    def _extras(self, one: FinishedFrame) -> Tensor:
        """The frame's action, and the time since the frame before it, as one row [action_dim + 1]."""
        since_s = 0.0 if one.session.came_s is None else min(LONGEST_S, self._clock() - one.session.came_s)
        return torch.tensor([*one.decoded.normalised[0], since_s], dtype=torch.float32, device=one.kv.device)

    def _update_utilities(self, session: SessionHistory) -> None:
        """Let the scorer revise held chunks' utilities by the attention that the answer paid them."""
        if session.attention:
            # Of each layer [heads, slots]: the row that predicts the first token.
            rows = [weights[:, -self._said] for weights in session.attention.values()]
            weights = torch.stack(rows).amax(dim=(0, 1))  # [slots]: of any layer and head
            masses = weights.view(-1, self._shape.slots).sum(-1).double().cpu().numpy()
            session.history.set_utilities(self._scorer.updated(session.history.utilities, masses))


def untrained_weights(model: PolicyModel, settings: HistorySettings) -> HistoryWeights:
    """Untrained weights of the model's sizes. Raises ConfigError for a scorer that needs training."""
    if settings.gate not in UNTRAINED:
        raise ConfigError(
            f"history.gate is {settings.gate!r}, which has to be trained, and the checkpoint is not: with "
            f"history.force choose one of {', '.join(UNTRAINED)}"
        )
    sizes, action = model.decoder.config, len(model.info.action_names)
    config = HistoryConfig(
        layers=sizes.num_hidden_layers,
        kv_heads=sizes.num_key_value_heads,
        head_dim=sizes.head_dim,
        chunk_tokens=model.fixed_rows - 1 - action,
        slots=1,  # untrained slots of a chunk would all hold the same mean
        taps=(sizes.num_hidden_layers // 2,),
        extras=action + 1,
        hidden=1,  # of a gate that is not used
    )
    return HistoryWeights(config, trained=False).to(model.device).eval().requires_grad_(requires_grad=False)
