"""`stillframe demo --watch`: the demo's arm at its own pace and without end, to be looked at in a browser.

Knows the demo's episodes; writes no report.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from stillframe.tools.local_daemon import daemon
from stillframe_client import PolicyClient, PolicyError
from stillframe_client.sim import JacoEnv
from stillframe_client.sim.rollout import play
from stillframe_lab.demo.run import CONTROL_HZ, FIRST_SEED, PLAN, SESSION, STEP_TIMEOUT_S, DemoPolicy
from stillframe_lab.evaluation.actors import user_errors


@user_errors()
def watch_demo(options: Sequence[str], console: Console) -> None:
    """Play until Ctrl-C. `options`: those of `stillframe serve`, which say what is served."""
    console.print(f"starting a daemon with {' '.join(options)} ...")
    # Ctrl-C reaches the daemon as well, and the client then finds it gone.
    with suppress(KeyboardInterrupt), daemon([*options]) as url, suppress(PolicyError):
        _play_at(url, console)


@user_errors()
def watch_daemon(url: str, console: Console) -> None:
    """The same with a daemon that runs already. Raises StillframeError where it cannot be asked, or no longer."""
    with suppress(KeyboardInterrupt):
        _play_at(url, console)


def _play_at(url: str, console: Console) -> None:
    """Drive the arm by the daemon at `url`, until something ends it."""
    with closing(PolicyClient(url, timeout_s=STEP_TIMEOUT_S, session=SESSION)) as client:
        console.print(f"Open [bold]{url}/[/] in a browser: the simulated Jaco2, and what is reused. Ctrl-C ends it.\n")
        play_on(DemoPolicy(client), console)


def play_on(policy: DemoPolicy, console: Console, episodes: int | None = None) -> None:
    """Play so many episodes of the demo, over and over from its first; None: without end."""
    with closing(JacoEnv(cameras=policy.cameras, hz=CONTROL_HZ)) as env:
        for number in itertools.islice(itertools.count(), episodes):
            policy.reset()
            options = PLAN[number % len(PLAN)]
            episode = play(env, Paced(policy, CONTROL_HZ), seed=FIRST_SEED + number, options=options)
            result = "done" if episode.success else "not done"
            console.print(f"{number + 1:>4}  {episode.instruction}: {result} after {episode.steps} steps")


class Paced:
    """A policy that is asked at most `hz` times a second, as a robot would."""

    def __init__(
        self,
        act: Callable[[Mapping[str, Any]], NDArray[np.float64]],
        hz: float,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._act, self._period_s = act, 1 / hz
        self._clock, self._sleep = clock, sleep
        self._due_s = clock()

    def __call__(self, observed: Mapping[str, Any]) -> NDArray[np.float64]:
        """Wait until the step is due, then act. A step that comes late is not made up for."""
        self._sleep(max(0.0, self._due_s - self._clock()))
        self._due_s = max(self._clock(), self._due_s) + self._period_s
        return self._act(observed)
