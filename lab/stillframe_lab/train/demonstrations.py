"""Labelled pictures from the simulator, driven by a noisy expert or by the policy in training (DAgger).

Knows environments and their experts; no network. Of the three cubes every frame is labelled for all six instructions.
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
from stillframe_client.sim.table_env import TableEnv
from stillframe_lab.train.frame_store import FrameWriter, Labels
from stillframe_lab.train.recipe import INSTRUCTIONS

PICTURES_VERSION = 2  # raised whenever the scene's look or the expert's law changes; 2: laser spot, levelling labels
NEAR_M = 0.12  # frames closer to a cube are kept more often
JPEG_SHARE, JPEG_QUALITY = 0.3, (80, 96)
CLOSED_FINGERS_RAD, CLOSED_SHARE = 1.2, 0.08  # of the starts
STARTS = ("home", "anywhere", "near", "holding")

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

    def start(self, rng: np.random.Generator) -> str:
        """Draw one of STARTS."""
        return str(rng.choice(STARTS, p=[getattr(self, name) for name in STARTS]))


NOISY_EXPERT = Mixture(home=0.30, anywhere=0.25, near=0.33, holding=0.12, keep_far=0.35, keep_near=0.75, max_steps=60)
DAGGER = Mixture(home=0.70, anywhere=0.10, near=0.14, holding=0.06, keep_far=0.5, keep_near=0.9, max_steps=70)


class Driver(Protocol):
    """Moves the arm while pictures are taken."""

    def begin(self, rng: np.random.Generator) -> None:
        """A new episode starts."""
        ...

    def act(self, env: TableEnv, look: Look, rng: np.random.Generator) -> NDArray[np.float64]:
        """The action [7] to carry out; `look` draws what the cameras see."""
        ...


class Scenes(Protocol):
    """Where a collection's episodes begin."""

    def begin(self, rng: np.random.Generator) -> TableEnv:
        """Draw a scene, a goal and a start -> the environment, ready to step."""
        ...

    def away_m(self, env: TableEnv) -> float:
        """From the tool to the nearest thing that matters."""
        ...

    def close(self) -> None:
        """Free the OpenGL contexts."""
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

    def act(self, env: TableEnv, look: Look, rng: np.random.Generator) -> NDArray[np.float64]:  # noqa: ARG002 (needs no pictures)
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

    def scenes(self) -> Scenes:
        """Where its episodes begin."""
        return CubeScenes(self.mixture)

    def label(self, env: Any, scale: ActionScale, rng: np.random.Generator) -> Labels:  # noqa: ARG002 (draws none)
        """What is known of the frame that the cameras see now; the environment, of its scenes, stays as it is."""
        return label(env, scale, self.cameras[0])


class CubeScenes:
    """Three cubes, to be reached or picked. Implements Scenes."""

    def __init__(self, mixture: Mixture):
        self._mixture = mixture
        self._env = JacoEnv(cameras=(), max_steps=mixture.max_steps)

    def begin(self, rng: np.random.Generator) -> JacoEnv:
        """See Scenes. Pick is harder, so it is drawn more often."""
        env = self._env
        task, colour = str(rng.choice(("reach", "pick"), p=(0.25, 0.75))), str(rng.choice(COLOURS))
        env.reset(seed=int(rng.integers(2**31)), options={"task": task, "colour": colour})
        kind = self._mixture.start(rng)
        cube = colour if rng.random() < 0.7 else str(rng.choice(COLOURS))
        put_arm(env, kind, cube, rng)
        return env

    def away_m(self, env: TableEnv) -> float:  # noqa: ARG002 (there is one)
        """See Scenes."""
        state = self._env.state()
        return min(float(np.linalg.norm(state.tool_pos - cube)) for cube in state.cube_pos.values())

    def close(self) -> None:
        """See Scenes."""
        self._env.close()


def put_arm(env: TableEnv, kind: str, thing: str, rng: np.random.Generator) -> None:
    """Put it where a start of that kind has it; `thing`: what it is near or holds."""
    finger_rad = CLOSED_FINGERS_RAD if rng.random() < CLOSED_SHARE else FINGER_OPEN_RAD
    if kind == "anywhere":
        env.teleport(rng, finger_rad=finger_rad)
    elif kind == "near":
        env.teleport(rng, near=thing, finger_rad=finger_rad)
    elif kind == "holding":
        env.teleport(rng, holding=thing)


def collect(folder: Path, wanted: Collection, driver: Driver, scale: ActionScale) -> None:
    """Fill `folder` with labelled pictures. The same collection gives the same store on one machine."""
    rng = np.random.default_rng(wanted.seed)
    scenes = wanted.scenes()
    writer = FrameWriter(folder, wanted.origin)
    try:
        while len(writer) < wanted.frames:
            _one_episode(scenes, driver, wanted, scale, writer, rng)
    finally:
        scenes.close()
    writer.close()


def _one_episode(
    scenes: Scenes,
    driver: Driver,
    wanted: Collection,
    scale: ActionScale,
    writer: FrameWriter,
    rng: np.random.Generator,
) -> None:
    """Play one episode from a random start and keep some of its frames."""
    env = scenes.begin(rng)
    driver.begin(rng)
    camera = _camera(rng)
    over = False
    while not over and len(writer) < wanted.frames:
        # Rendered once, and only if needed.
        look = cache(lambda: {name: camera.spoil(env.render(name), rng) for name in wanted.cameras})
        near = scenes.away_m(env) < NEAR_M
        if rng.random() < (wanted.mixture.keep_near if near else wanted.mixture.keep_far):
            writer.append(np.stack(list(look().values())), wanted.label(env, scale, rng))
        _, _, terminated, truncated, _ = env.step(driver.act(env, look, rng))
        over = terminated or truncated


def _camera(rng: np.random.Generator) -> SensorNoise:
    """Some episodes are seen through JPEG; grey-level noise is added when batches are drawn."""
    quality = int(rng.integers(*JPEG_QUALITY)) if rng.random() < JPEG_SHARE else None
    return SensorNoise(jpeg_quality=quality)


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

    def act(self, env: TableEnv, look: Look, rng: np.random.Generator) -> NDArray[np.float64]:
        """The policy's action, or the expert's, after which the policy looks again."""
        if rng.random() < self._expert_share:
            self._imitator.reset()
            return env.expert()
        state = proprioception(env.world.arm)
        return self._imitator({"images": look(), "instruction": env.instruction, "state": state})
