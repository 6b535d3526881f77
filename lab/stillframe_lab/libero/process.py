"""The simulator's process, started and asked by the lab: one task open at a time, one request after another.

Knows how it is started, its messages and its log; no protocol of evaluation and no policy.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stillframe.errors import ConfigError, StillframeError
from stillframe_client import errors
from stillframe_client.errors import WireError
from stillframe_client.sim import gl
from stillframe_lab.libero.simulator import messages
from stillframe_lab.libero.simulator.messages import receive, send

ENVIRONMENT = "STILLFRAME_LIBERO"  # names the virtual environment, where it is not FOLDER
FOLDER = Path(".venv/libero")
ANSWER_S = 600.0  # opening a task compiles it: seconds, or minutes where the machine is busy
TAIL_CHARS = 1500
# Appended, not put before: the environment's own packages win over whatever lies beside ours.
FOLDERS_OF_OURS = Path(messages.__file__).parents[3], Path(errors.__file__).parents[1]
START = (
    "import sys; sys.path += sys.argv[2:]; "
    "from stillframe_lab.libero.simulator.serve import main; main(int(sys.argv[1]))"
)

CAMERAS = AGENT, WRIST = "agentview", "wrist"
Drawing = Literal["full", "fast", ""]  # the benchmark's pictures; coarser ones in a sixth of the time; none
Pictures = Mapping[str, NDArray[np.uint8]]  # camera -> [height, width, 3], rows upwards, as OpenGL has them
Masks = Mapping[str, NDArray[np.bool_]]  # camera -> [height, width] of its picture, rows upwards
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """An open task, as the simulator describes it."""

    instruction: str
    init_states: int
    interest: Sequence[str]  # the objects that the task is about, the one that is moved first
    bounds: Mapping[str, Vector]  # object -> its lowest and highest corner in its own frame [2, 3], m
    versions: Mapping[str, str]  # of the packages that decide how it behaves


@dataclass(frozen=True)
class Reading:
    """What the simulator says after a reset or a step."""

    position: Vector  # [3] of the hand, m
    quaternion: Vector  # [4] of the hand, x y z w
    fingers: Vector  # [2], m
    success: bool
    objects: Mapping[str, Vector]  # object -> position, m, and quaternion x y z w [7]: the truth, for experts alone


@dataclass(frozen=True)
class CameraPose:
    """Where a camera is. It looks along its -z; x is to the right in the picture, y upwards."""

    position: Vector  # [3], m
    turn: Vector  # [3, 3], its axes in the world as columns
    fovy_deg: float

    def project(self, points: Vector, px: int) -> Vector:
        """Points [..., 3] in the world -> u, v [..., 2] in its square picture, turned as policies are sent it."""
        x, y, z = np.moveaxis((points - self.position) @ self.turn, -1, 0)
        focal_px = px / 2 / np.tan(np.radians(self.fovy_deg) / 2)
        return np.stack([px / 2 + focal_px * x / z, px / 2 + focal_px * y / z], axis=-1)


class SimulatorError(StillframeError):
    """The simulator's process failed, or answered with a failure."""


def simulator_python() -> Path:
    """The interpreter of the simulator's environment. Raises ConfigError where there is none."""
    folder = Path(os.environ.get(ENVIRONMENT) or FOLDER)
    python = folder / "bin" / "python"
    if not (folder / ".installed").is_file() or not python.exists():
        raise ConfigError(f"no simulator of LIBERO in {folder}; `make libero` installs it, {ENVIRONMENT} names another")
    return python


def start_command(python: Path) -> Sequence[str]:
    """The command of the simulator's process, but for its socket."""
    return [str(python), "-I", "-c", START, "{}", *dict.fromkeys(map(str, FOLDERS_OF_OURS))]


class SimulatorProcess:
    """The simulator; but for `draw` "" it can make pictures, which takes OpenGL. Belongs to one thread."""

    def __init__(self, command: Sequence[str], *, draw: Drawing = "full", answer_s: float = ANSWER_S):
        """Start `command`, in which "{}" stands for the number of its socket. Raises NoOpenGLError."""
        self._draw = draw
        drawing = {"MUJOCO_GL": gl.choose(os.environ) or ""} if draw else {}
        one_core = {"LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the process
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(answer_s)
        number = theirs.fileno()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 -- our own
                [str(number) if part == "{}" else part for part in command],
                env={**os.environ, **one_core, **drawing},
                pass_fds=(number,),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
            )

    def open(self, suite: str, task: int) -> Scene:
        """Open a task of a suite, in the place of the one that was open."""
        said = self._asked("open", suite=suite, task=task, draw=self._draw)
        return Scene(**said)

    def reset(self, init_state: int | None, seed: int) -> Reading:
        """Begin an episode from one of the task's initial states; None: as the simulator draws it.

        `seed` places what the initial states do not hold, such as the cabinet.
        """
        return _reading(self._asked("reset", init_state=init_state, seed=seed))

    def step(self, action: Vector) -> Reading:
        """Apply an action [7] for one control step, 50 ms."""
        return _reading(self._asked("step", action=np.asarray(action, np.float64)))

    def pictures(self, cameras: Sequence[str] = CAMERAS) -> Pictures:
        """Draw these cameras as they are now; each takes a tenth of a second and more."""
        return self._asked("pictures", cameras=[*cameras])

    def masks(self, cameras: Sequence[str] = CAMERAS) -> Masks:
        """Which pixels of these cameras' pictures show the hand or what the task is about.

        Raises SimulatorError unless pictures are "fast" ones.
        """
        return self._asked("masks", cameras=[*cameras])

    def camera(self, name: str) -> CameraPose:
        """Where a camera is now."""
        return CameraPose(**self._asked("camera", name=name))

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def __enter__(self) -> SimulatorProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _asked(self, do: str, **fields: Any) -> dict[str, Any]:
        try:
            send(self._socket, {"do": do, **fields})
            reply = receive(self._socket)
        except TimeoutError:
            raise SimulatorError(f"the simulator did not answer {do!r} in time; {self._last_words()}") from None
        except (OSError, WireError) as error:
            raise SimulatorError(f"the simulator ended at {do!r} ({error}); {self._last_words()}") from error
        if reply is None:
            raise SimulatorError(f"the simulator ended at {do!r}; {self._last_words()}")
        if "error" in reply:
            raise SimulatorError(f"the simulator failed at {do!r}: {reply['error']}")
        return reply

    def _last_words(self) -> str:
        self._log.seek(0)
        said = self._log.read().decode(errors="replace")[-TAIL_CHARS:].strip()
        return f"its last words: {said or 'none'}"


def _reading(said: Mapping[str, Any]) -> Reading:
    return Reading(
        position=said["position"],
        quaternion=said["quaternion"],
        fingers=said["fingers"],
        success=said["success"],
        objects=said["objects"],
    )
