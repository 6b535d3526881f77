"""One demonstration: the expert's actions under noise, from a start that another may have led to, with its pictures.

Knows a simulator and the experts; no files and no network. Sources: noise that is not in the labels, DART 1703.09327;
starts where the policy in training led, HG-DAgger 1810.02890.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stillframe_lab.libero.contract import state_of
from stillframe_lab.libero.expert.jobs import Job, job_of
from stillframe_lab.libero.expert.servo import Phase, PickAndPlace
from stillframe_lab.libero.pictures import JPEG_QUALITY, Picture, Vector, upright
from stillframe_lab.libero.process import AGENT, CAMERAS, CameraPose, Pictures, Reading, Scene
from stillframe_lab.libero.suites import SETTLE, SETTLE_STEPS

MOST_STEPS = 200
AFTER_STEPS = 8  # that the open hand rests above what is done
PERSISTENCE = 0.7  # of the noise from step to step
TURN_NOISE = 0.2  # of the noise, for the three turns
STRENGTHS = (0.0, 0.2, 0.2, 0.35)  # of full speed, one drawn for each episode
WANDER_STEPS = 14  # of a random start at most


class Simulator(Protocol):
    """What a recording needs of a simulator whose task is open."""

    def reset(self, init_state: int | None, seed: int) -> Reading:
        """Begin an episode."""
        ...

    def step(self, action: Vector) -> Reading:
        """Apply an action [7] for one control step."""
        ...

    def pictures(self, cameras: Sequence[str] = CAMERAS) -> Pictures:
        """Draw these cameras."""
        ...

    def camera(self, name: str) -> CameraPose:
        """Where a camera is."""
        ...


class Leader(Protocol):
    """Takes the hand somewhere before the expert takes over."""

    def begin(self, scene: Scene, rng: np.random.Generator) -> int:
        """An episode begins -> how many steps it leads."""
        ...

    def action(self, reading: Reading, draw: Callable[[Sequence[str]], Pictures]) -> Vector:
        """The action [7] of this step."""
        ...


class Wanderer:
    """Leads some steps in one direction that is drawn."""

    def begin(self, scene: Scene, rng: np.random.Generator) -> int:  # noqa: ARG002 (of any task)
        """See Leader."""
        self._action = np.array([*rng.uniform(-1, 1, 3), 0, 0, 0, -1.0])
        return int(rng.integers(WANDER_STEPS + 1))

    def action(self, reading: Reading, draw: Callable[[Sequence[str]], Pictures]) -> Vector:  # noqa: ARG002
        """See Leader."""
        return self._action


@dataclass(frozen=True)
class Demonstration:
    """A success, step by step; some of its steps with pictures."""

    pictures: Sequence[Sequence[bytes]]  # [kept][camera], JPEG, as policies are sent them but for their size
    kept: NDArray[np.int64]  # [kept] the steps of these
    states: NDArray[np.float64]  # [steps, 8]
    actions: NDArray[np.float32]  # [steps, 7]: what the expert wanted, as the simulator takes it
    points_m: NDArray[np.float32]  # [steps, 3, 3]: what is moved, where to, the hand; in the world
    points_px: NDArray[np.float32]  # [steps, 3, 2]: the same in the first camera's picture, u right, v down


@dataclass(frozen=True)
class Recorder:
    """How a suite's demonstrations are made."""

    suite: str
    keep: float  # share of the steps with pictures

    def record(
        self,
        simulator: Simulator,
        scene: Scene,
        seed: int,
        leader: Leader,
        rng: np.random.Generator,
        shake: float = 1.0,
    ) -> Demonstration | None:
        """Play one episode of the open task, as the simulator draws it by `seed`; None where it does not succeed.

        `shake`: of the noise's strength.
        """
        reading = simulator.reset(None, seed)
        for _ in range(SETTLE_STEPS):
            reading = simulator.step(SETTLE)
        started = reading
        for _ in range(leader.begin(scene, rng)):
            reading = simulator.step(leader.action(reading, simulator.pictures))
            if reading.success:
                return None
        job = job_of(self.suite, scene)
        film = _Film(simulator, job)
        expert, noise, rested = PickAndPlace.taking_over(job, started, reading), _Noise(rng, shake), 0
        while rested < AFTER_STEPS:
            wanted = expert.action(reading)
            film.take(reading, wanted, keep=bool(rng.random() < self.keep))
            reading = simulator.step(noise.added(wanted))
            rested += reading.success and expert.phase is Phase.OPEN
            if len(film) >= MOST_STEPS:
                return None
        return film.developed() if reading.success else None


class _Noise:
    """Correlated, of a strength that is drawn."""

    def __init__(self, rng: np.random.Generator, shake: float):
        self._rng, self._now = rng, np.zeros(6)
        self._scale = shake * float(rng.choice(STRENGTHS)) * np.array([1.0] * 3 + [TURN_NOISE] * 3)

    def added(self, action: Vector) -> Vector:
        """To the six numbers of the hand."""
        fresh = self._rng.normal(0, 1, 6) * np.sqrt(1 - PERSISTENCE**2)
        self._now = PERSISTENCE * self._now + fresh
        return np.concatenate([np.clip(action[:6] + self._scale * self._now, -1, 1), action[6:]])


class _Film:
    """What is known of each step."""

    def __init__(self, simulator: Simulator, job: Job):
        self._simulator, self._job, self._view = simulator, job, simulator.camera(AGENT)
        self._readings, self._actions = list[Reading](), list[Vector]()
        self._kept, self._pictures, self._px = list[int](), list[list[bytes]](), 0

    def __len__(self) -> int:
        return len(self._readings)

    def take(self, reading: Reading, wanted: Vector, *, keep: bool) -> None:
        """One step, before it is taken; `keep`: with pictures."""
        if keep or not self._kept:
            drawn = self._simulator.pictures()
            self._px = len(drawn[AGENT])
            self._kept.append(len(self))
            self._pictures.append([jpeg(upright(drawn[camera])) for camera in CAMERAS])
        self._readings.append(reading)
        self._actions.append(wanted)

    def developed(self) -> Demonstration:
        """All of them."""
        points = np.array([self._points(reading) for reading in self._readings])
        return Demonstration(
            pictures=self._pictures,
            kept=np.array(self._kept),
            states=np.array([state_of(reading) for reading in self._readings]),
            actions=np.array(self._actions, np.float32),
            points_m=points.astype(np.float32),
            points_px=self._view.project(points, self._px).astype(np.float32),
        )

    def _points(self, reading: Reading) -> list[Vector]:
        return [self._job.carried(reading), self._job.goal(reading), reading.position]


def jpeg(picture: Picture) -> bytes:
    """As pictures go to OpenVLA's families."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()
