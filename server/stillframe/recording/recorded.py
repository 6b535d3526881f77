"""A policy whose answered frames are kept: web and engine do not know.

Knows domain.Policy on both sides. Frames without a session belong to no episode and are not kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future

from stillframe.domain import KVUsage, Observation, Policy, PolicyInfo, SessionRef, Step
from stillframe.recording.frame import RecordedFrame
from stillframe.recording.recorder import Recorder


class Recorded:
    """Implements domain.Policy around another one."""

    def __init__(self, policy: Policy, recorder: Recorder, clock: Callable[[], float] = time.time):
        self._policy = policy
        self._recorder = recorder
        self._clock = clock  # Unix time

    @property
    def info(self) -> PolicyInfo:
        """The contract; constant."""
        return self._policy.info

    @property
    def ready(self) -> bool:
        """Warm, and not stopping."""
        return self._policy.ready

    @property
    def usage(self) -> KVUsage:
        """How full the KV pool is now."""
        return self._policy.usage

    def submit(self, observation: Observation, max_age_ms: float, session: SessionRef | None = None) -> Future[Step]:
        """Queue one frame; see domain.Policy. When its answer is there, it is kept."""
        submitted_s = self._clock()
        answer = self._policy.submit(observation, max_age_ms, session)
        if session is not None:
            answer.add_done_callback(lambda done: self._keep(session.id, submitted_s, observation, done))
        return answer

    def reset(self, session_id: str) -> int:
        """Begin the session's next episode; see domain.Policy."""
        return self._policy.reset(session_id)

    def close(self) -> None:
        """Answer what is queued, free the device, then write what was answered."""
        self._policy.close()
        self._recorder.close()

    def _keep(self, session: str, submitted_s: float, observation: Observation, answer: Future[Step]) -> None:
        if not answer.cancelled() and answer.exception() is None:
            frame = RecordedFrame(submitted_s, observation, answer.result())
            self._recorder.keep(session, self.info.name, frame)
