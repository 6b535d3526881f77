"""EngineCore: all that one device computes with: a model's runner, its scheduler and its session cache.

Knows how they are put together; no queue and no thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from stillframe.engine.answers import ChunkAnswers
from stillframe.engine.history import HistoryManager
from stillframe.engine.kv_slots import DEFAULT_SESSIONS
from stillframe.engine.observation import FrameReporter
from stillframe.engine.scheduler import Scheduler
from stillframe.engine.session_cache import SessionCache
from stillframe.engine.settings import DEFAULT_DECODING, DecodingSettings
from stillframe.errors import ConfigError
from stillframe.models.base import PolicyModel
from stillframe.models.llama.layout import Mask
from stillframe.models.runner import ModelRunner
from stillframe.reuse.settings import ReuseSettings
from stillframe.stopwatch import Clock


@dataclass
class EngineCore:
    """For one thread."""

    runner: ModelRunner  # eager, until graphs are captured
    scheduler: Scheduler
    cache: SessionCache
    answers: ChunkAnswers
    clock: Clock
    reporter: FrameReporter | None = None  # to an observer; None: there is none

    @classmethod
    def of(
        cls,
        model: PolicyModel,
        reuse: ReuseSettings,
        clock: Clock,
        *,
        decoding: DecodingSettings = DEFAULT_DECODING,
        history: HistoryManager | None = None,
        default_sessions: int = DEFAULT_SESSIONS,
    ) -> EngineCore:
        """Allocate the KV pool: without a budget in the settings, for `default_sessions`.

        With `history`, sessions' answers attend to older frames.
        Raises ConfigError for settings or a budget that do not fit the checkpoint or the device.
        """
        _check_drafts(model, decoding)
        answers = ChunkAnswers(decoding.ensemble, decoding.execute)
        answers.info(model.info)
        scheduler = Scheduler(model, reuse, clock, decoding, history)
        cache = SessionCache(model, reuse, clock, default_sessions, history)
        return cls(ModelRunner.eager(model), scheduler, cache, answers, clock)

    @property
    def model(self) -> PolicyModel:
        """The runner's."""
        return self.runner.model


def _check_drafts(model: PolicyModel, decoding: DecodingSettings) -> None:
    """Refuse guesses that may stand where none is made: an action that is not decoded token by token has no draft."""
    if decoding.draft == "relaxed" and not (model.mask is Mask.CAUSAL and model.answer_rows > 1):
        raise ConfigError(
            f"decoding.draft is 'relaxed', and {model.info.name} decodes no tokens one by one: nothing is guessed; "
            "leave it out"
        )
