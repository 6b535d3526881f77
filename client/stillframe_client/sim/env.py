"""The simulated Jaco2 as an environment: reset with a seed, step with an action, look through its cameras.

Knows no policy and no server. Same seed and same actions give bit-identical pictures on one machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe_client.sim import teleport
from stillframe_client.sim.camera import Cameras
from stillframe_client.sim.cues import Cueing, Flash
from stillframe_client.sim.distractor import Crates
from stillframe_client.sim.experts import expert_action
from stillframe_client.sim.heading import Heading
from stillframe_client.sim.lamps import GREY, Lamps
from stillframe_client.sim.proprioception import proprioception
from stillframe_client.sim.scene import CAMERAS
from stillframe_client.sim.sensors import Picture, SensorNoise
from stillframe_client.sim.shapes import Shape
from stillframe_client.sim.show import Show
from stillframe_client.sim.state import COLOURS, FINGER_OPEN_RAD, SceneState, Vector
from stillframe_client.sim.tasks import DIRECTIONS, TASKS, Goal, Referee, Verdict
from stillframe_client.sim.world import World

EPISODE_S = {"reach": 6.0, "pick": 12.0, "push": 12.0}  # of each stage, once the arm is free
PERFECT = SensorNoise()
HAND = "arm_hand_"  # how names of the hand's bodies begin
OPTIONS = ("task", "colour", "direction", "then")
STILL = np.array([0, 0, 0, 0, 0, 0, 1.0])

# "images": {camera: uint8 [px, px, 3]}, "instruction": str, "state": float64 [7]; "masks": {camera: bool [px, px]}.
Observed = dict[str, Any]


class JacoEnv:
    """One arm, one table, three cubes, one instruction. Not thread-safe: draw in the thread that drew first."""

    def __init__(
        self,
        task: str = "pick",
        hz: int = 10,
        cameras: Sequence[str] = ("front",),
        image_px: int = 224,
        noise: SensorNoise = PERFECT,
        max_steps: int | None = None,
        *,
        distractor: bool = False,
        delay: int | None = None,
        variant: str | None = None,
        masks: bool = False,
    ):
        """Build the scene. `cameras` may be empty: then nothing is drawn. With `masks` observations hold them.

        `max_steps` None: 6 s for each cube to reach, else 12 s, from when the arm is free. With `distractor` crates go
        by behind the table, on a path drawn from the seed; all else stays as without. What there is to remember:
        `variant` (None: simple), the arm frozen while a lamp shows it and for `delay` more steps (None: 16).
        """
        unknown = [camera for camera in cameras if camera not in CAMERAS]
        if unknown:
            raise ValueError(f"unknown camera {unknown[0]!r}; expected some of {', '.join(CAMERAS)}")
        if image_px < 16 or (max_steps is not None and max_steps < 1):
            raise ValueError(f"image_px {image_px}, max_steps {max_steps}; expected at least 16 pixels and 1 step")
        if task != "remember" and (delay, variant) != (None, None):
            raise ValueError(f"a {task} has neither delay nor variant; expected them with the task remember only")
        self._task, self._max_steps = _known_task(task), max_steps
        self._cueing = Cueing.of(variant, delay)
        self._cameras, self._noise = tuple(cameras), noise
        self.world = World(hz)
        self._eyes = Cameras(self.world.model, self.world.data, self.world.laser, image_px)
        self._distractor, self._masks = distractor, masks
        self._goal: Goal | None = None

    @property
    def goal(self) -> Goal:
        """What this episode asks for. Raises RuntimeError before the first reset."""
        if self._goal is None:
            raise RuntimeError("no episode yet; expected reset(seed=...) first")
        return self._goal

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, str] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """Begin an episode. `options` may fix task, colour and direction; what it leaves out is drawn from the seed.

        The cubes lie the same for a seed whatever the options say. Raises ValueError for an unknown option.
        """
        parts = np.random.SeedSequence(seed).spawn(5)
        scene, choice, sensor, crates, lamps = (np.random.default_rng(part) for part in parts)
        self._goal = _draw_goal(choice, self._task, self._cueing.variant.cues, options or {})
        self._sensor_rng = sensor
        self._crates = Crates.drawn(crates) if self._distractor else None
        self.world.reset(scene)
        start = self.state()
        self._referee, self._heading = Referee(self._goal, start), Heading(start)
        self._steps, self._over = 0, False
        meant = [stage.colour for stage in self._goal.stages]
        self._show = Show.drawn(lamps, self._cueing, meant, start) if self._goal.task == "remember" else Show()
        return self.observe(), self._info(Verdict(success=False, wrong_object=False))

    def step(self, action: Vector) -> tuple[Observed, float, bool, bool, dict[str, Any]]:
        """Carry out one action [7]: metres and radians per step in the world frame, gripper 0 closes and 1 opens.

        Returns observation, reward (1.0 on success), terminated, truncated, info. Beyond 0.20 m/s and 1.0 rad/s the
        action is clipped. Raises ValueError for a wrong shape or a number that is not finite, RuntimeError when over.
        """
        if self._goal is None or self._over:
            raise RuntimeError("the episode is over or has not begun; expected reset() before step()")
        action = _checked(action)
        self.world.act(STILL if self.frozen else action)
        terminated, truncated, info = self.judge()
        return self.observe(), float(info["success"]), terminated, truncated, info

    def judge(self) -> tuple[bool, bool, dict[str, Any]]:
        """A control period has gone by in `world`: return terminated, truncated, info. For what steps it by itself."""
        frozen = self.frozen
        self._steps += 1
        verdict = self._referee.judge(self.state())
        if not frozen:
            self._heading.follow(self.state())
        self._show.turn(self._steps, self._referee.reached)
        terminated = verdict.success or verdict.wrong_object
        truncated = not terminated and self._steps >= self.max_steps
        self._over = terminated or truncated
        return terminated, truncated, self._info(verdict)

    @property
    def max_steps(self) -> int:
        """After this many steps the episode is cut off."""
        free_s = sum(EPISODE_S[stage.task] for stage in self.goal.stages)
        return self._max_steps or self._show.frozen_steps + round(free_s * self.world.hz)

    @property
    def frozen(self) -> bool:
        """Whether the arm ignores what it is told: there is something to remember first."""
        return self._steps < self._show.frozen_steps

    def observe(self) -> Observed:
        """What a policy gets now, through the sensors: noise is drawn anew at each call, but for the arm's state."""
        instruction = self.goal.instruction
        images = {name: self._noise.spoil(self.render(name), self._sensor_rng) for name in self._cameras}
        masks = {"masks": {name: self.mask(name) for name in self._cameras}} if self._masks else {}
        return {"images": images, "instruction": instruction, "state": proprioception(self.world.arm), **masks}

    def state(self) -> SceneState:
        """The privileged truth, for experts and referees."""
        return self.world.state()

    def expert(self) -> Vector:
        """The expert's action [7] for what is due now. It knows what was shown, and waits until the arm is free."""
        due = self._referee.stage
        return STILL.copy() if self.frozen else expert_action(self.state(), due.task, due.colour, due.direction)

    def render(self, camera: str = "front") -> Picture:
        """Draw uint8 [image_px, image_px, 3] without noise, from any camera of the scene."""
        return self._eyes.picture(camera, self.shapes())

    def mask(self, camera: str = "front") -> NDArray[np.bool_]:
        """Which pixels [image_px, image_px] of a camera's picture show the hand, or a cube that the task names."""
        named = [stage.colour for stage in self.goal.stages]
        hand = [self.world.model.body(at).name for at in range(self.world.model.nbody)]
        return self._eyes.mask(camera, [*named, *(name for name in hand if name.startswith(HAND))])

    def shapes(self) -> list[Shape]:
        """What is drawn now beside the world: crates that go by, lamps."""
        crates = self._crates.boxes(self.world.time_s) if self._crates else []
        return [*crates, *self._show.shapes()]

    def project(self, camera: str, points_m: Vector) -> NDArray[np.float64]:
        """Where points [n, 3] of the world land in a camera's picture: [n, 2] pixels, u right, v down."""
        return self._eyes.project(camera, points_m)

    def teleport(
        self,
        rng: np.random.Generator,
        *,
        near: str | None = None,
        finger_rad: float = FINGER_OPEN_RAD,
        holding: str | None = None,
    ) -> Observed:
        """Put the arm somewhere else at once: anywhere, near a cube, or holding one (grasped and partly lifted).

        `finger_rad` is 0.25 open to 1.25 closed; it does not apply to `holding`. Cubes stay, but for the held one.
        """
        if holding is not None:
            teleport.hold(self.world, rng, self.state().cube_pos[holding])
        else:
            spot = None if near is None else self.state().cube_pos[near]
            teleport.place_anywhere(self.world, rng, spot, finger_rad)
        self._referee = Referee(self.goal, self.state())  # what the teleport did does not count
        return self.observe()

    @property
    def lamps(self) -> Lamps:
        """Where this episode's lamps stand; none but for what is to be remembered."""
        return self._show.lamps

    @property
    def lit(self) -> Flash | None:
        """The lamp that is lit now, to label pictures; a policy has to look."""
        return self._show.lit

    def light(self, flash: Flash | None, rest: str = GREY) -> Observed:
        """Let one lamp flash at once, or none; the others show `rest`, grey or white. It lasts until the next step."""
        self._show.light(flash, rest)
        return self.observe()

    def close(self) -> None:
        """Free the OpenGL context."""
        self._eyes.close()

    def _info(self, verdict: Verdict) -> dict[str, Any]:
        return {
            "success": verdict.success,
            "wrong_object": verdict.wrong_object,
            "touched": self.world.touched(),
            "steps": self._steps,
            "task": self.goal.task,
            "colour": self.goal.colour,
            "direction": self.goal.direction,
            "then": self.goal.then,
            "due": self._referee.stage.colour,
            "frozen": self.frozen,
            "first_direction": self._heading.colour,
        }


def _draw_goal(rng: np.random.Generator, task: str, cues: int, options: Mapping[str, str]) -> Goal:
    unknown = set(options) - set(OPTIONS)
    if unknown:
        raise ValueError(f"unknown option {sorted(unknown)[0]!r}; expected {', '.join(OPTIONS)}")
    colour, direction = str(rng.choice(COLOURS)), str(rng.choice(tuple(DIRECTIONS)))
    task, colour = _known_task(options.get("task", task)), options.get("colour", colour)
    others = [other for other in COLOURS if other != colour]
    then = str(rng.choice(others)) if task == "remember" and cues > 1 else None
    fallback = direction if task == "push" else None
    return Goal(task, colour, options.get("direction", fallback), options.get("then", then))


def _known_task(task: str) -> str:
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; expected one of {', '.join(TASKS)}")
    return task


def _checked(action: Vector) -> Vector:
    """The action as float64 [7], or a ValueError that says what is wrong with it."""
    numbers = np.asarray(action, np.float64)
    if numbers.shape != (7,):
        raise ValueError(
            f"the action has shape {numbers.shape}; expected (7,): dx, dy, dz, droll, dpitch, dyaw, gripper"
        )
    if not np.isfinite(numbers).all():
        raise ValueError(f"the action holds {numbers[~np.isfinite(numbers)][0]}; expected finite numbers only")
    return numbers
