"""ChunkAnswers: what is answered of a chunk: all of it, or this step's action by a session's last chunks.

Knows frames and their sessions; not how a chunk was computed. What drift and the gate for actions look at is the chunk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stillframe.domain import ActionChunk, PolicyInfo
from stillframe.engine.ensemble import AdaptiveEnsemble
from stillframe.engine.session_state import ScheduledFrame


@dataclass(frozen=True)
class ChunkAnswers:
    """By a deployment's settings."""

    ensemble: int = 0  # chunks that have a say; 0: every chunk is answered whole

    def info(self, policy: PolicyInfo) -> PolicyInfo:
        """The policy's contract, as clients see it."""
        return replace(policy, chunk_horizon=1) if self.ensemble else policy

    def answer(self, frame: ScheduledFrame, chunk: ActionChunk) -> ActionChunk:
        """What is answered. A stateless frame has no chunks before it: of its own the first action."""
        if not self.ensemble:
            return chunk
        action, session = chunk.actions[0], frame.session
        if session is not None:
            session.ensemble = session.ensemble or AdaptiveEnsemble(self.ensemble)
            action = session.ensemble.add(session.ref.seq, chunk.actions)
        return replace(chunk, actions=action[None])
