"""The report of every answered frame, and the figures made of them: reuse, keyframes, drift, times.

Knows reports as plain numbers; neither the simulator nor where the policy runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stillframe.domain import HistoryReport, KeyframeReason

DRIFT_SHARES = (50, 90, 99)
PLANNING = ("plan", "keep")  # stages of a step that are there for reuse alone
DECODER = ("prefill", "decode")


@dataclass(frozen=True)
class AnsweredFrame:
    """The policy's report of one frame."""

    mode: str
    keyframe_reason: str | None  # None: a delta frame
    reuse_ratio: float
    reused_tokens: int  # in the last layer
    total_tokens: int
    stages_ms: Mapping[str, float]
    gmacs: float | None = None  # multiply-adds of the decoder, billions; None: not reported
    passes: int | None = None  # of the decoder for the action; None: not reported
    history: HistoryReport | None = None  # what is held of older frames; None: nothing, or not reported
    pruned_ratio: float = 0.0  # token-layers left out, none of which was reused

    @property
    def can_drift(self) -> bool:
        """Whether its answer need not be a dense pass's."""
        return self.keyframe_reason in (None, KeyframeReason.PRUNED)


@dataclass
class Trace:
    """Frames, refreshes and drifts, as an evaluation proceeds."""

    frames: list[AnsweredFrame] = field(default_factory=list)
    rests_ms: list[float] = field(default_factory=list)  # dense passes in the slack after an answer
    drifts: list[float] = field(default_factory=list)  # of the delta frames that were measured, normalised units
    asked: list[bool] = field(default_factory=list)  # of each step of the robot: whether its action was asked for

    def clear(self) -> None:
        """Drop what was recorded so far."""
        for part in (self.frames, self.rests_ms, self.drifts, self.asked):
            part.clear()

    def taken(self) -> Trace:
        """Return what was recorded so far and drop it here."""
        copy = Trace([*self.frames], [*self.rests_ms], [*self.drifts], [*self.asked])
        self.clear()
        return copy

    @classmethod
    def joined(cls, traces: Iterable[Trace]) -> Trace:
        """Several evaluations as one."""
        whole = cls()
        for trace in traces:
            whole.frames += trace.frames
            whole.rests_ms += trace.rests_ms
            whole.drifts += trace.drifts
            whole.asked += trace.asked
        return whole


def figures(trace: Trace, act_ms: Sequence[float]) -> dict[str, Any]:
    """What an evaluation reports of its frames; `act_ms` has one latency for each, or a ValueError is raised.

    reuse_ratio is that of all token-layers of all episodes, keyframes included; pruned_ratio likewise. Drift is that of
    the measured delta and pruned frames: another keyframe has none. A figure that is not known is null.
    """
    frames = trace.frames
    latencies = list(zip(frames, act_ms, strict=True))
    deltas = [frame for frame in frames if frame.keyframe_reason is None]
    reasons = Counter(frame.keyframe_reason for frame in frames if frame.keyframe_reason is not None)
    return {
        "reuse": "+".join(sorted({frame.mode for frame in frames})),
        "frames": len(frames),
        "reuse_ratio": reuse_ratio(frames),
        **_pruned(frames),
        "keyframes": sum(reasons.values()),
        "keyframe_reasons": dict(sorted(reasons.items())),
        "reused_tokens_delta": _mean([frame.reused_tokens for frame in deltas]),
        "keyframe_latency_ms": percentiles([ms for frame, ms in latencies if frame.keyframe_reason is not None]),
        "delta_latency_ms": percentiles([ms for frame, ms in latencies if frame.keyframe_reason is None]),
        "llm_prefill_ms": percentiles(_stage(frames, "prefill")),
        "llm_prefill_delta_ms": percentiles(_stage(deltas, "prefill")),
        "planning_ms": planning(frames),
        "decoder_gmacs": _mean([frame.gmacs for frame in frames]),
        "decoder_gmacs_delta": _mean([frame.gmacs for frame in deltas]),
        "passes": _mean([frame.passes for frame in frames]),
        "drift": _drift(trace.drifts, drifting=sum(frame.can_drift for frame in frames)),
        "decoder_ms": percentiles([sum(frame.stages_ms.get(name, 0.0) for name in DECODER) for frame in frames]),
        **_history([frame.history for frame in frames if frame.history is not None]),
        "slack": {"rests": len(trace.rests_ms), "p50_ms": percentiles(trace.rests_ms)["p50"]},
    }


def reuse_ratio(frames: Sequence[AnsweredFrame]) -> float | None:
    """Token-layers reused / token-layers, over all frames."""
    total = sum(frame.total_tokens for frame in frames)
    return sum(frame.reuse_ratio * frame.total_tokens for frame in frames) / total if total else None


def percentiles(values: Sequence[float], shares: Sequence[int] = (50, 99)) -> dict[str, float | None]:
    """{"p50": ..., "p99": ...}; null where there is nothing to take them of."""
    return {f"p{share}": float(np.percentile(values, share)) if len(values) else None for share in shares}


def planning(frames: Sequence[AnsweredFrame]) -> dict[str, float | None]:
    """Time of comparing, choosing and committing tokens, and the median's share of the median step."""
    spent_ms = [sum(frame.stages_ms.get(name, 0.0) for name in PLANNING) for frame in frames]
    times = percentiles(spent_ms)
    part_ms, step_ms = times["p50"], percentiles([sum(frame.stages_ms.values()) for frame in frames])["p50"]
    return {**times, "share": part_ms / step_ms if part_ms is not None and step_ms else None}


def _pruned(frames: Sequence[AnsweredFrame]) -> dict[str, float]:
    """The share of all token-layers that was pruned; nothing where no frame was."""
    pruned = sum(frame.pruned_ratio * frame.total_tokens for frame in frames)
    return {"pruned_ratio": pruned / sum(frame.total_tokens for frame in frames)} if pruned else {}


def _drift(drifts: Sequence[float], drifting: int) -> dict[str, float | None]:
    """Drift percentiles: 0 if no answer could drift, null if none of those that could was measured."""
    values = drifts if drifting else [0.0]
    return {**percentiles(values, DRIFT_SHARES), "max": max(values, default=None), "frames": len(drifts)}


def _history(reports: Sequence[HistoryReport]) -> dict[str, Any]:
    """Of one session's history: most bytes, bytes at an episode's end, and chunks held, kept and dropped.

    Chunks: held at most at one time; of all episodes together, kept when the window had gone past them, and dropped.
    """
    lasts = zip(reports, [*reports[1:], None], strict=False)  # each with its successor
    ends = [one for one, after in lasts if after is None or after.came <= one.came]
    chunks = {
        "held": max((one.held for one in reports), default=0),
        "kept": sum(one.kept for one in ends),
        "dropped": sum(one.dropped for one in ends),
    }
    return {
        "history_mib": max((one.nbytes for one in reports), default=0) / 2**20,
        "history_end_mib": sum(one.nbytes for one in ends) / max(1, len(ends)) / 2**20,
        "chunks": chunks,
    }


def _stage(frames: Sequence[AnsweredFrame], name: str) -> list[float]:
    return [frame.stages_ms[name] for frame in frames if name in frame.stages_ms]


def _mean(values: Sequence[float | None]) -> float | None:
    """None if any is not known, or there are none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
