from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from stillframe.testing import state_info
from stillframe_client.jaco2.bridge.contract import contract_faults, pictures_named, warnings
from stillframe_client.jaco2.settings import BridgeSettings, CameraSettings
from stillframe_client.replies import ModelInfo

Make = Callable[..., ModelInfo]
Chosen = Callable[..., BridgeSettings]
STATE = {"low": [-1.0] * 2, "high": [1.0] * 2, "mask": [True] * 2}
NAMES = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")


def test_a_policy_of_this_arm_has_no_fault(card: Make, chosen: Chosen) -> None:
    """Names, units, statistics, gripper and camera fit, and there is nothing to warn of."""
    assert contract_faults(card(), chosen()) == []
    assert warnings(card(), chosen()) == []


@pytest.mark.parametrize(
    ("policy", "settings", "said"),
    [
        ({"action_names": ("joint1", "joint2")}, {}, "an action of mover is joint1, joint2; expected dx, dy, dz"),
        ({"cameras": ("left", "right")}, {}, "looks through left, right; the configured cameras are front"),
        ({"default_unnorm_key": None}, {}, "policy.unnorm_key is not set and mover has no default; expected robot"),
        ({}, {"policy": {"unnorm_key": "bridge"}}, "policy.unnorm_key is 'bridge'; mover has robot"),
        ({"gripper": "1 = closed, 0 = open"}, {}, "means '1 = closed, 0 = open'; expected 0 = close, 1 = open"),
        ({"chunk_horizon": 4}, {"policy": {"execute": 5}}, "policy.execute is 5 and a chunk of mover has 4 actions"),
        ({"at_most": 0.08}, {}, "robot has actions of up to 0.139 m; limits.step_m is 0.05, beyond which"),
        ({"at_most": 0.6}, {}, "robot has actions of up to 1.04 rad; limits.step_rad is 0.3"),
        ({"gripper_range": (-1.0, 1.0)}, {}, "robot scales the gripper from -1 to 1; expected 0 to 1"),
    ],
    ids=["names", "cameras", "no-key", "wrong-key", "gripper", "execute", "metres", "radians", "gripper-range"],
)
def test_what_does_not_fit_is_said(
    policy: dict[str, object], settings: dict[str, object], said: str, card: Make, chosen: Chosen
) -> None:
    """Each fault is named with what was found and what was expected."""
    assert any(said in fault for fault in contract_faults(card(**policy), chosen(**settings)))


def test_all_faults_are_said_at_once(card: Make, chosen: Chosen) -> None:
    """A policy with three faults is refused for all three."""
    faults = contract_faults(card(cameras=("a", "b"), gripper="?", default_unnorm_key=None), chosen())

    assert len(faults) == 3


@pytest.mark.parametrize(
    ("names", "units", "said"),
    [
        (("opening", "tool_z"), ("1", "m"), None),
        (("opening", "tool_z"), ("", ""), None),
        (
            ("tool_z", "grip"),
            ("m", "1"),
            "mover reads a state with grip, which the bridge does not know; it knows tool_x",
        ),
        (("tool_z", "tool_rx"), ("mm", "rad"), "mover reads a state with tool_z in mm (the bridge gives m)"),
    ],
    ids=["known", "no-units", "name", "unit"],
)
def test_a_state_that_the_bridge_cannot_give_is_refused(
    names: tuple[str, ...], units: tuple[str, ...], said: str | None, card: Make, chosen: Chosen
) -> None:
    """Names and units are those of the simulated arm's data; what is another one is named, and nothing is armed."""
    info = card(state=replace(state_info(*names), units=units, norm_stats={"robot": STATE}))
    faults = contract_faults(info, chosen())

    assert (faults == []) if said is None else (len(faults) == 1 and faults[0].startswith(said))


def test_other_units_are_refused(card: Make, chosen: Chosen) -> None:
    """Millimetres and degrees are named, field by field."""
    info = card()
    info.card["action"]["fields"][0]["unit"] = "mm"
    info.card["action"]["fields"][5]["unit"] = "deg"

    assert contract_faults(info, chosen()) == ["mover gives dx in mm, dyaw in deg; expected metres and radians"]


def test_the_only_camera_needs_no_name(card: Make, chosen: Chosen) -> None:
    """One camera on both sides goes under the policy's name, with a warning."""
    info, settings = card(cameras=("image",)), chosen(cameras={"front": CameraSettings()})

    assert contract_faults(info, settings) == []
    assert warnings(info, settings) == [
        "the camera 'front' is sent as the policy's 'image': the only one on both sides"
    ]


def test_what_is_resized_twice_is_said(card: Make, chosen: Chosen) -> None:
    """Pictures of another size than the policy sees are warned of; those that are sent whole are not."""
    twice, whole = ({"front": CameraSettings(resize=size)} for size in (256, 0))

    assert "resized again to (224, 224)" in warnings(card(), chosen(cameras=twice))[0]
    assert warnings(card(), chosen(cameras=whole)) == []


def test_a_policy_that_is_faster_than_the_limit_is_said(card: Make, chosen: Chosen) -> None:
    """The fastest action by its statistics and the rate, against limits.linear_m_s."""
    (said,) = warnings(card(at_most=0.02), chosen(policy={"hz": 10.0}))

    assert said.startswith("the policy's fastest action is 0.35 m/s at 10 Hz; limits.linear_m_s is 0.1")


def test_a_card_without_ranges_is_not_guessed_at(card: Make, chosen: Chosen) -> None:
    """Where the daemon names no ranges there is nothing to compare, and no fault."""
    info = card(at_most=0.08)
    for field in info.card["action"]["fields"]:
        field.pop("ranges")

    assert contract_faults(info, chosen()) == []


def test_pictures_go_under_the_policys_names() -> None:
    """A single picture takes the only name; several keep their own."""
    one, two = np.zeros((1, 1, 3), np.uint8), np.ones((1, 1, 3), np.uint8)

    assert pictures_named({"front": one}, ["image"]) == {"image": one}
    assert pictures_named({"front": one, "wrist": two}, ["wrist", "front"]) == {"front": one, "wrist": two}
