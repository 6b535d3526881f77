from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stillframe_client.sim import COLOURS, JacoEnv, SensorNoise, expert_action
from stillframe_client.sim.cues import CUE_STEPS, VARIANTS

DELAY = 5
AWAY = np.array([0.02, 0.02, -0.02, 0.1, 0.1, 0.1, 0.0])


@pytest.fixture(scope="module", params=list(VARIANTS))
def env(request: pytest.FixtureRequest) -> JacoEnv:
    """Each variant, undrawn."""
    return JacoEnv("remember", cameras=(), delay=DELAY, variant=request.param)


@pytest.fixture(scope="module")
def seen(needs_gl: None) -> Iterator[JacoEnv]:  # noqa: ARG001 -- for its skip
    """The hardest variant, through both cameras that are not perfect."""
    noise = SensorNoise(sigma=2.0)
    made = JacoEnv("remember", cameras=("front", "wrist"), noise=noise, delay=DELAY, variant="ordered-distractor")
    yield made
    made.close()


@pytest.fixture(scope="module")
def unseen(needs_gl: None) -> Iterator[JacoEnv]:  # noqa: ARG001 -- for its skip
    """The hardest variant, drawn where a test looks only."""
    made = JacoEnv("remember", cameras=(), delay=DELAY, variant="ordered-distractor")
    yield made
    made.close()


def played(env: JacoEnv, seed: int, options: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """What the environment says after each of the expert's steps."""
    _, info = env.reset(seed=seed, options=options)
    told, over = [info], False
    while not over:
        _, _, terminated, truncated, info = env.step(env.expert())
        told.append(info)
        over = terminated or truncated
    return told


@pytest.mark.parametrize("seeds", [range(3), pytest.param(range(3, 10), marks=pytest.mark.slow)])
def test_the_expert_remembers(env: JacoEnv, seeds: range) -> None:
    """Every scene, of each variant, and its first steps are towards the first cube."""
    ends = [played(env, seed)[-1] for seed in seeds]

    assert [end["success"] for end in ends] == [True] * len(seeds)
    assert [end["first_direction"] for end in ends] == [end["colour"] for end in ends]


def test_two_colours_are_drawn_where_two_are_to_be_remembered(env: JacoEnv) -> None:
    """Different ones, every pair; else one only."""
    infos = [env.reset(seed=seed)[1] for seed in range(60)]
    pairs = {(info["colour"], info["then"]) for info in infos}
    ordered = {(one, other) for one in COLOURS for other in COLOURS if one != other}

    assert pairs in ({(colour, None) for colour in COLOURS}, ordered)


def test_the_instruction_never_names_a_colour(env: JacoEnv) -> None:
    """It is the same in every episode: the answer is in the lamps alone."""
    said = {env.reset(seed=seed)[0]["instruction"] for seed in range(20)}
    words = {word for instruction in said for word in instruction.split()}

    assert len(said) == 1
    assert not words & set(COLOURS)


def test_the_arm_is_frozen_until_the_delay_is_over(env: JacoEnv) -> None:
    """Whatever it is told it stays to the millimetre; then it has as long as any reach."""
    _, info = env.reset(seed=0)
    start, held = env.state(), []
    while info["frozen"]:
        info = env.step(AWAY)[4]
        held.append(env.state())
    flashes = len(COLOURS) if len(env.lamps.spots_m) > 1 else len(env.goal.stages)
    env.step(AWAY)

    assert len(held) == flashes * CUE_STEPS + (flashes - 1) * 4 + DELAY
    assert max(np.abs(state.tool_pos - start.tool_pos).max() for state in held) < 1e-3
    assert np.abs(env.state().tool_pos - start.tool_pos).max() > 5e-3
    assert env.max_steps == len(held) + 60 * len(env.goal.stages)


def test_another_colour_is_wrong(env: JacoEnv) -> None:
    """Who makes for a cube that is not due fails, and the first direction tells."""
    _, info = env.reset(seed=4)
    wrong = next(colour for colour in COLOURS if colour not in (info["colour"], info["then"]))
    over = False
    while not over:
        _, _, over, _, info = env.step(expert_action(env.state(), "reach", wrong))

    assert (info["wrong_object"], info["success"], info["first_direction"]) == (True, False, wrong)


def test_options_fix_what_is_shown() -> None:
    """Which colours, in which order; cubes and lamps stay where they were."""
    env = JacoEnv("remember", cameras=(), variant="ordered", delay=0)
    spots = []
    for colour, then in (("red", "blue"), ("blue", "red")):
        told = played(env, 5, {"colour": colour, "then": then})
        spots.append(env.lamps.spots_m)

        assert (told[-1]["colour"], told[-1]["then"], told[-1]["success"]) == (colour, then, True)
    assert np.array_equal(*spots)


def test_cues_are_gone_when_the_arm_is_free(unseen: JacoEnv) -> None:
    """Episodes that differ in nothing but what was shown look alike from the last flash on, to the bit."""
    seconds = []
    for colours in ({"colour": "red", "then": "blue"}, {"colour": "green", "then": "red"}):
        unseen.reset(seed=8, options=colours)
        pictures = [unseen.render()]
        while unseen.frozen:
            unseen.step(AWAY)
            pictures.append(unseen.render())
        seconds.append(pictures)
    differ = [bool((one != other).any()) for one, other in zip(*seconds, strict=True)]

    assert any(differ)
    assert not any(differ[-DELAY - 1 :])


def test_lamps_turn_white_when_the_first_is_reached(unseen: JacoEnv) -> None:
    """What is due next can be seen, and nothing else of what was shown."""
    _, info = unseen.reset(seed=9)
    white_px: dict[str, list[int]] = {info["colour"]: [], info["then"]: []}
    over = False
    while not over:
        if not info["frozen"]:
            white_px[info["due"]].append(int((unseen.render() > 235).all(-1).sum()))
        _, _, over, _, info = unseen.step(unseen.expert())

    assert max(white_px[info["colour"]]) < 10
    assert min(white_px[info["then"]]) > 200


def test_the_same_seed_shows_the_same(seen: JacoEnv) -> None:
    """Bit for bit, noise included, in both cameras; another seed shows something else."""
    first, again, other = (_pictures(seen, seed) for seed in (3, 3, 4))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.usefixtures("needs_gl")
def test_other_tasks_have_no_lamps_and_look_as_they_did(seen: JacoEnv) -> None:
    """A scene asked for another task is that task's own, to the bit, though it remembered something before."""
    plain = JacoEnv("pick", cameras=("front", "wrist"), noise=SensorNoise(sigma=2.0))
    seen.reset(seed=1)
    ours, theirs = (_pictures(env, 2, {"task": "pick"}) for env in (seen, plain))
    plain.close()

    assert len(plain.lamps.spots_m) == 0
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("wrong", [{"delay": 16}, {"variant": "simple"}])
def test_other_tasks_have_no_delay(wrong: dict[str, Any]) -> None:
    """What would change nothing is refused."""
    with pytest.raises(ValueError, match="a pick has neither delay nor variant"):
        JacoEnv("pick", cameras=(), **wrong)


def _pictures(env: JacoEnv, seed: int, options: dict[str, str] | None = None) -> NDArray[np.uint8]:
    """What both cameras see in an episode's first steps."""
    observed, _ = env.reset(seed=seed, options=options)
    seen = [*observed["images"].values()]
    for _ in range(8):
        seen += env.step(env.expert())[0]["images"].values()
    return np.stack(seen)
