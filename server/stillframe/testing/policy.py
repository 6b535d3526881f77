"""A policy that answers with what it saw, and the contract of one.

Knows the seam `domain.Policy`; no model and no torch.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.domain import (
    ActionChunk,
    CacheReport,
    CameraView,
    FrameObserver,
    FrameViews,
    KeyframeReason,
    KVUsage,
    Observation,
    PatchFate,
    PolicyInfo,
    RtcReport,
    SessionRef,
    StateInfo,
    Step,
    StepReport,
)

STATS = {"q01": [-0.05] * 6 + [0.0], "q99": [0.05] * 6 + [1.0], "mask": [True] * 6 + [False]}
INFO = PolicyInfo(
    name="echo",
    family="none",
    parameters=7,
    dtype="float32",
    device="cpu",
    cameras=("front",),
    image_size=(224, 224),
    action_names=("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"),
    gripper="1 = open, 0 = closed",
    chunk_horizon=1,
    norm_stats={"robot": STATS},
    default_unnorm_key="robot",
)
KV_BYTES, SLOTS, WAIT_S = 1000, 64, 60.0
PATCH_GRID = (4, 4)


def policy_info(**changes: Any) -> PolicyInfo:
    """Return the contract of a policy of one camera and single 7-DoF actions, with `changes` made to it."""
    return replace(INFO, **changes)


def state_info(*names: str, unit: str = "1", low: float = -1.0, high: float = 1.0) -> StateInfo:
    """Return the contract of a state of these numbers, for `policy_info(state=...)`: all of one unit and one range."""
    size = len(names)
    stats = {"low": [low] * size, "high": [high] * size, "mask": [True] * size}
    return StateInfo(names, (unit,) * size, dict.fromkeys(INFO.norm_stats, stats))


def cache_report(session: SessionRef | None) -> CacheReport:
    """What a frame is said to have reused: nothing without a session or at an episode's first, else a half."""
    if session is None:
        return CacheReport("off", KeyframeReason.STATELESS, 0.0, 0, 20, 0, 0)
    mode, epoch, seq = session.mode or "adaptive", session.epoch, session.seq
    if seq:
        return CacheReport(mode, None, 0.5, 10, 20, KV_BYTES, seq, epoch=epoch, seq=seq)
    reason = KeyframeReason.RESET if epoch else session.opening
    return CacheReport(mode, reason, 0.0, 0, 20, KV_BYTES, 0, epoch=epoch, seq=seq)


def rtc_report(session: SessionRef | None) -> RtcReport | None:
    """What a frame that asked for it is said to be held to: the frame before it; nothing in an episode's first."""
    if session is None or session.rtc is None:
        return None
    if not session.seq:
        return RtcReport(why="no-chunk")
    held = session.rtc.horizon or session.rtc.delay_steps
    return RtcReport(session.rtc.delay_steps, held - session.rtc.delay_steps, session.seq - 1)


def frame_views(observation: Observation, *, keyframe: bool) -> FrameViews:
    """The pictures as they came; of a delta frame's patches each row has another fate, from REUSED on."""
    fates = np.full(PATCH_GRID, PatchFate.CHANGED, np.uint8)
    if not keyframe:
        fates[:] = np.array(list(PatchFate), np.uint8)[:, None]
    return FrameViews(
        observation.instruction, {name: CameraView(picture, fates) for name, picture in observation.images.items()}
    )


@dataclass
class EchoPolicy:
    """Answers [1, 7] with (height, width, r, g, b of the first pixel, letters of the instruction, pictures).

    `error` is raised in place of an answer, `actions` [horizon, 7] are given in place of the echo. While `go_on` is
    clear, frames wait. What it was asked is kept: `seen`, `sessions`, `ages_ms`, `forgotten`.
    """

    info: PolicyInfo = INFO
    ready: bool = True
    error: Exception | None = None
    actions: NDArray[np.float64] | None = None
    seen: list[Observation] = field(default_factory=list)  # of the frames that were computed
    sessions: list[SessionRef | None] = field(default_factory=list)  # of the frames that were submitted
    ages_ms: list[float] = field(default_factory=list)  # how old each of these might get
    forgotten: list[str] = field(default_factory=list)  # ids of sessions
    busy_s: float = 0.0
    observer: FrameObserver | None = None  # told of sessions' frames
    started: threading.Event = field(default_factory=threading.Event)  # a frame is computed, or was
    go_on: threading.Event = field(default_factory=threading.Event)
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def __post_init__(self) -> None:
        self.go_on.set()

    @property
    def usage(self) -> KVUsage:
        """A slot for each session that is not forgotten."""
        sessions = len({session.id for session in self.sessions if session} - {*self.forgotten})
        return KVUsage(sessions * KV_BYTES, SLOTS * KV_BYTES, sessions, SLOTS)

    def submit(
        self,
        observation: Observation,
        max_age_ms: float,
        session: SessionRef | None = None,
        *,
        share: str = "",  # noqa: ARG002 -- the protocol's
    ) -> Future[Step]:
        """Answer on another thread, in order."""
        self.ages_ms.append(max_age_ms)
        self.sessions.append(session)
        return self.thread.submit(self.step, observation, session)

    def step(self, observation: Observation, session: SessionRef | None = None) -> Step:
        """Wait for `go_on`, then fail with `error` or answer."""
        self.seen.append(observation)
        self.started.set()
        self.go_on.wait(WAIT_S)
        if self.error is not None:
            raise self.error
        actions = self.echo(observation) if self.actions is None else self.actions
        chunk = ActionChunk(actions, observation.unnorm_key or self.info.default_unnorm_key or "")
        report = StepReport({"queue": 0.5, "prefill": 2.0}, 2, cache_report(session), rtc=rtc_report(session))
        step = Step(chunk, report)
        if self.observer is not None and session is not None:
            self._tell(self.observer, session, observation, step)
        return step

    def _tell(self, observer: FrameObserver, session: SessionRef, observation: Observation, step: Step) -> None:
        keyframe = step.report.cache.keyframe_reason is not None
        wanted = observer.wants_views(session)
        observer.answered(session, step, frame_views(observation, keyframe=keyframe) if wanted else None)

    def echo(self, observation: Observation) -> NDArray[np.float64]:
        """An action that tells what was seen, [1, 7]."""
        first = next(iter(observation.images.values()))
        words = len(observation.instruction)
        return np.array([[*first.shape[:2], *first[0, 0], words, len(observation.images)]], np.float64)

    def forget(self, session_id: str) -> None:
        """Note that it was asked to."""
        self.forgotten.append(session_id)

    def close(self) -> None:
        """Let what waits go on, and wait for it."""
        self.go_on.set()
        self.thread.shutdown()
