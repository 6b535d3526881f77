"""Two actors: a policy in this process, and a daemon at a URL. Both keep a trace of every frame.

Knows configuration and client; no episodes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.daemon.config import DaemonConfig
from stillframe.daemon.serve import open_history, open_model
from stillframe.domain import HistoryReport, PolicyInfo, ReuseMode, Step
from stillframe.engine.history import HistoryManager
from stillframe.engine.local import LocalPolicy
from stillframe.engine.settings import DEFAULT_DECODING, DecodingSettings
from stillframe.errors import ConfigError, StillframeError
from stillframe.models.base import PolicyModel
from stillframe.reuse.settings import ReuseSettings
from stillframe.stopwatch import Clock
from stillframe_client import ActionReply, PolicyClient, PolicyError
from stillframe_client.sim.gl import NoOpenGLError
from stillframe_lab.evaluation.macs import history_macs, policy_macs
from stillframe_lab.evaluation.trace import AnsweredFrame, Trace

TIMEOUT_S = 60.0
Action = NDArray[np.float64]  # [7]


class LocalActor:
    """A model in this process, refreshed between frames as in a daemon.

    Where no refresh measures drift (modes without one, slack switched off), a second, dense policy answers every
    `measure_every`-th delta frame too (0: never): that neither counts as latency nor changes later answers.
    """

    def __init__(
        self,
        model: PolicyModel,
        reuse: ReuseSettings,
        measure_every: int = 1,
        clock: Clock = time.perf_counter,
        decoding: DecodingSettings = DEFAULT_DECODING,
        recalling: HistoryManager | None = None,
    ):
        self.trace = Trace()
        self.cameras = model.info.cameras
        self.policy = LocalPolicy(model, reuse, clock, decoding, recalling)
        self._model, self._refreshes = model, reuse.slack and reuse.mode == "adaptive"
        self._measure_every, self._deltas = measure_every, 0

    def __call__(self, observed: Mapping[str, Any]) -> Action:
        """The action due now."""
        self._observed, self._action = observed, self.policy(observed)
        self.trace.frames.append(self._frame(self.policy.last))
        return self._action

    @property
    def chunk(self) -> Action:
        """All actions [horizon, 7] of the last answer. Raises RuntimeError before the first."""
        return self.policy.last.chunk.actions

    def reset(self) -> None:
        """Begin an episode."""
        self.policy.reset()

    def rest(self) -> None:
        """Refresh if the mode does, and measure the drift of the last answer."""
        if self._refreshes:
            self._refresh()
        elif self.trace.frames[-1].keyframe_reason is None:
            self._deltas += 1
            if self._measure_every and self._deltas % self._measure_every == 0:
                self.trace.drifts.append(drift(self._action, self._dense(self._observed), self.policy.info))

    def _refresh(self) -> None:
        report = self.policy.refresh()
        if report is not None:
            self.trace.rests_ms.append(report.duration_ms)
        if report is not None and report.drift is not None:
            self.trace.drifts.append(report.drift)

    @cached_property
    def _dense(self) -> LocalPolicy:
        """The dense policy, which reuses nothing."""
        return LocalPolicy(self._model)

    def _frame(self, step: Step) -> AnsweredFrame:
        cache, config = step.report.cache, self._model.decoder.config
        tokens, passes = step.chunk.tokens.size, step.report.passes
        macs = policy_macs(self._model, self.policy.plan, tokens, passes)
        history = step.report.history
        if history is not None:
            text = cache.total_tokens - self._model.fixed_rows + tokens
            macs += history_macs(config, history.slots, text, tokens, passes)
        return AnsweredFrame(
            mode=cache.mode,
            keyframe_reason=cache.keyframe_reason,
            reuse_ratio=cache.reuse_ratio,
            reused_tokens=cache.reused_tokens,
            total_tokens=cache.total_tokens,
            stages_ms=step.report.stages_ms,
            gmacs=macs / 1e9,
            passes=passes,
            history=history,
        )


class ServerActor:
    """A daemon, asked in `mode` (None: as configured). It refreshes by itself, and does not report its drift."""

    def __init__(self, client: PolicyClient, mode: ReuseMode | None = None):
        self.trace = Trace()
        self._client, self._mode = client, mode
        self.chunk: Action = np.empty((0, 7))  # all actions of the last answer

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras of the daemon's policy. Raises PolicyError."""
        return self._client.info().cameras

    @cached_property
    def _reads_state(self) -> bool:
        """Whether the policy reads the robot's state."""
        return self._client.info().state is not None

    def __call__(self, observed: Mapping[str, Any]) -> Action:
        """The action due now; pictures are sent raw, so that it is bit-equal."""
        images = observed["images"]
        pictures = images if len(images) > 1 else next(iter(images.values()))
        state = observed["state"] if "state" in observed and self._reads_state else None
        reply = self._client.act_with_report(pictures, observed["instruction"], reuse=self._mode, state=state)
        self.trace.frames.append(frame_of(reply))
        self.chunk = reply.actions
        return reply.action

    def reset(self) -> None:
        """Begin an episode of the client's session."""
        self._client.reset()

    def rest(self) -> None:
        """Nothing: the daemon refreshes when it is idle."""


@contextmanager
def open_local_actor(config: DaemonConfig) -> Iterator[LocalActor]:
    """Load the checkpoint in this process, with the configured reuse and history."""
    model = open_model(config)
    yield LocalActor(model, config.reuse, decoding=config.decoding, recalling=open_history(config, model))


@contextmanager
def open_server_actor(url: str, mode: ReuseMode | None = None) -> Iterator[ServerActor]:
    """Connect to a running daemon. Raises ConfigError for an invalid URL."""
    with _client(url) as client:
        yield ServerActor(client, mode)


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn errors of the client and the simulator into StillframeError, which the command prints in a line."""
    try:
        yield
    except (PolicyError, NoOpenGLError) as error:
        raise StillframeError(str(error)) from error


def drift(action: Action, dense: Action, info: PolicyInfo) -> float:
    """|action - dense| of the worst dimension, normalised: q01 to q99 are 2 wide, unscaled dimensions as they are."""
    scale = info.norm_stats[info.default_unnorm_key or next(iter(info.norm_stats))]
    width = np.subtract(scale["q99"], scale["q01"])
    units = np.where(np.asarray(scale["mask"]) & (width > 0), width / 2, 1.0)
    return float(np.max(np.abs(action - dense) / units))


def frame_of(reply: ActionReply) -> AnsweredFrame:
    """The frame that a reply reports; without a cache report little is known of it."""
    stages_ms = {name: ms for name, ms in reply.timing_ms.items() if name != "total"}
    cache = reply.cache
    if cache is None:
        return AnsweredFrame("unknown", "unknown", 0.0, 0, 0, stages_ms)
    counts = (cache.reuse_ratio, cache.reused_tokens, cache.total_tokens)
    return AnsweredFrame(cache.mode, cache.reason, *counts, stages_ms, history=_history_of(reply))


def _history_of(reply: ActionReply) -> HistoryReport | None:
    """The history that a reply reports; the number of slots is not in it."""
    told = reply.history
    if told is None or not told.enabled:
        return None
    return HistoryReport(told.held, slots=0, kept=told.kept, dropped=told.dropped, nbytes=told.kv_bytes)


def _client(url: str) -> PolicyClient:
    try:
        return PolicyClient(url, timeout_s=TIMEOUT_S)
    except ValueError as error:
        raise ConfigError(f"--server: {error}") from error
