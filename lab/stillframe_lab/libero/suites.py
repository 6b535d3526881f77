"""LIBERO's suites as the papers evaluate them: how long an episode may take, and which episodes are played.

Knows numbers; no simulator and no policy. Source: openvla/openvla experiments/robot/libero/run_libero_eval.py; openpi
examples/libero/main.py has the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stillframe.errors import ConfigError

MOST_STEPS = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520}
TASKS, INIT_STATES = 10, 50  # of each suite, of each task
DRAWN_SEED = 50_000  # of the first drawn scene: fixed states are seeded from 0 on, demonstrations from 100 000
SETTLE_STEPS = 10  # in which what hangs in the air falls
SETTLE = np.array([0.0] * 6 + [-1.0])  # the hand stays, open


@dataclass(frozen=True, order=True)
class EpisodeId:
    """One episode of a suite."""

    task: int
    init_state: int


def check_suite(suite: str) -> str:
    """Return one of MOST_STEPS. Raises ConfigError."""
    if suite not in MOST_STEPS:
        raise ConfigError(f"--suite {suite}: expected one of {', '.join(MOST_STEPS)}")
    return suite


def most_steps(suite: str) -> int:
    """Of an episode, after the scene has settled. Raises ConfigError for a suite that is none."""
    return MOST_STEPS[check_suite(suite)]


def task_numbers(text: str | None, count: int = TASKS) -> tuple[int, ...]:
    """Tasks out of "0,1,2", or all, of a suite that has so many. Raises ConfigError."""
    if text is None:
        return tuple(range(count))
    try:
        tasks = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        tasks = ()
    if not tasks or not all(0 <= task < count for task in tasks):
        raise ConfigError(f"--tasks is {text!r}; expected numbers from 0 to {count - 1}, such as 0,1,2")
    return tasks


def episodes_of(tasks: Sequence[int], episodes: int, init_states: int = INIT_STATES) -> list[EpisodeId]:
    """So many episodes in all, spread over the tasks: of each its initial states 0, 1, 2 ... Raises ConfigError."""
    most = len(tasks) * init_states
    if not 1 <= episodes <= most:
        raise ConfigError(f"--episodes {episodes}: {len(tasks)} tasks have {most} initial states; expected 1 to {most}")
    return sorted(EpisodeId(tasks[at % len(tasks)], at // len(tasks)) for at in range(episodes))
