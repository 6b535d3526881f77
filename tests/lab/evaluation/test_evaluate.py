from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stillframe.errors import ConfigError
from stillframe_client.sim import SensorNoise
from stillframe_client.sim.rollout import Episode
from stillframe_lab.evaluation.evaluate import (
    Evaluation,
    camera_sources,
    evaluate,
    ms_per_step,
    summarise,
    wilson,
    with_execute,
)
from stillframe_lab.evaluation.trace import AnsweredFrame, Trace, figures

if TYPE_CHECKING:
    from tests.bench.conftest import Scenes

STILL = np.array([0, 0, 0, 0, 0, 0, 1.0])


class Enough(Exception):
    """Ends an evaluation from inside."""


FRAME = AnsweredFrame("off", "off", 0.0, 0, 268, {"prefill": 1.0})


@dataclass
class Actor:
    """Asks a plain function, and remembers what else it was told."""

    act: Callable[[Any], Any]
    cameras: tuple[str, ...] = ("image",)
    trace: Trace = field(default_factory=Trace)
    told: list[str] = field(default_factory=list)
    horizon: int = 1
    execute: int = 1

    def __call__(self, observed: Any) -> Any:
        """What the function says, as often as a chunk is long."""
        self.told.append("act")
        self.trace.frames.append(FRAME)
        self.chunk = np.array([self.act(observed)] * self.horizon)
        return self.chunk[0]

    def reset(self) -> None:
        """Remember it."""
        self.told.append("reset")

    def rest(self, executed: int | None = None) -> None:
        """Remember it."""
        self.told.append("rest")
        assert executed is not None


def traced(played: list[Episode]) -> Trace:
    """A frame for each step."""
    steps = [FRAME for one in played for _ in one.act_ms]
    return Trace(steps, asked=[True] * len(steps))


def episode(seed: int, *, success: bool = False, wrong: bool = False, act_ms: tuple[float, ...] = (1.0,)) -> Episode:
    """An episode that went as told."""
    return Episode(seed, "reach the red cube", success, wrong, steps=len(act_ms), act_ms=act_ms, wall_s=1.0)


def first_picture(plan: Evaluation) -> Any:
    """What the policy sees first."""
    seen: list[Any] = []

    def look(observed: dict[str, Any]) -> Any:
        seen.append(observed["images"]["image"])
        raise Enough

    with pytest.raises(Enough):
        evaluate(plan, Actor(look), lambda _: None)
    return seen[0]


@pytest.mark.parametrize(
    ("wins", "trials", "interval"),
    [  # worked out by the quadratic whose roots are the bounds, z = 1.959964
        (0, 10, (0.0, 0.277533)),
        (10, 10, (0.722467, 1.0)),
        (5, 10, (0.236593, 0.763407)),
        (95, 100, (0.888249, 0.978457)),
        (198, 200, (0.964278, 0.997253)),
        (1, 1, (0.206549, 1.0)),
    ],
)
def test_the_interval_is_wilsons(wins: int, trials: int, interval: tuple[float, float]) -> None:
    """Known values, among them the ends, where the simpler interval has no width."""
    assert wilson(wins, trials) == pytest.approx(interval, abs=1e-6)


@pytest.mark.parametrize("wins", range(8))
def test_the_bounds_solve_wilsons_equation(wins: int) -> None:
    """At each bound p the observed share lies z standard errors of p away."""
    trials, z = 7, 1.959964
    for bound in wilson(wins, trials):
        assert (wins / trials - bound) ** 2 == pytest.approx(z**2 * bound * (1 - bound) / trials, abs=1e-6)


def test_the_interval_of_failures_mirrors_that_of_successes() -> None:
    """Counting the other outcome turns the interval round."""
    low, high = wilson(3, 20)

    assert wilson(17, 20) == pytest.approx([1 - high, 1 - low])


def test_latency_is_taken_over_all_answers_of_all_episodes() -> None:
    """1 to 100 ms in two episodes of unlike length: a long episode counts for more. A step's share: of all steps."""
    played = [
        episode(0, act_ms=tuple(float(ms) for ms in range(1, 11))),
        episode(1, act_ms=tuple(float(ms) for ms in range(11, 101))),
    ]
    chunked = Trace([FRAME] * 50, asked=[True, False] * 50)
    plan = Evaluation("reach", 2, 0)

    assert summarise(plan, played, "", traced(played))["latency_ms"] == {
        "p50": pytest.approx(50.5),
        "p99": pytest.approx(99.01),
    }
    assert summarise(plan, played, "", chunked)["latency_ms"]["p50"] == pytest.approx(50.0)
    assert summarise(plan, played, "", chunked)["ms_per_step"] == ms_per_step(played) == pytest.approx(50.5)


def test_the_summary_counts_every_episode_once() -> None:
    """Successes, wrong cubes and time-outs are shares of all; seeds that failed are named; JSON takes it all."""
    plan = Evaluation("reach", episodes=4, seed=10, hz=5, noise_sigma=2.0, jpeg_quality=90)
    played = [
        episode(10, success=True, act_ms=(1.0, 1.0)),
        episode(11, wrong=True),
        episode(12),
        episode(13, success=True, act_ms=(1.0,) * 5),
    ]
    document = json.loads(json.dumps(summarise(plan, played, "somebody", traced(played))))

    assert document == {
        "task": "reach",
        "episodes": 4,
        "seed": 10,
        "hz": 5,
        "noise_sigma": 2.0,
        "jpeg_quality": 90,
        "cameras": [],
        "distractor": False,
        "delay": None,
        "variant": None,
        "execute": None,
        "masks": False,
        "policy": "somebody",
        "success": 0.5,
        "success_ci95": pytest.approx(wilson(2, 4)),
        "wrong_cube": 0.25,
        "timed_out": 0.25,
        "first_direction": 0.0,
        "steps_mean": 2.25,
        "latency_ms": {"p50": 1.0, "p99": 1.0},
        "ms_per_step": 1.0,
        "failed_seeds": [11, 12],
        **figures(traced(played), [1.0] * 9),
    }


def test_the_expert_succeeds_and_who_stands_still_does_not(scenes: Scenes) -> None:
    """Seeds follow each other from the first; each episode is shown as it ends; the seed that failed is named."""
    watched: list[Episode] = []

    def act(observed: dict[str, Any]) -> Any:
        return STILL if len(watched) == 1 else scenes.expert(observed)

    plan = Evaluation("reach", episodes=3, seed=40, hz=5)
    played = evaluate(plan, Actor(act), watched.append)
    document = summarise(plan, played, "expert", traced(played))

    assert played == watched
    assert [one.seed for one in played] == [40, 41, 42]
    assert [one.success for one in played] == [True, False, True]
    assert document["failed_seeds"] == [41]
    assert document["timed_out"] == pytest.approx(1 / 3)
    assert all(len(one.act_ms) == one.steps for one in played)
    assert played[1].steps == 30


def test_an_evaluation_can_be_repeated(scenes: Scenes) -> None:
    """Same plan, same policy: same episodes, step for step."""
    plan = Evaluation("reach", episodes=2, seed=7, hz=5, noise_sigma=2.0)
    first, second = (evaluate(plan, Actor(scenes.expert), lambda _: None) for _ in range(2))

    assert [(one.seed, one.instruction, one.success, one.steps) for one in first] == [
        (one.seed, one.instruction, one.success, one.steps) for one in second
    ]


def test_the_plan_reaches_the_scene(scenes: Scenes) -> None:
    """Task, rate and sensor are those that were asked for; a policy of one camera gets one."""
    first_picture(Evaluation("push", episodes=1, seed=0, hz=20, noise_sigma=3.0, jpeg_quality=70))
    tried, asked = scenes.asked

    plain = {"task": "push", "hz": 20, "noise": SensorNoise(sigma=3.0, jpeg_quality=70), "distractor": False}
    plain |= {"delay": None, "variant": None, "masks": False}
    assert tried == {**plain, "cameras": ()}
    assert asked == {**plain, "cameras": ("front",)}
    assert scenes.built[1].max_steps == 240


def test_masks_reach_the_policy_under_its_own_names(scenes: Scenes) -> None:
    """The scene's, of the camera that stands for the policy's; none where they are not asked for."""
    seen: list[Any] = []

    def look(observed: Any) -> Any:
        seen.append(observed.get("masks"))
        raise Enough

    for masks in (True, False):
        with pytest.raises(Enough):
            evaluate(Evaluation("reach", 1, 7, masks=masks), Actor(look, cameras=("image",)), lambda _: None)
    env = scenes.built[1]
    env.reset(seed=7)

    assert seen[1] is None
    assert [*seen[0]] == ["image"]
    assert np.array_equal(seen[0]["image"], env.mask("front"))


def test_noise_reaches_the_picture(scenes: Scenes) -> None:
    """Grey levels of the standard deviation that was asked for, around the clean picture."""
    clean, noisy = (first_picture(Evaluation("reach", 1, seed=5, noise_sigma=sigma)) for sigma in (0.0, 4.0))
    noise = noisy.astype(float) - clean
    inside = (clean > 20) & (clean < 235)  # where nothing is clipped

    assert noise[inside].std() == pytest.approx(4.0, rel=0.05)
    assert abs(noise[inside].mean()) < 0.1
    assert np.array_equal(clean, scenes.built[-1].render())


def test_jpeg_reaches_the_picture(scenes: Scenes) -> None:
    """The picture is what JPEG of that quality leaves of the clean one."""
    squeezed = first_picture(Evaluation("reach", 1, seed=5, jpeg_quality=60))
    clean = scenes.built[-1].render()

    assert np.array_equal(squeezed, SensorNoise(jpeg_quality=60).spoil(clean, np.random.default_rng(0)))
    assert not np.array_equal(squeezed, clean)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"task": "fetch"}, "unknown task 'fetch'; expected one of reach, pick, push, remember"),
        ({"delay": 16}, "a reach has neither delay nor variant"),
        ({"task": "remember", "variant": "hard"}, "unknown variant 'hard'; expected one of simple, ordered"),
        ({"hz": 30}, "hz is 30; expected one of 5, 10, 20"),
        ({"noise_sigma": -2.0}, "sigma is -2.0"),
        ({"jpeg_quality": 101}, "jpeg_quality is 101"),
    ],
)
def test_a_plan_without_a_scene_is_refused(options: dict[str, Any], complaint: str) -> None:
    """A ConfigError: it is for whoever typed it to mend."""
    plan = replace(Evaluation("reach", episodes=1, seed=0), **options)

    with pytest.raises(ConfigError, match=complaint):
        evaluate(plan, Actor(lambda _: STILL), lambda _: None)


def test_a_scene_is_closed_even_if_the_policy_fails(scenes: Scenes) -> None:
    """The error passes through, and no OpenGL context is left behind."""
    first_picture(Evaluation("reach", 1, seed=0))

    assert scenes.closed == len(scenes.built) == 2


@pytest.mark.parametrize(
    ("policys", "scenes_"),
    [
        (("image",), ("front",)),
        (("front", "wrist"), ("front", "wrist")),
        (("wrist",), ("wrist",)),
        (("left",), ("front",)),
        (("image", "wrist"), ("front", "wrist")),
        (("hand_image", "agentview"), ("wrist", "front")),
    ],
)
def test_a_policy_looks_through_its_own_cameras(policys: tuple[str, ...], scenes_: tuple[str, ...]) -> None:
    """Where the simulator has cameras of those names; else through the one on the hand, or beside the robot."""
    assert camera_sources(policys) == dict(zip(policys, scenes_, strict=True))


def test_two_cameras_on_one_mount_are_refused() -> None:
    """The simulator has one of each: the same picture twice is not what such a policy knows."""
    with pytest.raises(ConfigError, match="this policy sees image, left_wrist, right_wrist; the simulator has front"):
        camera_sources(("image", "left_wrist", "right_wrist"))


@pytest.mark.usefixtures("needs_gl")
def test_a_policy_gets_the_simulators_pictures_under_its_names() -> None:
    """Front and wrist are those of the scene; where the plan names cameras, they go out under those names."""
    seen: list[dict[str, Any]] = []

    def look(observed: dict[str, Any]) -> Any:
        seen.append(observed["images"])
        raise Enough

    for cameras in ((), ("front", "wrist")):
        with pytest.raises(Enough):
            evaluate(Evaluation("reach", 1, seed=0, cameras=cameras), Actor(look, ("hand", "image")), lambda _: None)
    own, named = seen

    assert [*own] == ["hand", "image"]
    assert [*named] == ["front", "wrist"]
    assert np.array_equal(own["image"], named["front"])
    assert np.array_equal(own["hand"], named["wrist"])
    assert not np.array_equal(own["hand"], own["image"])


@pytest.mark.parametrize(("execute", "played"), [(None, 3), (1, 1), (8, 8)])
def test_a_plan_says_how_much_of_each_chunk_is_played(execute: int | None, played: int) -> None:
    """Or what the actor says of itself is."""
    plan = Evaluation("reach", 1, seed=0, execute=execute)

    assert with_execute(plan, Actor(enough, horizon=8, execute=3)) == replace(plan, execute=played)


def test_more_than_a_chunk_is_refused() -> None:
    """With what there is."""
    for horizon, said in ((8, "answers 8 actions at once: expected 1 to 8"), (1, "answers 1 action at once")):
        with pytest.raises(ConfigError, match=f"--execute is 9; this policy {said}"):
            with_execute(Evaluation("reach", 1, seed=0, execute=9), Actor(enough, horizon=horizon))


def test_chunks_are_played_before_the_policy_is_asked_again(scenes: Scenes) -> None:
    """Every step is played, every third is asked for, and an episode begins with an answer."""
    actor = Actor(lambda _: STILL, horizon=4)
    played = evaluate(Evaluation("reach", 2, seed=3, hz=5, execute=3), actor, lambda _: None)

    assert [one.steps for one in played] == [30, 30]
    assert actor.trace.asked == [True, False, False] * 20
    assert len(actor.trace.frames) == 20
    assert scenes.closed == 2


def test_cameras_and_distractor_reach_the_scene(scenes: Scenes) -> None:
    """As the policy wants them, or as the plan says."""
    for plan in (Evaluation("reach", 1, seed=0), Evaluation("reach", 1, seed=0, cameras=("wrist",), distractor=True)):
        with pytest.raises(Enough):
            evaluate(plan, Actor(enough, cameras=("front", "wrist")), lambda _: None)

    assert [asked["cameras"] for asked in scenes.asked[1::2]] == [("front", "wrist"), ("wrist",)]
    assert [asked["distractor"] for asked in scenes.asked[1::2]] == [False, True]


def enough(_: object) -> Any:
    """End the evaluation."""
    raise Enough


def test_each_episode_begins_anew_and_every_action_is_followed_by_rest(scenes: Scenes) -> None:
    """Reset, then act and rest by turns; the warm-up is left out of the trace."""
    actor = Actor(scenes.expert)
    played = evaluate(Evaluation("reach", episodes=2, seed=3, hz=5), actor, lambda _: None)
    begun = [index for index, word in enumerate(actor.told) if word == "reset"]

    assert begun == [0, 5, 5 + 1 + 2 * played[0].steps]
    assert actor.told[6 : 6 + 2 * played[0].steps] == ["act", "rest"] * played[0].steps
    assert len(actor.trace.frames) == played[0].steps + played[1].steps
