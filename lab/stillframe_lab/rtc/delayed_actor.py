"""DelayedActor: a robot that plays on while its next chunk is computed, and takes it up so many control steps later.

Knows a policy in this process and steps; no clock: a delay is so many steps, however long computing takes here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from stillframe.domain import RtcRequest
from stillframe.engine.local import LocalPolicy
from stillframe_client.chunk_plan import ChunkPlan

Way = Literal["switch", "linear", "rtc"]
WAYS: tuple[Way, ...] = get_args(Way)


@dataclass
class Played:
    """What was commanded in one episode."""

    actions: list[NDArray[np.float64]] = field(default_factory=list)  # [7] of each step
    seams: list[int] = field(default_factory=list)  # steps that were the first out of a newer chunk
    jumps: list[float] = field(default_factory=list)  # at each seam, how far the two chunks were apart, metres


@dataclass(frozen=True)
class Awaited:
    """A chunk that is under way."""

    actions: NDArray[np.float64]  # [horizon, 7]
    step: int  # when it was asked for


class DelayedActor:
    """Asks for the next chunk once `execute` actions of one are played, and gets it `delay` steps later.

    "switch" goes on with the new chunk where the robot is; "linear" goes over to it bit by bit; "rtc" has the policy
    hold the new chunk to the old one, of which `delay` steps will be played. The first chunk of an episode is waited
    for.
    """

    def __init__(self, policy: LocalPolicy, way: Way, delay: int, execute: int, camera_of: Mapping[str, str]):
        """`camera_of`: the policy's camera -> the simulator's. Raises ValueError for more delay than chunks allow."""
        horizon = policy.info.chunk_horizon
        if not delay <= execute <= horizon - delay:
            raise ValueError(
                f"a delay of {delay} steps and {execute} played of chunks of {horizon}: expected delay <= played <= "
                f"{horizon - delay}"
            )
        self._policy, self._way, self._delay, self._execute = policy, way, delay, execute
        self._camera_of = camera_of
        self.episodes: list[Played] = []

    def reset(self) -> None:
        """Begin an episode."""
        self._policy.reset()
        self._plan = ChunkPlan("linear" if self._way == "linear" else "none")
        self._awaited: Awaited | None = None
        self.episodes.append(Played())

    def rest(self) -> None:
        """Nothing: the next chunk was computed while the arm moved."""

    def __call__(self, observed: Mapping[str, Any]) -> NDArray[np.float64]:
        """The action [7] of this step."""
        played = self.episodes[-1]
        step = len(played.actions)
        if not self._plan.left:
            self._plan.take(self._asked(observed, None), due=0)
        if self._awaited is None and self._plan.index >= self._execute:
            held = RtcRequest(self._delay, self._plan.index) if self._way == "rtc" else None
            self._awaited = Awaited(self._asked(observed, held), step)
        if self._awaited is not None and step - self._awaited.step >= self._delay:
            self._take_up(self._awaited.actions, played)
        action = self._plan.next()
        assert action is not None  # noqa: S101 (there is one: the delay fits the chunk)
        played.actions.append(action)
        return action

    def _take_up(self, actions: NDArray[np.float64], played: Played) -> None:
        """Go on with the newer chunk, and note how far apart the two were."""
        before = self._plan.peek()
        self._plan.take(actions, due=self._delay)
        self._awaited = None
        played.seams.append(len(played.actions))
        if before is not None:
            played.jumps.append(float(np.linalg.norm(actions[self._delay, :3] - before[:3])))

    def _asked(self, observed: Mapping[str, Any], held: RtcRequest | None) -> NDArray[np.float64]:
        images = {name: observed["images"][own] for name, own in self._camera_of.items()}
        self._policy({**observed, "images": images, "rtc": held})
        return self._policy.last.chunk.actions
