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
from stillframe.domain import HistoryReport, Observation, PolicyInfo, ReuseMode, SessionRef, Step
from stillframe.engine.history import HistoryManager
from stillframe.engine.local import ROBOT, LocalPolicy
from stillframe.engine.requests import FrameRequest
from stillframe.engine.settings import DEFAULT_DECODING, DecodingSettings
from stillframe.engine.step import step
from stillframe.errors import ConfigError, StillframeError
from stillframe.models.base import PolicyModel
from stillframe.reuse.settings import ReuseSettings
from stillframe.stopwatch import Clock
from stillframe_client import ActionReply, ModelInfo, PolicyClient, PolicyError
from stillframe_client.sim.gl import NoOpenGLError
from stillframe_lab.evaluation.macs import history_macs, policy_macs
from stillframe_lab.evaluation.trace import AnsweredFrame, Trace

TIMEOUT_S = 60.0
Action = NDArray[np.float64]  # [7]
Actions = NDArray[np.float64]  # [horizon, 7]


class LocalActor:
    """A model in this process, refreshed between frames as in a daemon.

    Where not every refresh measures drift (modes without one, slack off or auto), a second, dense policy answers every
    `measure_every`-th delta or pruned frame too (0: never), with the same chance: that neither counts as latency nor
    changes later answers. The drift of an answer is that of its worst action, out of those that are played.
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
        self._model, self._slack = model, reuse.slack if reuse.mode == "adaptive" else False
        self._measure_every, self._deltas = measure_every, 0
        self.horizon = self.policy.info.chunk_horizon
        self.execute = self.policy.info.execute or self.horizon

    def __call__(self, observed: Mapping[str, Any]) -> Action:
        """The action due now."""
        self._observed, action = observed, self.policy(observed)
        self.trace.frames.append(self._frame(self.policy.last))
        return action

    @property
    def chunk(self) -> Actions:
        """All actions [horizon, 7] of the last answer. Raises RuntimeError before the first."""
        return self.policy.last.chunk.actions

    def reset(self) -> None:
        """Begin an episode."""
        self.policy.reset()

    def rest(self, executed: int | None = None) -> None:
        """Audit, refresh if the mode does, and measure the last answer's drift: of its first `executed` actions."""
        self.policy.audit()
        if self._slack:
            self._refresh(executed)
        if self._slack is not True and self.trace.frames[-1].can_drift:
            self._deltas += 1
            if self._measure_every and self._deltas % self._measure_every == 0:
                dense = self._dense(self._observed, self.policy.last)
                self.trace.drifts.append(drift(self.chunk[:executed], dense[:executed], self.policy.info))

    def _refresh(self, executed: int | None) -> None:
        report = self.policy.refresh()
        if report is not None:
            self.trace.rests_ms.append(report.duration_ms)
        if report is not None and report.drift is not None and self._slack is True:
            self.trace.drifts.append(max(report.by_action[:executed]))

    @cached_property
    def _dense(self) -> DensePolicy:
        return DensePolicy(self._model)

    def _frame(self, step: Step) -> AnsweredFrame:
        cache, config = step.report.cache, self._model.decoder.config
        tokens, passes = step.chunk.tokens.size, step.report.passes
        macs = policy_macs(self._model, self.policy.plan, tokens, passes, self.policy.pruned)
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
            pruned_ratio=cache.pruned_ratio,
        )


class ServerActor:
    """A daemon, asked in `mode` (None: as configured). It refreshes by itself, and does not report its drift.

    Answers are scaled by the statistics `unnorm_key`; None: by the daemon's default. What it finds odd about frames and
    takes as it is stays in `warnings`.
    """

    def __init__(self, client: PolicyClient, mode: ReuseMode | None = None, unnorm_key: str | None = None):
        self.trace = Trace()
        self.warnings: set[str] = set()
        self._client, self._mode, self._unnorm_key = client, mode, unnorm_key
        self.chunk: Actions = np.empty((0, 7))  # all actions of the last answer

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras of the daemon's policy. Raises PolicyError."""
        return self._info.cameras

    @property
    def horizon(self) -> int:
        """Actions in a chunk of the daemon's policy. Raises PolicyError."""
        return self._info.chunk_horizon

    @property
    def execute(self) -> int:
        """Actions of each chunk that the daemon advises to play. Raises PolicyError."""
        return self._info.execute

    @cached_property
    def _info(self) -> ModelInfo:
        return self._client.info()

    def __call__(self, observed: Mapping[str, Any]) -> Action:
        """The action due now; pictures are sent raw, so that it is bit-equal."""
        images = observed["images"]
        pictures = images if len(images) > 1 else next(iter(images.values()))
        state = observed["state"] if "state" in observed and self._info.state is not None else None
        reply = self._client.act_with_report(
            pictures,
            observed["instruction"],
            reuse=self._mode,
            state=state,
            unnorm_key=self._unnorm_key,
            masks=self._masks(observed),
        )
        self.warnings.update(reply.warnings)
        self.trace.frames.append(frame_of(reply))
        self.chunk = reply.actions
        return reply.action

    def _masks(self, observed: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """By the policy's names: of one camera whatever the simulator calls it."""
        masks = observed.get("masks")
        return dict(zip(self.cameras, masks.values(), strict=True)) if masks and len(masks) == 1 else masks

    def reset(self) -> None:
        """Begin an episode of the client's session."""
        self._client.reset()

    def rest(self, executed: int | None = None) -> None:
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


class DensePolicy:
    """Answers frames whole, each with the chance that another policy's answer to it had."""

    def __init__(self, model: PolicyModel):
        self._policy = LocalPolicy(model)

    def __call__(self, observed: Mapping[str, Any], answered: Step) -> Actions:
        """All actions [horizon, 7] for the frame that `answered` is another policy's answer to."""
        place = SessionRef(f"{ROBOT}-0", answered.report.cache.epoch, answered.report.cache.seq)
        seen = Observation(observed["images"], observed["instruction"], state=observed.get("state"))
        (answer,) = step(self._policy.batch.core, [FrameRequest(seen, place)])
        if not isinstance(answer, Step):
            raise answer
        return answer.chunk.actions


def drift(actions: Actions, dense: Actions, info: PolicyInfo) -> float:
    """|actions - dense| of the worst number, normalised: q01 to q99 are 2 wide, unscaled dimensions as they are."""
    scale = info.norm_stats[info.default_unnorm_key or next(iter(info.norm_stats))]
    width = np.subtract(scale["q99"], scale["q01"])
    units = np.where(np.asarray(scale["mask"]) & (width > 0), width / 2, 1.0)
    return float(np.max(np.abs(actions - dense) / units))


def frame_of(reply: ActionReply) -> AnsweredFrame:
    """The frame that a reply reports; without a cache report little is known of it."""
    stages_ms = {name: ms for name, ms in reply.timing_ms.items() if name != "total"}
    cache = reply.cache
    if cache is None:
        return AnsweredFrame("unknown", "unknown", 0.0, 0, 0, stages_ms)
    counts = (cache.reuse_ratio, cache.reused_tokens, cache.total_tokens)
    history = _history_of(reply)
    return AnsweredFrame(cache.mode, cache.reason, *counts, stages_ms, history=history, pruned_ratio=cache.pruned_ratio)


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
