"""Compare the speed of several reuse settings: each answers the same pictures in turn, in one process on one thread.

Knows a model and pictures; no simulator. Times what is computed, not whether the action is any good.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from time import thread_time
from typing import Any, TypeVar

from stillframe.models.base import PolicyModel
from stillframe.reuse.settings import ReuseSettings
from stillframe.stopwatch import Clock
from stillframe_lab.evaluation.actors import LocalActor
from stillframe_lab.evaluation.trace import AnsweredFrame, percentiles, planning, reuse_ratio
from stillframe_lab.evaluation.turns import interleaved, timed

Observed = Mapping[str, Any]
KeyT = TypeVar("KeyT")  # what an arm is called
Timed = tuple[float, AnsweredFrame]  # end to end, ms: from pictures as arrays to the action


def race(
    model: PolicyModel,
    episodes: Sequence[Sequence[Observed]],
    arms: Mapping[str, ReuseSettings],
    clock: Clock = thread_time,
) -> dict[str, Any]:
    """Answer every picture with every arm, one after the other, and compare with the first arm.

    Times are CPU time of this thread, which does all of the work where torch has one: what a free core takes, whatever
    else the machine does. The arms take turns in being first. An episode's first picture is a keyframe for all and is
    not counted, and neither is any picture that an arm which reuses computed whole.
    """
    actors = {name: LocalActor(model, reuse, measure_every=0, clock=clock) for name, reuse in arms.items()}
    times: dict[str, list[Timed]] = {name: [] for name in arms}
    for episode in episodes:
        for turn, answered in enumerate(turns(actors, episode, clock)):
            if turn:
                _keep(times, answered)
    return _compared(times)


def turns(actors: Mapping[KeyT, LocalActor], pictures: Iterable[Observed], clock: Clock) -> Iterator[dict[KeyT, Timed]]:
    """One episode: every actor answers every picture, in changing order."""
    for actor in actors.values():
        actor.reset()
    for turn, observed in enumerate(pictures):
        yield {name: _answer(actors[name], observed, clock) for name in interleaved([*actors], turn)}


def _answer(actor: LocalActor, observed: Observed, clock: Clock) -> Timed:
    took_ms, _ = timed(lambda: actor(observed), clock)
    actor.rest()
    return took_ms, actor.trace.frames[-1]


def _keep(times: Mapping[str, list[Timed]], answered: Mapping[str, Timed]) -> None:
    """Count a picture only if every arm that reuses did reuse on it."""
    if all(frame.keyframe_reason in (None, "off") for _, frame in answered.values()):
        for name, answer in answered.items():
            times[name].append(answer)


def _compared(times: Mapping[str, Sequence[Timed]]) -> dict[str, Any]:
    """Every arm's figures, with its speed against the first arm's."""
    rows = {name: _figures(answers) for name, answers in times.items()}
    first = next(iter(rows.values()))
    for row in rows.values():
        row["prefill_speedup"] = _ratio(first["llm_prefill_ms"]["p50"], row["llm_prefill_ms"]["p50"])
        row["speedup"] = _ratio(first["latency_ms"]["p50"], row["latency_ms"]["p50"])
    return rows


def _figures(answers: Sequence[Timed]) -> dict[str, Any]:
    frames = [frame for _, frame in answers]
    return {
        "frames": len(frames),
        "reuse_ratio": reuse_ratio(frames),
        "decoder_gmacs": sum(frame.gmacs or 0.0 for frame in frames) / len(frames) if frames else None,
        "llm_prefill_ms": percentiles([frame.stages_ms["prefill"] for frame in frames]),
        "latency_ms": percentiles([took_ms for took_ms, _ in answers]),
        "planning_ms": planning(frames),
    }


def _ratio(whole: float | None, part: float | None) -> float | None:
    return whole / part if whole and part else None
