"""Labelled pictures from the simulator, driven by a noisy expert or by the policy in training (DAgger).

Knows the environment and its expert; no network. Every frame is labelled for all six instructions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from stillframe.engine.local import LocalPolicy
from stillframe.models.actions import ActionScale
from stillframe.models.registry import load_policy
from stillframe_client.sim import COLOURS, JacoEnv, SensorNoise
from stillframe_client.sim.experts import expert_action
from stillframe_client.sim.proprioception import proprioception
from stillframe_client.sim.state import FINGER_OPEN_RAD
from stillframe_lab.train.frame_store import FrameWriter, Labels
from stillframe_lab.train.recipe import INSTRUCTIONS

PICTURES_VERSION = 2  # raised whenever the scene's look or the expert's law changes; 2: laser spot, levelling labels
NEAR_M = 0.12  # frames closer to a cube are kept more often
JPEG_SHARE, JPEG_QUALITY = 0.3, (80, 96)
CLOSED_FINGERS_RAD = 1.2

Look = Callable[[], Mapping[str, NDArray[np.uint8]]]  # camera -> [224, 224, 3]


@dataclass(frozen=True)
class Mixture:
    """Shares of each kind of start, and of frames kept."""

    home: float
    anywhere: float
    near: float
    holding: float
    keep_far: float
    keep_near: float
    max_steps: int


NOISY_EXPERT = Mixture(home=0.30, anywhere=0.25, near=0.33, holding=0.12, keep_far=0.35, keep_near=0.75, max_steps=60)
DAGGER = Mixture(home=0.70, anywhere=0.10, near=0.14, holding=0.06, keep_far=0.5, keep_near=0.9, max_steps=70)


class Driver(Protocol):
    """Moves the arm while pictures are taken."""

    def begin(self, rng: np.random.Generator) -> None:
        """A new episode starts."""
        ...

    def act(self, env: JacoEnv, look: Look, rng: np.random.Generator) -> NDArray[np.float64]:
        """The action [7] to carry out; `look` draws what the cameras see."""
        ...


class NoisyExpert:
    """The expert with correlated noise of a strength drawn per episode, and now and then a wrong gripper."""

    strengths = (0.0, 0.25, 0.6)  # of the speed limit
    persistence = 0.7
    flip_share = 0.02

    def __init__(self, scale: ActionScale):
        self._limit = scale.q99[:6]

    def begin(self, rng: np.random.Generator) -> None:
        """Draw this episode's strength."""
        self._strength = rng.choice(self.strengths)
        self._noise = np.zeros(6)

    def act(self, env: JacoEnv, look: Look, rng: np.random.Generator) -> NDArray[np.float64]:  # noqa: ARG002 (needs no pictures)
        """The expert's action with noise."""
        action = env.expert().copy()
        fresh = rng.normal(0, 1, 6) * np.sqrt(1 - self.persistence**2)
        self._noise = self.persistence * self._noise + fresh
        action[:6] += self._strength * self._noise * self._limit
        if rng.random() < self.flip_share:
            action[6] = 1 - action[6]
        return action


@dataclass(frozen=True)
class Collection:
    """What to collect: how many frames, the seed, starts, shares kept, cameras."""

    frames: int
    seed: tuple[int, ...]
    mixture: Mixture
    cameras: tuple[str, ...] = ("front",)

    @property
    def variant(self) -> tuple[str, ...]:
        """What sets it apart from jaco-tiny's, in its folder's name: cameras beside the first."""
        return self.cameras[1:]

    @property
    def origin(self) -> str:
        """The origin written into a store of these frames."""
        return json.dumps({"pictures": PICTURES_VERSION, **asdict(self)})

    def label(self, env: JacoEnv, scale: ActionScale, rng: np.random.Generator) -> Labels:  # noqa: ARG002 (draws none)
        """What is known of the frame that the cameras see now; the environment stays as it is."""
        return label(env, scale, self.cameras[0])


def collect(folder: Path, wanted: Collection, driver: Driver, scale: ActionScale) -> None:
    """Fill `folder` with labelled pictures. The same collection gives the same store on one machine."""
    rng = np.random.default_rng(wanted.seed)
    env = JacoEnv(cameras=(), max_steps=wanted.mixture.max_steps)
    writer = FrameWriter(folder, wanted.origin)
    try:
        while len(writer) < wanted.frames:
            _one_episode(env, driver, wanted, scale, writer, rng)
    finally:
        env.close()
    writer.close()


def _one_episode(
    env: JacoEnv, driver: Driver, wanted: Collection, scale: ActionScale, writer: FrameWriter, rng: np.random.Generator
) -> None:
    """Play one episode from a random start and keep some of its frames."""
    _begin(env, wanted.mixture, rng)
    driver.begin(rng)
    camera = _camera(rng)
    over = False
    while not over and len(writer) < wanted.frames:
        # Rendered once, and only if needed.
        look = cache(lambda: {name: camera.spoil(env.render(name), rng) for name in wanted.cameras})
        if rng.random() < _keep(env, wanted.mixture):
            writer.append(np.stack(list(look().values())), wanted.label(env, scale, rng))
        _, _, terminated, truncated, _ = env.step(driver.act(env, look, rng))
        over = terminated or truncated


def _begin(env: JacoEnv, mixture: Mixture, rng: np.random.Generator) -> None:
    """Draw a scene, a goal and a start. Pick is harder, so it is drawn more often."""
    task, colour = str(rng.choice(("reach", "pick"), p=(0.25, 0.75))), str(rng.choice(COLOURS))
    env.reset(seed=int(rng.integers(2**31)), options={"task": task, "colour": colour})
    kinds = ("home", "anywhere", "near", "holding")
    kind = rng.choice(kinds, p=[getattr(mixture, name) for name in kinds])
    cube = colour if rng.random() < 0.7 else str(rng.choice(COLOURS))
    finger_rad = CLOSED_FINGERS_RAD if rng.random() < 0.08 else FINGER_OPEN_RAD
    if kind == "anywhere":
        env.teleport(rng, finger_rad=finger_rad)
    elif kind == "near":
        env.teleport(rng, near=cube, finger_rad=finger_rad)
    elif kind == "holding":
        env.teleport(rng, holding=cube)


def _camera(rng: np.random.Generator) -> SensorNoise:
    """Some episodes are seen through JPEG; grey-level noise is added when batches are drawn."""
    quality = int(rng.integers(*JPEG_QUALITY)) if rng.random() < JPEG_SHARE else None
    return SensorNoise(jpeg_quality=quality)


def _keep(env: JacoEnv, mixture: Mixture) -> float:
    """The probability that this frame is kept."""
    state = env.state()
    nearest = min(float(np.linalg.norm(state.tool_pos - cube)) for cube in state.cube_pos.values())
    return mixture.keep_near if nearest < NEAR_M else mixture.keep_far


def label(env: JacoEnv, scale: ActionScale, camera: str = "front") -> Labels:
    """The expert's action for each instruction, and all keypoints, also in that camera's pixels."""
    state = env.state()
    actions = np.stack([expert_action(state, each.task, each.colour) for each in INSTRUCTIONS])
    points = np.stack([*(state.cube_pos[colour] for colour in COLOURS), state.laser_pos, state.tool_pos])
    return Labels(
        actions=scale.normalise(actions)[None].astype(np.float32),
        points_m=points[None].astype(np.float32),
        points_px=env.project(camera, points)[None].astype(np.float32),
        finger_rad=np.array([state.finger_angle], np.float32),
    )


class Imitator:
    """A policy that plays `execute` actions of each of its chunks, or as many as there are, before it looks again."""

    def __init__(self, policy: LocalPolicy, execute: int = 1):
        self.execute = execute
        self._policy = policy
        self._left: list[NDArray[np.float64]] = []

    @property
    def horizon(self) -> int:
        """Actions in a chunk."""
        return self._policy.info.chunk_horizon

    @property
    def asks(self) -> bool:
        """Whether the next action takes a look."""
        return not self._left

    def __call__(self, observed: Mapping[str, Any]) -> NDArray[np.float64]:
        """The action [7] of this step."""
        if self.asks:
            self._policy(observed)
            self._left = list(self._policy.last.chunk.actions[: self.execute])
        return self._left.pop(0)

    def reset(self) -> None:
        """Look again before the next action: an episode begins, or the arm has been moved by another."""
        self._left.clear()
        self._policy.reset()

    def rest(self) -> None:
        """Nothing: no frame is kept."""


def load_imitator(checkpoint: Path, execute: int = 1) -> Imitator:
    """Load a checkpoint as the daemon would on a CPU, on one thread: for worker processes."""
    torch.set_num_threads(1)
    return Imitator(LocalPolicy(load_policy(checkpoint, dtype=torch.float32, device=torch.device("cpu"))), execute)


class DaggerPolicy:
    """The policy in training, with the expert's action in a share of the steps."""

    def __init__(self, imitator: Imitator, expert_share: float):
        self._imitator = imitator
        self._expert_share = expert_share

    def begin(self, rng: np.random.Generator) -> None:
        """Where the policy says chunks, draw how much of each is played."""
        if self._imitator.horizon > 1:
            self._imitator.execute = int(rng.integers(1, self._imitator.horizon + 1))
        self._imitator.reset()

    def act(self, env: JacoEnv, look: Look, rng: np.random.Generator) -> NDArray[np.float64]:
        """The policy's action, or the expert's, after which the policy looks again."""
        if rng.random() < self._expert_share:
            self._imitator.reset()
            return env.expert()
        state = proprioception(env.world.arm)
        return self._imitator({"images": look(), "instruction": env.goal.instruction, "state": state})
