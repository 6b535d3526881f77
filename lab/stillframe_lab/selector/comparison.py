"""How much a selector reuses at equal drift, against distance and relevance: by replay of frames that it has not seen.

Knows the calibration's replay, which answers by any settings over the same keys and values; no training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from stillframe.engine.answers import ChunkAnswers
from stillframe.models.base import PolicyModel
from stillframe.recording.frame import RecordedFrame
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe.tools.calibration.candidates import CandidateResult
from stillframe.tools.calibration.replay import ALL_ACTIONS, EpisodeReplay

ALLOWED = (0.01, 0.02, 0.03, 0.05, 0.08)  # drift, as a selector estimates it
THRESHOLDS = (
    (0.05, 0.08),
    (0.05, 0.16),
    (0.1, 0.08),
    (0.1, 0.16),
    (0.1, 0.32),
    (0.2, 0.32),
)  # distance, share of tokens
SELECTOR, RELEVANCE = "selector", "relevance and distance"
DEPLOYED = "as configured"


@dataclass(frozen=True)
class Point:
    """One setting's figures over all frames."""

    way: str
    setting: str
    reuse: float  # of all frames
    drift_p50: float  # of delta frames
    drift_p90: float
    over_budget: float  # share of delta frames


def compare(
    model: PolicyModel,
    settings: ReuseSettings,
    episodes: Iterable[Sequence[RecordedFrame]],
    advance: Callable[[], None],
    answers: ChunkAnswers = ALL_ACTIONS,
) -> dict[str, list[Point]]:
    """Points of both ways, with a pause after every answer, and without any.

    `settings` name the selector; `answers`: of which actions drift counts. Without pauses a dense pass comes every
    keyframe_every frames, in either way.
    """
    replay = EpisodeReplay(model, settings, answers)
    for episode in episodes:
        replay.add(episode, advance)
    ways = candidates(settings.adaptive, replay.camera_tokens)
    known = [knobs for _, _, knobs in ways]
    paused = replay.with_slack(known, advance)
    pauseless = [replay.without_slack(knobs, advance) for knobs in known]
    found = {}
    for name, results in (("with pauses", paused), ("without pauses", pauseless)):
        pairs = zip(ways, results, strict=True)
        found[name] = [_point(way, said, result, settings.drift_budget) for (way, said, _), result in pairs]
    return found


def steps(episodes: Iterable[Sequence[RecordedFrame]]) -> int:
    """How often `compare` calls `advance`: for a dense answer, for all ways with pauses, for each without."""
    return sum(len(episode) for episode in episodes) * (3 + len(ALLOWED) + len(THRESHOLDS))


def candidates(knobs: AdaptiveSettings, camera_tokens: int) -> list[tuple[str, str, AdaptiveSettings]]:
    """Way, what is set, and all settings: those that are deployed; strict to loose, everything else as it is."""
    free = replace(knobs, top_k=camera_tokens, schedule=[], age_limit=max(knobs.age_limit, knobs.keyframe_every))
    plain, kept = replace(free, selector=None), [(far, round(share * camera_tokens)) for far, share in THRESHOLDS]
    return [
        (RELEVANCE, DEPLOYED, replace(knobs, selector=None)),
        *((SELECTOR, f"selector_drift {drift:g}", replace(free, selector_drift=drift)) for drift in ALLOWED),
        *(
            (RELEVANCE, f"distance {distance:g}, task_top_k {top}", replace(plain, distance=distance, task_top_k=top))
            for distance, top in kept
        ),
    ]


def most_reuse(points: Sequence[Point], way: str, drift_p90: float) -> Point | None:
    """Of one way the point that reuses most with drift p90 within a bound; None: no setting keeps it."""
    within = [point for point in points if point.way == way and point.drift_p90 <= drift_p90]
    return max(within, key=lambda point: (point.reuse, -point.drift_p90), default=None)


def document(found: dict[str, list[Point]], budget: float) -> dict[str, Any]:
    """All points, and of each way the most reuse within the budget."""
    return {
        name: {
            "points": [asdict(point) for point in points],
            "within_budget": {
                way: None if (best := most_reuse(points, way, budget)) is None else asdict(best)
                for way in (SELECTOR, RELEVANCE)
            },
        }
        for name, points in found.items()
    }


def _point(way: str, setting: str, result: CandidateResult, budget: float) -> Point:
    over = sum(drift > budget for drift in result.drifts) / max(1, len(result.drifts))
    return Point(way, setting, result.reuse, result.drift(50), result.drift(90), over)
