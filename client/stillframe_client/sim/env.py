"""The simulated Jaco2 and three cubes as an environment: reset with a seed, step with an action, look.

Knows no policy and no server. Same seed and same actions give bit-identical pictures on one machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stillframe_client.sim.cues import Cueing, Flash
from stillframe_client.sim.experts import expert_action
from stillframe_client.sim.heading import Heading
from stillframe_client.sim.lamps import GREY, Lamps
from stillframe_client.sim.sensors import SensorNoise
from stillframe_client.sim.shapes import Shape
from stillframe_client.sim.show import Show
from stillframe_client.sim.state import COLOURS, SceneState, Vector
from stillframe_client.sim.table_env import PERFECT, Ended, Observed, Seeing, TableEnv, only_known
from stillframe_client.sim.tasks import DIRECTIONS, TASKS, Goal, Referee, Verdict
from stillframe_client.sim.world import World

EPISODE_S = {"reach": 6.0, "pick": 12.0, "push": 12.0}  # of each stage, once the arm is free
OPTIONS = ("task", "colour", "direction", "then")
STILL = np.array([0, 0, 0, 0, 0, 0, 1.0])


class JacoEnv(TableEnv):
    """One arm, one table, three cubes, one instruction. Not thread-safe: draw in the thread that drew first."""

    world: World

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
        seeing = Seeing(tuple(cameras), image_px, noise, distractor, masks)
        if task != "remember" and (delay, variant) != (None, None):
            raise ValueError(f"a {task} has neither delay nor variant; expected them with the task remember only")
        self._task = _known_task(task)
        self._cueing = Cueing.of(variant, delay)
        super().__init__(World(hz), seeing, max_steps)
        self._goal: Goal | None = None

    @property
    def goal(self) -> Goal:
        """What this episode asks for. Raises RuntimeError before the first reset."""
        if self._goal is None:
            raise RuntimeError("no episode yet; expected reset(seed=...) first")
        return self._goal

    @property
    def instruction(self) -> str:
        """See TableEnv."""
        return self.goal.instruction

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, str] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """Begin an episode. `options` may fix task, colour and direction; what it leaves out is drawn from the seed.

        The cubes lie the same for a seed whatever the options say. Raises ValueError for an unknown option.
        """
        parts = np.random.SeedSequence(seed).spawn(5)
        scene, choice, sensor, crates, lamps = (np.random.default_rng(part) for part in parts)
        self._goal = _draw_goal(choice, self._task, self._cueing.variant.cues, options or {})
        self._begin(scene, sensor, crates)
        start = self.state()
        self._referee, self._heading = Referee(self._goal, start), Heading(start)
        meant = [stage.colour for stage in self._goal.stages]
        self._show = Show.drawn(lamps, self._cueing, meant, start) if self._goal.task == "remember" else Show()
        return self.observe(), self._info(Verdict(success=False, wrong_object=False))

    def judge(self) -> Ended:
        """See TableEnv."""
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

    def state(self) -> SceneState:
        """The privileged truth, for experts and referees."""
        return self.world.state()

    def expert(self) -> Vector:
        """See TableEnv. It knows what was shown, and waits until the arm is free."""
        due = self._referee.stage
        return STILL.copy() if self.frozen else expert_action(self.state(), due.task, due.colour, due.direction)

    def shapes(self) -> list[Shape]:
        """What is drawn now beside the world: crates that go by, lamps."""
        return [*super().shapes(), *self._show.shapes()]

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

    def _carry_out(self, action: Vector) -> None:
        self.world.act(STILL if self.frozen else action)

    def _as_cube(self, thing: str) -> Vector:
        return self.state().cube_pos[thing]

    def _judge_from_here(self) -> None:
        self._referee = Referee(self.goal, self.state())

    def _named(self) -> Sequence[str]:
        return [stage.colour for stage in self.goal.stages]

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
    only_known(options, OPTIONS)
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
