"""ChunkAnswers: what is answered of a chunk: all of it, or this step's action by a session's last chunks.

Knows frames and their sessions; not how a chunk was computed. What the gate for actions looks at is the whole chunk;
drift is that of the actions that are to be played.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stillframe.domain import ActionChunk, PolicyInfo, RtcInfo
from stillframe.engine.ensemble import AdaptiveEnsemble
from stillframe.engine.session_state import ScheduledFrame
from stillframe.errors import ConfigError

ONE_ACTION = "decoding.ensemble answers one action at a time: there is no chunk to go on with"


@dataclass(frozen=True)
class ChunkAnswers:
    """By a deployment's settings."""

    ensemble: int = 0  # chunks that have a say; 0: every chunk is answered whole
    execute: int = 0  # actions that a robot is advised to play of each; 0: half of them

    def info(self, policy: PolicyInfo) -> PolicyInfo:
        """The policy's contract, as clients see it. Raises ConfigError for more actions to play than there are."""
        if self.ensemble:
            policy = replace(policy, chunk_horizon=1, rtc=RtcInfo(why=ONE_ACTION))
        if self.execute > policy.chunk_horizon:
            said = f"decoding.execute is {self.execute}; {policy.name} answers {policy.chunk_horizon} actions at once"
            why = ", as decoding.ensemble has it" if self.ensemble else ""
            raise ConfigError(f"{said}{why}: expected 0 to {policy.chunk_horizon}")
        return replace(policy, execute=self.execute) if self.execute else policy

    def drift(self, by_action: Sequence[float]) -> float:
        """How far an answer has drifted, of the drift of each action: the worst that a robot is advised to play.

        The worst of all where it is not told how many, or where each has a say in later steps.
        """
        return max(by_action if self.ensemble or not self.execute else by_action[: self.execute])

    def answer(self, frame: ScheduledFrame, chunk: ActionChunk) -> ActionChunk:
        """What is answered. A stateless frame has no chunks before it: of its own the first action."""
        if not self.ensemble:
            return chunk
        action, session = chunk.actions[0], frame.session
        if session is not None:
            session.ensemble = session.ensemble or AdaptiveEnsemble(self.ensemble)
            action = session.ensemble.add(session.ref.seq, chunk.actions)
        return replace(chunk, actions=action[None])
