"""A policy that records the answered frames of another one; web and engine do not know.

Knows domain.Policy on both sides. Frames without a session belong to no episode and are not recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future

from stillframe.domain import KVUsage, Observation, Policy, PolicyInfo, SessionRef, Step
from stillframe.recording.frame import RecordedFrame
from stillframe.recording.recorder import Recorder


class RecordingPolicy:
    """Implements domain.Policy by another policy, and records its answers."""

    def __init__(self, policy: Policy, recorder: Recorder, clock: Callable[[], float] = time.time):
        self._policy = policy
        self._recorder = recorder
        self._clock = clock  # Unix time

    @property
    def info(self) -> PolicyInfo:
        """The model card; constant."""
        return self._policy.info

    @property
    def ready(self) -> bool:
        """Warm, and not stopping."""
        return self._policy.ready

    @property
    def usage(self) -> KVUsage:
        """How full the KV pool is now."""
        return self._policy.usage

    @property
    def busy_s(self) -> float:
        """How long the device has been computing the current frame."""
        return self._policy.busy_s

    def submit(
        self, observation: Observation, max_age_ms: float, session: SessionRef | None = None, *, share: str = ""
    ) -> Future[Step]:
        """Queue one frame; see domain.Policy. It is recorded when it is answered."""
        submitted_s = self._clock()
        answer = self._policy.submit(observation, max_age_ms, session, share=share)
        if session is not None:
            seen = [observation]  # popped when recorded: a kept answer keeps no pictures alive
            answer.add_done_callback(lambda done: self._keep(session, submitted_s, seen.pop(), done))
        else:
            answer.add_done_callback(self._pass_by)
        return answer

    def forget(self, session_id: str) -> None:
        """Free a session's state; see domain.Policy. Its recording stays."""
        self._policy.forget(session_id)

    def close(self) -> None:
        """Close the policy, then write what is queued for the disk."""
        self._policy.close()
        self._recorder.close()

    def _pass_by(self, answer: Future[Step]) -> None:
        if _answered(answer):
            self._recorder.pass_by()

    def _keep(self, session: SessionRef, submitted_s: float, observation: Observation, answer: Future[Step]) -> None:
        if _answered(answer):
            frame, info = RecordedFrame(submitted_s, observation, answer.result()), self.info
            self._recorder.keep(
                session.id,
                info.name,
                frame,
                serial=session.serial,
                action_names=info.action_names,
                state_names=() if info.state is None else info.state.names,
            )


def _answered(answer: Future[Step]) -> bool:
    return not answer.cancelled() and answer.exception() is None
