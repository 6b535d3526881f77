"""One episode as the papers play it: reset, settle, then the player's actions until success or too many steps.

Knows a simulator and a player; not whether the simulator is real, nor whether the player is a policy or an expert.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from stillframe.stopwatch import Clock
from stillframe_lab.evaluation.chunk_actor import Actor, ChunkActor
from stillframe_lab.evaluation.trace import AnsweredFrame
from stillframe_lab.libero.pictures import Mask, Picture, Vector
from stillframe_lab.libero.process import Masks, Pictures, Reading, Scene
from stillframe_lab.libero.suites import SETTLE, SETTLE_STEPS, EpisodeId

Draw = Callable[[Sequence[str]], Pictures]  # of these cameras


class Simulator(Protocol):
    """What an episode needs of a simulator; process.SimulatorProcess is the real one."""

    def open(self, suite: str, task: int) -> Scene:
        """Open a task."""
        ...

    def reset(self, init_state: int | None, seed: int) -> Reading:
        """Begin an episode."""
        ...

    def step(self, action: Vector) -> Reading:
        """Apply an action [7] for one control step."""
        ...

    def pictures(self, cameras: Sequence[str]) -> Pictures:
        """Draw these cameras."""
        ...


class Asking(Protocol):
    """How a policy is asked in a suite, and what its answers mean; contract.Protocol is LIBERO's."""

    @property
    def looks_at(self) -> tuple[str, ...]:
        """The simulator's cameras that the policy sees."""
        ...

    @property
    def unnorm_key(self) -> str:
        """The statistics of its actions."""
        ...

    @property
    def execute(self) -> int:
        """Actions of each answer that are played."""
        ...

    def seen(self, pictures: Pictures) -> dict[str, Picture]:
        """The simulator's pictures as the policy is sent them, by the names of its cameras."""
        ...

    def masked(self, masks: Masks) -> dict[str, Mask]:
        """The simulator's masks of these pictures, likewise."""
        ...

    def state(self, reading: Reading) -> Vector:
        """The robot's state as the policy is sent it."""
        ...

    def played(self, action: Vector) -> Vector:
        """An answer's action [7] as the simulator takes it."""
        ...

    def described(self) -> dict[str, Any]:
        """For the results."""
        ...


class MaskingSimulator(Simulator, Protocol):
    """One that knows where in its pictures what matters is."""

    def masks(self, cameras: Sequence[str]) -> Masks:
        """Which pixels of these cameras' pictures show the hand or what the task is about."""
        ...


@dataclass(frozen=True)
class Answers:
    """A player's answers of one episode. An expert has none."""

    frames: tuple[AnsweredFrame, ...] = ()  # one for each answer
    ms: tuple[float, ...] = ()  # from pictures to actions, end to end
    drifts: tuple[float, ...] = ()  # of the answers that were measured, normalised units


class Player(Protocol):
    """Where actions come from."""

    def begin(self, scene: Scene) -> None:
        """An episode begins."""
        ...

    def action(self, reading: Reading, draw: Draw) -> Vector:
        """The action [7] of this step, as the simulator takes it. Pictures are drawn only where `draw` is called."""
        ...

    def taken(self) -> Answers:
        """Those since the episode began."""
        ...


@dataclass(frozen=True)
class PlayedEpisode:
    """Result of one episode."""

    id: EpisodeId
    seed: int
    instruction: str
    success: bool
    steps: int  # after those in which the scene settles
    answers_ms: tuple[float, ...]  # from pictures to actions, end to end
    frames: tuple[AnsweredFrame, ...]  # one for each answer
    versions: Mapping[str, str]  # of the simulator's packages
    drifts: tuple[float, ...] = ()  # of the answers that were measured, normalised units


class Stopped(Exception):
    """The evaluation is over before this episode is."""


@dataclass(frozen=True)
class EpisodeRules:
    """How every episode of a suite is played."""

    most_steps: int
    seed: int = 0  # of the first initial state; each has its own, so that fixtures are placed as variously as drawn
    drawn: bool = False  # by that seed from the task's regions, instead of the benchmark's fixed initial states
    settle_steps: int = SETTLE_STEPS

    def play(
        self, simulator: Simulator, scene: Scene, episode: EpisodeId, player: Player, draw: Draw, over: threading.Event
    ) -> PlayedEpisode:
        """Play one episode of the open task. Raises Stopped once `over` is set."""
        seed = self.seed + episode.init_state
        reading = simulator.reset(None if self.drawn else episode.init_state, seed)
        for _ in range(self.settle_steps):
            reading = simulator.step(SETTLE)
        player.begin(scene)
        steps, success = 0, False
        while steps < self.most_steps and not success:
            if over.is_set():
                raise Stopped
            reading = simulator.step(player.action(reading, draw))
            steps, success = steps + 1, reading.success
        said = player.taken()
        return PlayedEpisode(
            episode, seed, scene.instruction, success, steps, said.ms, said.frames, scene.versions, said.drifts
        )


class PolicyPlayer:
    """A policy, asked as its protocol says."""

    def __init__(
        self,
        actor: Actor,
        protocol: Asking,
        clock: Clock = time.perf_counter,
        masks: Callable[[Sequence[str]], Masks] | None = None,
    ):
        """`masks`: of these cameras' pictures, to be sent with them; None: none are sent."""
        self._actor, self._protocol, self._clock, self._masks = actor, protocol, clock, masks
        self._chunks = ChunkActor(actor, protocol.execute)
        self._instruction, self._answers_ms = "", list[float]()

    def begin(self, scene: Scene) -> None:
        """The policy's episode begins too."""
        self._instruction = scene.instruction
        self._chunks.reset()

    def action(self, reading: Reading, draw: Draw) -> Vector:
        """Of the last answer, while it lasts; else of a new one."""
        if not self._chunks.asks:
            return self._protocol.played(self._chunks({}))
        observed: dict[str, Any] = {
            "images": self._protocol.seen(draw(self._protocol.looks_at)),
            "state": self._protocol.state(reading),
            "instruction": self._instruction,
        }
        if self._masks is not None:
            observed["masks"] = self._protocol.masked(self._masks(self._protocol.looks_at))
        asked_s = self._clock()
        action = self._chunks(observed)
        self._answers_ms.append((self._clock() - asked_s) * 1e3)
        self._chunks.rest()
        return self._protocol.played(action)

    def taken(self) -> Answers:
        """The episode's answers; nothing of it stays."""
        trace, answers_ms, self._answers_ms = self._actor.trace.taken(), self._answers_ms, []
        return Answers(tuple(trace.frames), tuple(answers_ms), tuple(trace.drifts))
