"""EngineCore: all that one device computes with: a model's runner, its scheduler and its session cache.

Knows how they are put together; no queue and no thread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stillframe.domain import DraftMode, PolicyInfo
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
    draft: DraftMode  # how guesses of an action's tokens are verified; off: also where none are made
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
        draft = _draft_mode(model, decoding)
        answers = ChunkAnswers(decoding.ensemble, decoding.execute)
        answers.info(model.info)
        scheduler = Scheduler(model, reuse, clock, decoding, history)
        cache = SessionCache(model, reuse, clock, default_sessions, history)
        return cls(ModelRunner.eager(model), scheduler, cache, answers, clock, draft)

    @property
    def model(self) -> PolicyModel:
        """The runner's."""
        return self.runner.model

    def info(self, policy: PolicyInfo) -> PolicyInfo:
        """The policy's contract, as clients see it."""
        return replace(self.answers.info(policy), draft=self.draft)


def _draft_mode(model: PolicyModel, decoding: DecodingSettings) -> DraftMode:
    """How guesses are verified: as configured; off where an action is not decoded token by token, so that none is made.

    Raises ConfigError for guesses that may stand there.
    """
    if model.mask is Mask.CAUSAL and model.answer_rows > 1:
        return decoding.draft
    if decoding.draft == "relaxed":
        raise ConfigError(
            f"decoding.draft is 'relaxed', and {model.info.name} decodes no tokens one by one: nothing is guessed; "
            "leave it out"
        )
    return "off"
