"""One scene with its arm behind the driver's queue, and the episode that is played in it.

Knows no socket and no clock: times are handed in, and only grow. An episode's time begins with the first command that
moves the arm after a reset, since a bridge needs a moment to arm; it is judged once a control period, as the
environment's own steps are.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, List, Mapping, Optional

from stillframe_client.jaco2.arms.driver import REPORT_S, DriverModel
from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.world.body import MujocoBody
from stillframe_client.sim.engine import mujoco
from stillframe_client.sim.env import JacoEnv

if TYPE_CHECKING:
    from stillframe_client.jaco2.domain import ArmState, Twist
    from stillframe_client.sim.shapes import Shape

EPSILON_S = 1e-6
TASKS = ("reach", "pick", "push")


class Room:
    """Arm, cubes and episode of one process. Pictures are drawn elsewhere, from a copy taken under the lock."""

    def __init__(self, now_s: float, *, task: str = "pick", hz: int = 10, seed: int = 0, report_s: float = REPORT_S):
        if task not in TASKS:
            raise ValueError(f"task is {task!r}; expected one of {', '.join(TASKS)}")
        self._env = JacoEnv(task, hz=hz, cameras=())
        self._body = MujocoBody(self._env.world)
        self.lock = threading.Lock()
        self._period_s = 1.0 / hz
        self._env.reset(seed=seed)
        self._driver = DriverModel(self._body, now_s, report_s=report_s)
        self._played_s = now_s
        self._began_s: Optional[float] = None
        self._begin(seed)

    @property
    def model(self) -> Any:
        """The compiled scene, for those who draw."""
        return self._env.world.model

    @property
    def state(self) -> ArmState:
        """The arm's newest report."""
        return replace(self._driver.state, joints_rad=tuple(self._body.joints_rad().tolist()))

    @property
    def seq(self) -> int:
        """Of the newest report."""
        return self._driver.state.seq

    def command(self, twist: Twist) -> None:
        """One point; the arm is not on its own way any more."""
        self._homing = False
        self._moved |= bool(not self._driver.stopped and (twist.linear_m_s.any() or twist.angular_rad_s.any()))
        self._driver.command(twist)

    def stop(self) -> None:
        """Erase the queue and let nothing in."""
        self._homing = False
        self._driver.stop()

    def start(self) -> None:
        """Let commands in again."""
        self._driver.start()

    def home(self) -> None:
        """Go to the home pose by itself, hand open."""
        self._driver.start()
        self._homing = True

    def advance(self, now_s: float) -> None:
        """Play what is due by now, point by point, and judge the episode where a control period has gone by."""
        while self._played_s + TICK_S <= now_s + EPSILON_S:
            self._played_s += TICK_S
            with self.lock:
                self._play(self._played_s)

    def _play(self, now_s: float) -> None:
        twist = self._body.homing() if self._homing else None
        if twist is not None:
            self._driver.command(twist)
        self._homing = twist is not None
        self._driver.advance(now_s)
        if self._moved and self._began_s is None:
            self._began_s = self._judged_s = now_s - TICK_S
        if self._began_s is not None and now_s - self._judged_s >= self._period_s - EPSILON_S:
            self._judged_s += self._period_s
            self._judge()

    def reset(self, seed: int, options: Mapping[str, str]) -> dict[str, Any]:
        """Put arm and cubes where the seed says; the arm is stopped. Raises ValueError for an option that is none."""
        if options.get("task", "pick") not in TASKS:
            raise ValueError(f"task is {options['task']!r}; expected one of {', '.join(TASKS)}")
        with self.lock:
            observed, _ = self._env.reset(seed=seed, options=options)
            self._driver.stop()
        self._begin(seed)
        return {"instruction": observed["instruction"], **self.verdict()}

    def verdict(self) -> dict[str, Any]:
        """How the episode stands."""
        done = self._info.get("success", False) or self._info.get("wrong_object", False)
        told = {name: self._info.get(name) for name in ("success", "wrong_object", "touched")}
        return {
            **told,
            "done": done,
            "seed": self._seed,
            "steps": self._steps,
            "instruction": self._env.goal.instruction,
            "task": self._env.goal.task,
            "colour": self._env.goal.colour,
        }

    def expert(self) -> dict[str, Any]:
        """The scripted expert's action [7] for what is due now, in the simulation's frame, and where the tool is."""
        state = self._env.state()
        return {"action": self._env.expert().tolist(), "tool_m": state.tool_pos.tolist(), "finger": state.finger_angle}

    def counts(self) -> dict[str, int]:
        """What the driver saw."""
        return dict(vars(self._driver.counts))

    def copy_into(self, data: Any) -> List[Shape]:
        """Copy the scene into another MjData; return what is drawn beside it."""
        with self.lock:
            mujoco.mj_copyData(data, self.model, self._env.world.data)
            return self._env.shapes()

    def _begin(self, seed: int) -> None:
        self._seed, self._steps, self._moved = seed, 0, False
        self._began_s = None
        self._judged_s = 0.0
        self._info: dict[str, Any] = {"success": False, "wrong_object": False}
        self._homing = False
        self._body.settle()

    def _judge(self) -> None:
        if self._info["success"] or self._info["wrong_object"]:
            return
        _, _, self._info = self._env.judge()
        self._steps += 1
