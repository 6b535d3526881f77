from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from stillframe_client.sim.kitchen.state import (
    BOX,
    BOX_HEIGHT_M,
    CELLS,
    CUBE,
    PAN,
    PAN_RADIUS_M,
    POT,
    REST_HEIGHT_M,
    SAUSAGE,
    SPONGE,
    KitchenState,
)
from stillframe_client.sim.kitchen.tasks import PICKED_M, TASKS, KitchenReferee, inside, known_task

ALONG_X, ALONG_Y = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])


def state_of(finger_rad: float = 0.25, wiped: int = 0, **places: tuple[float, float, float]) -> KitchenState:
    """Things at these places, along x; the arm is out of the way."""
    return KitchenState(
        tool_pos=np.array([0.38, 0.0, 0.28]),
        laser_pos=np.zeros(3),
        tool_turn=np.zeros(3),
        finger_angle=finger_rad,
        finger_command=finger_rad,
        hz=10,
        pos={name: np.array(place) for name, place in places.items()},
        axis=dict.fromkeys(places, ALONG_X),
        stain=np.zeros((CELLS, 3)),
        wiped=(True,) * wiped + (False,) * (CELLS - wiped),
    )


def judged(task: str, start: KitchenState, *states: KitchenState) -> list[bool]:
    """What the referee says of each."""
    referee = KitchenReferee(TASKS[task], start)
    return [referee.judge(state) for state in states]


@pytest.mark.parametrize(("raised_m", "done"), [(PICKED_M - 0.002, False), (PICKED_M + 0.002, True)])
def test_a_pot_is_picked_once_it_is_ten_centimetres_up(raised_m: float, *, done: bool) -> None:
    """Above where it stood, wherever it is carried."""
    start = state_of(pot=(0.4, 0, REST_HEIGHT_M[POT]))

    assert judged("pick-pot", start, state_of(pot=(0.5, 0.1, REST_HEIGHT_M[POT] + raised_m))) == [done]


def test_a_cube_is_placed_once_it_lies_in_the_box_and_is_let_go() -> None:
    """Held, it is not; lying for a moment only, not yet."""
    start = state_of(cube=(0.3, 0, 0.024), box=(0.5, 0, 0))
    lies = state_of(cube=(0.52, 0.01, 0.030), box=(0.5, 0, 0))
    held = replace(lies, finger_angle=0.95)

    assert judged("place-cube", start, held, held, held, held) == [False] * 4
    assert judged("place-cube", start, *[lies] * 4) == [False, False, True, True]


@pytest.mark.parametrize("cube", [(0.5, 0.08, 0.024), (0.58, 0, 0.03), (0.5, 0, BOX_HEIGHT_M + 0.024)])
def test_a_cube_beside_or_on_the_box_is_not_placed(cube: tuple[float, float, float]) -> None:
    """Outside its walls, or on their edge."""
    start = state_of(cube=(0.3, 0, 0.024), box=(0.5, 0, 0))

    assert not any(judged("place-cube", start, *[state_of(cube=cube, box=(0.5, 0, 0))] * 5))


def test_a_turned_box_has_turned_walls() -> None:
    """A place in its corner is inside; the same place is outside once the box has turned by an eighth."""
    corner = state_of(cube=(0.55, 0.05, 0.03), box=(0.5, 0, 0))
    turned = replace(corner, axis={CUBE: ALONG_X, BOX: (ALONG_X + ALONG_Y) / np.sqrt(2)})

    assert inside(corner, TASKS["place-cube"])
    assert not inside(turned, TASKS["place-cube"])


def test_a_sausage_is_in_the_pan_with_both_ends() -> None:
    """Across the rim it is not, however near its middle is; nor high above."""
    whole = state_of(sausage=(0.51, 0, 0.03), pan=(0.5, 0, 0))
    across = state_of(sausage=(0.5 + PAN_RADIUS_M - 0.02, 0, 0.03), pan=(0.5, 0, 0))
    above = state_of(sausage=(0.5, 0, 0.10), pan=(0.5, 0, 0))
    start = state_of(sausage=(0.3, 0, 0.02), pan=(0.5, 0, 0))

    assert [inside(one, TASKS["put-sausage"]) for one in (whole, across, above)] == [True, False, False]
    assert judged("put-sausage", start, *[whole] * 4)[-1]


@pytest.mark.parametrize(("cells", "done"), [(7, False), (8, True), (10, True)])
def test_a_table_is_wiped_with_four_fifths_of_the_stain(cells: int, *, done: bool) -> None:
    """Of ten cells eight."""
    start = state_of(sponge=(0.4, 0, 0.02))

    assert judged("wipe-table", start, state_of(wiped=cells, sponge=(0.4, 0, 0.02))) == [done]


def test_an_unknown_task_is_refused() -> None:
    """The message lists what there is."""
    with pytest.raises(ValueError, match="unknown task 'cook'; expected one of pick-pot, place-cube"):
        known_task("cook")


def test_each_task_has_its_things() -> None:
    """And no other task's."""
    assert [task.things for task in TASKS.values()] == [(POT,), (CUBE, BOX), (SAUSAGE, PAN), (SPONGE,)]


@pytest.mark.process
def test_words_and_experts_import_without_mujoco() -> None:
    """Only KitchenEnv needs the engine."""
    code = (
        "import sys; sys.modules['mujoco'] = sys.modules['torch'] = sys.modules['dm_control'] = None\n"
        "from stillframe_client.sim.kitchen import TASKS, kitchen_action\n"
        "print(TASKS['wipe-table'].instruction)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout == "wipe the table\n"
