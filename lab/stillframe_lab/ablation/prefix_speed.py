"""The prefix ablation's race: each arm answers the same JPEGs in turn, in one process on one thread.

Knows a model and pictures; no simulator. Times what is computed, not whether the action is any good.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from time import thread_time
from typing import Any

import PIL.Image
from numpy.typing import NDArray

from stillframe.domain import Image
from stillframe.models.base import PolicyModel
from stillframe.stopwatch import Clock
from stillframe.web.http.images import read_picture
from stillframe.web.http.limits import Limits
from stillframe_lab.ablation.prefix import OFF, WITHIN, PrefixArm
from stillframe_lab.ablation.prefix_cell import prefix_actor, prefix_rows
from stillframe_lab.evaluation.actors import LocalActor
from stillframe_lab.evaluation.race import Observed, Timed, turns
from stillframe_lab.evaluation.trace import percentiles, reuse_ratio

JPEG_QUALITY = 90
STAGES = {"vision": "vision", "prefix": "prefill", "drawing": "decode"}  # how the table calls an answer's stages
LIMITS = Limits()


class JpegActor(LocalActor):
    """Gets pictures as a daemon does, and decodes them as it does."""

    def __call__(self, observed: Observed) -> NDArray[Any]:
        """The action due now."""
        images = {name: read_picture(jpeg, LIMITS, f"/images/{name}") for name, jpeg in observed["images"].items()}
        return super().__call__({**observed, "images": images})


def prefix_race(
    model: PolicyModel, episodes: Sequence[Sequence[Observed]], arms: Sequence[PrefixArm], clock: Clock = thread_time
) -> dict[str, Any]:
    """Every arm's figures over all pictures but each episode's first, which no arm can reuse anything for.

    Times are CPU time of this thread, which does all of the work where torch has one. Keyframes that come later count.
    """
    actors = {arm.name: prefix_actor(JpegActor, model, arm, clock) for arm in arms}
    answers: dict[str, list[Timed]] = {arm.name: [] for arm in arms}
    for episode in episodes:
        for turn, answered in enumerate(turns(actors, [as_jpegs(observed) for observed in episode], clock)):
            for name, answer in answered.items() if turn else ():
                answers[name].append(answer)
    rows = {name: _figures(own) for name, own in answers.items()}
    return {name: {**row, "against": _against(rows, row)} for name, row in rows.items()}


def as_jpegs(observed: Observed) -> Observed:
    """The same with its pictures as a camera's driver sends them."""
    return {**observed, "images": {name: _jpeg(picture) for name, picture in observed["images"].items()}}


def _figures(answers: Sequence[Timed]) -> dict[str, Any]:
    frames = [frame for _, frame in answers]
    return {
        "frames": len(frames),
        "keyframes": sum(frame.keyframe_reason is not None for frame in frames),
        "reuse_ratio": reuse_ratio(frames),
        "prefix_rows": prefix_rows(frames),
        "latency_ms": percentiles([took_ms for took_ms, _ in answers]),
        "stages_ms": {
            name: percentiles([frame.stages_ms[stage] for frame in frames])["p50"] for name, stage in STAGES.items()
        },
    }


def _against(rows: Mapping[str, Mapping[str, Any]], row: Mapping[str, Any]) -> dict[str, float]:
    """How many times as fast as the arms that keep nothing across frames, by the median."""
    return {name: rows[name]["latency_ms"]["p50"] / row["latency_ms"]["p50"] for name in (OFF, WITHIN)}


def _jpeg(picture: Image) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(picture).save(buffer, "jpeg", quality=JPEG_QUALITY)
    return buffer.getvalue()
