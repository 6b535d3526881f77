"""How fast: several ways to reuse, asked in turn about the same pictures, in one process on one thread.

Knows a model and pictures; no simulator. What a pass computes is timed, not whether the action is any good.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import gcd
from time import thread_time
from typing import Any, TypeVar

from stillframe.models.base import PolicyModel
from stillframe.reuse.settings import ReuseSettings
from stillframe.stopwatch import Clock
from stillframe_lab.evaluation.actors import LocalActor
from stillframe_lab.evaluation.trace import AnsweredFrame, percentiles, planning, reuse_ratio

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
    """One episode: every picture to every actor, one after the other; another one begins each time."""
    for actor in actors.values():
        actor.reset()
    for turn, observed in enumerate(pictures):
        yield {name: _answer(actors[name], observed, clock) for name in in_turn([*actors], turn)}


def in_turn(names: Sequence[KeyT], turn: int) -> list[KeyT]:
    """Everybody once, another one first each time; and not always after the same one, who may leave a cold cache."""
    count = len(names)
    strides = [stride for stride in range(1, max(2, count)) if gcd(stride, count) == 1]
    stride = strides[turn % len(strides)]
    return [names[(turn + place * stride) % count] for place in range(count)]


def _answer(actor: LocalActor, observed: Observed, clock: Clock) -> Timed:
    asked_s = clock()
    actor(observed)
    took_ms = (clock() - asked_s) * 1e3
    actor.rest()
    return took_ms, actor.trace.frames[-1]


def _keep(times: Mapping[str, list[Timed]], answered: Mapping[str, Timed]) -> None:
    """Like is compared with like: a picture counts if every arm that reuses did reuse."""
    if all(frame.keyframe_reason in (None, "off") for _, frame in answered.values()):
        for name, timed in answered.items():
            times[name].append(timed)


def _compared(times: Mapping[str, Sequence[Timed]]) -> dict[str, Any]:
    """Every arm's figures, with its speed against the first arm's."""
    rows = {name: _figures(timed) for name, timed in times.items()}
    first = next(iter(rows.values()))
    for row in rows.values():
        row["prefill_speedup"] = _ratio(first["llm_prefill_ms"]["p50"], row["llm_prefill_ms"]["p50"])
        row["speedup"] = _ratio(first["latency_ms"]["p50"], row["latency_ms"]["p50"])
    return rows


def _figures(timed: Sequence[Timed]) -> dict[str, Any]:
    frames = [frame for _, frame in timed]
    return {
        "frames": len(frames),
        "reuse_ratio": reuse_ratio(frames),
        "decoder_gmacs": sum(frame.gmacs or 0.0 for frame in frames) / len(frames) if frames else None,
        "llm_prefill_ms": percentiles([frame.stages_ms["prefill"] for frame in frames]),
        "latency_ms": percentiles([took_ms for took_ms, _ in timed]),
        "planning_ms": planning(frames),
    }


def _ratio(whole: float | None, part: float | None) -> float | None:
    return whole / part if whole and part else None
