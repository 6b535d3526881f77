"""The benchmark's input: one recorded episode of the simulated arm in scene.msgpack: two cameras' JPEGs, its state.

Knows a file; no model. Recording it needs the simulator, reading it does not.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgpack
import numpy as np
import PIL.Image

from stillframe.domain import Image, Observation, PolicyInfo
from stillframe.engine.local import LocalPolicy
from stillframe.errors import ConfigError
from stillframe.models.base import PolicyModel

if TYPE_CHECKING:
    from stillframe_client.sim import JacoEnv

SCENE_FILE = Path(__file__).with_name("scene.msgpack")
SCENE_FRAMES = 40
JPEG_QUALITY = 90
SEED = 3_000
CAMERA = "image"  # a single camera may have any name
CAMERAS = ("front", "wrist")

Motion = Literal["moving", "static"]


@dataclass(frozen=True)
class SceneFrame:
    """One frame as it comes from a robot."""

    jpeg: bytes
    instruction: str
    wrist: bytes = b""  # the second camera's
    state: tuple[float, ...] = ()  # of the arm

    def of_policy(self, info: PolicyInfo) -> Observation:
        """What such a policy reads of it."""
        return self.observation(info.cameras, with_state=info.state is not None)

    def observation(self, cameras: Sequence[str] = (CAMERA,), *, with_state: bool = False) -> Observation:
        """The pictures of so many cameras decoded, at most two, under these names; and the state."""
        pictures = {name: _picture(jpeg) for name, jpeg in zip(cameras, (self.jpeg, self.wrist), strict=False)}
        return Observation(pictures, self.instruction, state=np.asarray(self.state) if with_state else None)


@dataclass(frozen=True)
class Scene:
    """Consecutive frames of one episode."""

    shots: Sequence[SceneFrame]

    def shot(self, motion: Motion, turn: int, robot: int = 0) -> SceneFrame:
        """Frame `turn` of a robot: forward to the last frame and back, so that nothing jumps; or always the same.

        Every robot starts elsewhere in the episode.
        """
        last = len(self.shots) - 1
        start = robot * 7 % (2 * last)
        if motion == "static":
            return self.shots[start % len(self.shots)]
        place = (start + turn) % (2 * last)
        return self.shots[place if place <= last else 2 * last - place]


def load_scene(file: Path = SCENE_FILE) -> Scene:
    """Read what `record_scene` wrote. Raises ConfigError for a file that is none."""
    try:
        kept = msgpack.unpackb(file.read_bytes())
        parts = zip(kept["frames"], kept["wrist"], kept["states"], strict=True)
        shots = [SceneFrame(jpeg, kept["instruction"], wrist, tuple(state)) for jpeg, wrist, state in parts]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{file} is no recorded scene ({type(error).__name__}); `stillframe bench --record` makes one"
        ) from error
    if len(shots) < 2:
        raise ConfigError(f"{file} has {len(shots)} frames; expected at least 2")
    return Scene(shots)


def record_scene(model: PolicyModel, file: Path = SCENE_FILE, frames: int = SCENE_FRAMES, seed: int = SEED) -> Scene:
    """Write the first frames of the first pick episode, from `seed` on, that lasts as long. Needs the simulator."""
    from contextlib import closing

    from stillframe_client.sim import JacoEnv

    with closing(JacoEnv("pick", cameras=CAMERAS)) as env:
        episode: list[SceneFrame] = []
        while len(episode) < frames:
            episode = _episode(model, env, frames, seed)
            seed += 1
    parts = {
        "frames": [frame.jpeg for frame in episode],
        "wrist": [frame.wrist for frame in episode],
        "states": [frame.state for frame in episode],
    }
    instruction = episode[0].instruction
    file.write_bytes(msgpack.packb({"task": "pick", "seed": seed - 1, "instruction": instruction, **parts}))
    return load_scene(file)


def _episode(model: PolicyModel, env: JacoEnv, frames: int, seed: int) -> list[SceneFrame]:
    """Up to so many frames, with the model acting on whole pictures of the first camera."""
    policy = LocalPolicy(model)
    episode: list[SceneFrame] = []
    observed, _ = env.reset(seed=seed)
    over = False
    while len(episode) < frames and not over:
        front, wrist = (observed["images"][camera] for camera in CAMERAS)
        episode.append(SceneFrame(_jpeg(front), observed["instruction"], _jpeg(wrist), (*observed["state"].tolist(),)))
        observed, _, terminated, truncated, _ = env.step(policy({**observed, "images": {CAMERA: front}}))
        over = terminated or truncated
    return episode


def _picture(jpeg: bytes) -> Image:
    decoded: Image = np.asarray(PIL.Image.open(io.BytesIO(jpeg)).convert("RGB"))
    return decoded


def _jpeg(picture: Image) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(picture).save(buffer, "jpeg", quality=JPEG_QUALITY)
    return buffer.getvalue()
