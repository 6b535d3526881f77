from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import pi, radians

import numpy as np
import pytest

from stillframe.errors import ConfigError
from stillframe_lab.libero.episode import Answers
from stillframe_lab.libero.expert.geometry import DOWN, box_in_world, turn_between, turn_of, yawed
from stillframe_lab.libero.expert.jobs import BowlOnPlate, ThingInBasket, job_of
from stillframe_lab.libero.expert.player import ExpertPlayer
from stillframe_lab.libero.expert.servo import CLOSED, FRICTION, OPEN, STUCK_STEPS, Phase, PickAndPlace
from stillframe_lab.libero.process import Reading, Scene

UPRIGHT = [0.0, 0.0, 0.0, 1.0]
DOWNWARD = np.array([1.0, 0.0, 0.0, 0.0])
ON_ITS_SIDE = [np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)]  # a quarter about x: y points up, as meshes of LIBERO's are
SCENE = Scene(
    "pick up the black bowl next to the plate and place it on the plate",
    50,
    ["bowl", "plate"],
    {"bowl": np.zeros((2, 3)), "plate": np.zeros((2, 3)), "wooden_cabinet_1": np.zeros((2, 3))},
    {},
)
DRAWER = replace(SCENE, instruction="pick up the black bowl in the top drawer of the wooden cabinet and ...")


def pose(x: float, y: float, z: float, quaternion: list[float] = UPRIGHT) -> np.ndarray:
    """Seven numbers."""
    return np.array([x, y, z, *quaternion])


class Toy:
    """A hand that goes where it is told, fingers that close in ten steps, and a bowl that they hold at its rim."""

    def __init__(self, *, slips: bool = False):
        self.hand, self.width, self.bowl = np.array([-0.2, 0.0, 1.17]), 0.08, np.array([0.1, 0.2, 0.9])
        self.plate, self.held, self.slips = np.array([0.05, -0.1, 0.9]), False, slips
        self.highest = 0.0

    @property
    def reading(self) -> Reading:
        """What the simulator would say."""
        done = not self.held and bool(np.hypot(*(self.bowl - self.plate)[:2]) < 0.03)
        fingers = np.array([self.width / 2, -self.width / 2])
        objects = {"bowl": pose(*self.bowl), "plate": pose(*self.plate)}
        return Reading(self.hand, DOWNWARD, fingers, done, objects)

    def step(self, action: np.ndarray) -> None:
        """A control step; the rim is where the expert looks for it."""
        assert np.abs(action[:3]).max() <= 1.0
        moved = action[:3] * 0.02
        rim = self.bowl + np.array([0, 0.05, 0.026])
        at_rim = bool(np.linalg.norm(self.hand - rim) < 0.02)
        self.hand = self.hand + moved
        self.width = float(np.clip(self.width + (0.008 if action[6] == OPEN else -0.008), 0.004 if at_rim else 0, 0.08))
        self.held = action[6] == CLOSED and at_rim and self.width <= 0.005
        if self.held:
            self.bowl = self.bowl + moved
            self.highest = max(self.highest, self.bowl[2])
            if self.slips and self.bowl[2] > 0.95:
                self.slips, self.bowl = False, np.array([*self.bowl[:2], 0.9])


def played(toy: Toy, steps: int) -> tuple[list[Phase], int]:
    """The phases in their order, and the steps until the bowl was put."""
    expert, phases = PickAndPlace(BowlOnPlate("bowl", "plate")), [Phase.APPROACH]
    for step in range(steps):
        toy.step(expert.action(toy.reading))
        if expert.phase is not phases[-1]:
            phases.append(expert.phase)
        if toy.reading.success:
            return phases, step
    raise AssertionError(f"not put in {steps} steps: {phases}")


def test_the_bowl_is_taken_lifted_put_and_let_go() -> None:
    """In this order, over what may stand between, and only then do the fingers open."""
    toy = Toy()
    phases, _ = played(toy, 120)

    assert phases == [Phase.APPROACH, Phase.CLOSE, Phase.CARRY, Phase.OPEN]
    assert toy.highest > 0.97
    assert toy.bowl == pytest.approx(toy.plate, abs=0.02)


def test_what_slips_out_of_the_hand_is_taken_again() -> None:
    """The expert looks where the bowl is, not where it should be."""
    phases, _ = played(Toy(slips=True), 200)

    assert phases[2:6] == [Phase.CARRY, Phase.APPROACH, Phase.CLOSE, Phase.CARRY]


def test_fingers_that_met_hold_nothing() -> None:
    """It opens and tries again, whatever the object's place says."""
    toy = Toy()
    expert = PickAndPlace(BowlOnPlate("bowl", "plate"))
    while expert.phase is not Phase.CARRY:
        toy.step(expert.action(toy.reading))
    action = expert.action(replace(toy.reading, fingers=np.array([0.001, -0.001])))

    assert action[6] == OPEN
    assert expert.phase is not Phase.CARRY


def test_a_bowl_that_tilts_in_the_hand_is_not_lost() -> None:
    """It hangs from its rim, as far from the hand as before; one that lies elsewhere is taken again."""
    toy, expert = Toy(), PickAndPlace(BowlOnPlate("bowl", "plate"))
    while expert.phase is not Phase.CARRY:
        toy.step(expert.action(toy.reading))
    held_m = np.linalg.norm(toy.bowl - toy.hand)
    toy.bowl = toy.hand - np.array([0.0, 0.0, held_m])
    expert.action(toy.reading)
    hanging = expert.phase
    toy.bowl = toy.hand - np.array([0.0, 0.0, held_m + 0.04])
    expert.action(toy.reading)

    assert (hanging, expert.phase) == (Phase.CARRY, Phase.APPROACH)


def test_what_friction_holds_off_is_pushed() -> None:
    """An arm that stays some millimetres from the grasp is told more and more, up to a limit; nothing of it stays."""
    toy, expert = Toy(), PickAndPlace(BowlOnPlate("bowl", "plate"))
    rim = toy.bowl + np.array([0, 0.05, 0.026])
    toy.hand = rim + np.array([0.009, 0, 0])
    told = [float(expert.action(toy.reading)[0]) for _ in range(STUCK_STEPS)]
    toy.hand = rim
    expert.action(toy.reading)

    assert told[:16] == pytest.approx([-0.126 - FRICTION] * 16)
    assert np.all(np.diff(told[16:22]) < -0.03)
    assert told[-1] == pytest.approx(-(0.009 + 0.03) * 14 - FRICTION)
    assert expert.phase is Phase.CLOSE
    assert expert.action(toy.reading)[:3] == pytest.approx([0, 0, 0], abs=1e-9)


def test_a_hand_that_stands_on_something_rises_and_comes_down_anew() -> None:
    """It is some millimetres off, over what is beside the bowl; from straight above it gets past that."""
    toy, expert = Toy(), PickAndPlace(BowlOnPlate("bowl", "plate"))
    rim = toy.bowl + np.array([0, 0.05, 0.026])
    toy.hand, phases = rim + np.array([0.009, 0, 0.03]), [Phase.APPROACH]
    while not toy.reading.success and len(phases) < 200:
        beside = toy.hand[0] - rim[0] > 0.006 and abs(toy.hand[1] - rim[1]) < 0.02
        held = toy.hand.copy()
        toy.step(expert.action(toy.reading))
        if beside and toy.hand[2] < rim[2] + 0.03:
            toy.hand = held
        phases.append(expert.phase)
    rose = phases.index(Phase.RISE)

    assert rose == STUCK_STEPS + 1
    assert [phase for at, phase in enumerate(phases) if phase is not phases[at - 1] and at > 0] == [
        Phase.RISE,
        Phase.APPROACH,
        Phase.CLOSE,
        Phase.CARRY,
        Phase.OPEN,
    ]
    assert toy.reading.success


def test_no_small_move_is_told_that_friction_would_swallow() -> None:
    """But in the last millimetres, where it fades out: a hand that is there is told to stay."""
    told = []
    for apart_m in (0.05, 0.006, 0.002, 0.0):
        toy, job = Toy(), BowlOnPlate("bowl", "plate", close_m=0.0)
        toy.hand = job.grasp(toy.reading) + np.array([0.0, 0.0, apart_m])
        told.append(-float(PickAndPlace(job).action(toy.reading)[2]))

    assert told[:2] == pytest.approx([1.0, 14 * 0.006 + FRICTION])
    assert told[2:] == pytest.approx([14 * 0.002 + FRICTION / 2, 0.0])


def test_what_friction_holds_off_the_goal_is_pushed_too() -> None:
    """A bowl that hangs some millimetres off its place is not carried for ever."""
    toy, expert = Toy(), PickAndPlace(BowlOnPlate("bowl", "plate"))
    while expert.phase is not Phase.CARRY:
        toy.step(expert.action(toy.reading))
    toy.hand, toy.bowl = toy.hand + toy.plate - toy.bowl, toy.plate + np.array([0.019, 0.0, 0.02])
    toy.hand = toy.hand + np.array([0.019, 0.0, 0.02])
    told = [float(expert.action(toy.reading)[0]) for _ in range(20)]

    assert told[:6] == pytest.approx([-0.266 - FRICTION * 0.019 / np.hypot(0.019, 0.003)] * 6, abs=0.05)
    assert np.all(np.diff(told[5:9]) < -0.05)
    assert expert.phase is Phase.CARRY


@pytest.mark.parametrize(
    ("lifted_m", "width_m", "phase"),
    [(0.0, 0.08, Phase.APPROACH), (0.0, 0.004, Phase.CLOSE), (0.05, 0.004, Phase.CARRY), (0.05, 0.08, Phase.APPROACH)],
)
def test_what_another_holds_is_carried_on(lifted_m: float, width_m: float, phase: Phase) -> None:
    """Fingers about the rim go on closing, a bowl that is in the air is not let fall; open fingers hold nothing."""
    toy, job = Toy(), BowlOnPlate("bowl", "plate")
    started = toy.reading
    toy.bowl = toy.bowl + np.array([0.0, 0.0, lifted_m])
    toy.hand, toy.width = toy.bowl + np.array([0, 0.05, 0.026]), width_m
    expert = PickAndPlace.taking_over(job, started, toy.reading)

    assert expert.phase is phase
    assert expert.action(toy.reading)[6] == (OPEN if phase is Phase.APPROACH else CLOSED)
    assert PickAndPlace.taking_over(job, started, started).phase is Phase.APPROACH


def test_the_hand_rises_before_it_moves_sideways() -> None:
    """From below, beside the bowl: what stands between is not pushed over."""
    toy = Toy()
    toy.hand = np.array([0.1, 0.1, 0.92])
    action = PickAndPlace(BowlOnPlate("bowl", "plate")).action(toy.reading)

    assert action[2] == 1.0
    assert np.abs(action[:2]).max() == 0.0


def test_the_hand_is_turned_towards_the_jobs_yaw() -> None:
    """Twice what is missing, at most half a radian's worth; with none missing not at all."""
    toy = Toy()
    turned = [
        PickAndPlace(BowlOnPlate("bowl", "plate", yaw_rad=yaw)).action(toy.reading)[3:6] for yaw in (0.0, 0.1, -2.0)
    ]

    assert np.array(turned) == pytest.approx(np.array([[0, 0, 0], [0, 0, 0.2], [0, 0, -0.5]]))


def test_where_a_bowl_stands_decides_how_it_is_taken() -> None:
    """Lifted over the drawer's walls by a hand turned by 70 degrees; on the ramekin higher than on the table."""
    bowl, plate = pose(0.1, -0.15, 1.06), pose(0.06, 0.2, 0.9)
    reading = Reading(np.zeros(3), DOWNWARD, np.zeros(2), success=False, objects={"bowl": bowl, "plate": plate})
    drawer = job_of("libero_spatial", DRAWER)
    ramekin = job_of("libero_spatial", replace(SCENE, instruction="pick up the black bowl on the ramekin and ..."))
    table = job_of("libero_spatial", SCENE)

    assert (drawer.yaw_rad, drawer.lift_z_m) == (radians(70), 1.16)
    assert table.grasp(reading) == pytest.approx(bowl[:3] + np.array([0, 0.05, 0.026]))
    assert ramekin.grasp(reading)[2] == pytest.approx(bowl[2] + 0.036)


def in_the_drawer(right_m: float, hand: Sequence[float]) -> Reading:
    """A bowl so far to the right of a drawer's middle, which comes out of its cabinet along the hand's 70 degrees."""
    bowl = np.array([0.1, -0.15, 1.06])
    cabinet = bowl + yawed(radians(70)) @ np.array([-0.14, right_m, -0.15])
    turned = [0.0, 0.0, np.sin(radians(80)), np.cos(radians(80))]  # by 160 degrees: its x is the hand's y
    objects = {"bowl": pose(*bowl), "plate": pose(0.06, 0.2, 0.9), "wooden_cabinet_1": pose(*cabinet, turned)}
    return Reading(np.array(hand), DOWNWARD, np.zeros(2), success=False, objects=objects)


@pytest.mark.parametrize(("right_m", "side"), [(0.012, 1.0), (-0.012, -1.0)])
def test_in_the_drawer_the_rim_is_taken_towards_the_middle(right_m: float, side: float) -> None:
    """There the outer finger has room; on the other side it would come down on the wall."""
    reading = in_the_drawer(right_m, [-0.2, 0.0, 1.18])
    bowl = reading.objects["bowl"][:3]
    sideways = side * 0.045 * np.array([-np.sin(radians(70)), np.cos(radians(70)), 0])

    assert job_of("libero_spatial", DRAWER).grasp(reading) == pytest.approx(bowl + sideways + np.array([0, 0, 0.037]))


@pytest.mark.parametrize("right_m", [0.002, -0.002])
def test_a_hand_that_is_down_in_the_drawer_stays_on_its_side(right_m: float) -> None:
    """Fingers push the bowl by millimetres: the hand does not change sides as it passes the middle."""
    job = job_of("libero_spatial", DRAWER)
    for side in (1.0, -1.0):
        away = side * 0.05 * np.array([-np.sin(radians(70)), np.cos(radians(70)), 0])
        hand = np.array([0.1, -0.15, 1.11]) + away
        grasp = job.grasp(in_the_drawer(right_m, hand.tolist()))

        assert np.linalg.norm(grasp[:2] - hand[:2]) < 0.01


@pytest.mark.parametrize(("height", "deep"), [(0.12, 0.035), (0.04, 0.024), (0.02, 0.008)])
def test_a_thing_is_taken_below_its_top_and_dropped_in_the_baskets_middle(height: float, deep: float) -> None:
    """By its bounds, however its own frame lies, but not so low that fingers touch the floor; the basket likewise."""
    thing = np.array([[-0.02, 0.0, -0.03], [0.02, height, 0.03]])  # in a frame whose y points up
    basket = np.array([[-0.1, -0.08, 0.0], [0.12, 0.08, 0.143]])
    scene = replace(SCENE, interest=["soup", "basket"], bounds={"soup": thing, "basket": basket})
    objects = {"soup": pose(0.1, -0.1, 0.0, ON_ITS_SIDE), "basket": pose(0.0, 0.25, 0.0)}
    reading = Reading(np.zeros(3), DOWNWARD, np.zeros(2), success=False, objects=objects)
    job = job_of("libero_object", scene)

    assert isinstance(job, ThingInBasket)
    assert job.grasp(reading) == pytest.approx([0.1, -0.1, height - deep])
    assert job.carried(reading) == pytest.approx([0.1, -0.1, 0.0])
    assert job.goal(reading) == pytest.approx([0.01, 0.25, 0.03])
    assert job.goal(reading)[2] + job.hover_m == pytest.approx(0.143 + 0.02)


def test_suites_without_an_expert_are_refused() -> None:
    """By name."""
    with pytest.raises(ConfigError, match="libero_goal has none"):
        job_of("libero_goal", SCENE)


def test_the_player_draws_only_to_be_filmed() -> None:
    """An expert needs no pictures: they are what takes the time. Each episode has an expert of its own."""
    drawn: list[str] = []

    def draw(cameras: Sequence[str]) -> dict[str, np.ndarray]:
        drawn.extend(cameras)
        return {}

    for filmed, count in ((False, 0), (True, 3)):
        toy, player = Toy(), ExpertPlayer("libero_spatial", filmed=filmed)
        player.begin(SCENE)
        for _ in range(9):
            toy.step(player.action(toy.reading, draw))
        assert (drawn, player.taken()) == (["agentview"] * count, Answers())


@pytest.mark.parametrize("axis", [[1, 0, 0], [0, 1, 0], [0.6, 0, 0.8]])
def test_turns_are_those_of_their_quaternion(axis: list[float]) -> None:
    """By half an angle's sine and cosine; what turns one into another is their difference, in the world."""
    angle, unit = 0.7, np.array(axis)
    quaternion = np.array([*(np.sin(angle / 2) * unit), np.cos(angle / 2)])
    start = yawed(0.3) @ DOWN

    assert turn_between(np.eye(3), turn_of(quaternion)) == pytest.approx(angle * unit)
    assert turn_between(start, turn_of(quaternion) @ start) == pytest.approx(angle * unit)
    assert turn_between(start, start) == pytest.approx(np.zeros(3))
    assert turn_of(DOWNWARD) == pytest.approx(DOWN)
    assert yawed(pi / 2) @ [1, 0, 0] == pytest.approx([0, 1, 0])


def test_a_turned_boxs_corners() -> None:
    """A quarter about x: what was y is up."""
    box = box_in_world(pose(1, 2, 3, ON_ITS_SIDE), np.array([[-1.0, 0, -3], [1, 2, 4]]))

    assert box == pytest.approx(np.array([[0, -2, 3], [2, 5, 5]]))
