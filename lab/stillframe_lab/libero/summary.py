"""What an evaluation in LIBERO reports: success by task with its interval, and the usual figures of answers.

Knows episodes that are played; no simulator and no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, groupby
from typing import Any

import numpy as np

from stillframe_lab.evaluation.evaluate import wilson
from stillframe_lab.evaluation.trace import Trace, figures, percentiles
from stillframe_lab.libero.episode import PlayedEpisode


def summarise(played: Sequence[PlayedEpisode], about: Mapping[str, Any]) -> dict[str, Any]:
    """The document that `stillframe eval --suite` prints and writes. `about` says what was played and by which policy.

    Steps are those after the scene has settled. `latency_ms` is that of answers, from pictures to actions; how long the
    simulator took is in none of the figures.
    """
    ordered = sorted(played, key=lambda episode: episode.id)
    answers_ms = [*chain.from_iterable(episode.answers_ms for episode in ordered)]
    trace = Trace(
        [*chain.from_iterable(episode.frames for episode in ordered)],
        drifts=[*chain.from_iterable(episode.drifts for episode in ordered)],
    )
    return {
        **about,
        **_success(ordered),
        "by_task": [
            {"task": task, "instruction": one[0].instruction, **_success(one)}
            for task, one in ((task, [*group]) for task, group in groupby(ordered, key=lambda episode: episode.id.task))
        ],
        "steps_mean": float(np.mean([episode.steps for episode in ordered])),
        "latency_ms": percentiles(answers_ms),
        "ms_per_step": sum(answers_ms) / sum(episode.steps for episode in ordered),
        **(figures(trace, answers_ms) if answers_ms else {}),
        "simulator": _versions(ordered),
        "failed": [[one.id.task, one.id.init_state] for one in ordered if not one.success],
    }


def _versions(played: Sequence[PlayedEpisode]) -> dict[str, str]:
    """Of the simulator's packages; where episodes were played with several, all of them."""
    names = {name for episode in played for name in episode.versions}
    return {name: "+".join(sorted({episode.versions[name] for episode in played})) for name in sorted(names)}


def _success(played: Sequence[PlayedEpisode]) -> dict[str, Any]:
    wins = sum(episode.success for episode in played)
    count = len(played)
    return {"wins": wins, "episodes": count, "success": wins / count, "success_ci95": wilson(wins, count)}
