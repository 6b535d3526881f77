from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stillframe.testing import policy_info, state_info
from stillframe.web.service.model_card import model_card
from stillframe_client.preflight.contract import compare
from stillframe_client.preflight.findings import Finding, Level, refused, table
from stillframe_client.preflight.frame import RobotFrame
from stillframe_client.replies import ModelInfo, model_info

STATE = state_info("x", "y", "opening", unit="m")
NEEDY = policy_info(cameras=("front", "wrist"), state=STATE)


def contract(info: Any) -> ModelInfo:
    """What a client reads of a policy's card."""
    return model_info(model_card(info).model_dump(mode="json"))


def pictures(**sizes: tuple[int, int]) -> dict[str | None, np.ndarray]:
    return {name: np.zeros((*size, 3), np.uint8) for name, size in sizes.items()}


def said(subject: str, frame: RobotFrame, info: Any = NEEDY) -> list[tuple[str, str]]:
    """Level and words of what is said of one subject."""
    found = compare(frame, contract(info))
    return [(each.level.value, each.said) for each in found if each.subject == subject]


BOTH = pictures(front=(224, 224), wrist=(448, 448))


def test_a_frame_that_fits_is_ok_throughout() -> None:
    """A line a camera, and one each for the state, the statistics and the answer."""
    found = compare(RobotFrame(BOTH, {"opening": 0.0, "y": 0.0, "x": 0.0}), contract(NEEDY))

    assert [each.subject for each in found] == ["camera front", "camera wrist", "state", "statistics", "answer"]
    assert {each.level for each in found} == {Level.OK}
    assert not refused(found)


@pytest.mark.parametrize(
    ("size", "level", "words"),
    [
        ((224, 224), "ok", "224x224, as the model sees it"),
        ((448, 450), "ok", "448x450, resized to 224x224"),
        ((480, 640), "warning", "by different factors"),
        ((200, 224), "warning", "is enlarged"),
    ],
)
def test_what_becomes_of_a_picture(size: tuple[int, int], level: str, words: str) -> None:
    """Its size as it is sent, and as the model sees it."""
    ((found, text),) = said("camera front", RobotFrame(pictures(front=size)), policy_info())

    assert found == level
    assert words in text


def test_the_middle_that_is_looked_at() -> None:
    """A deployment that crops says so."""
    ((_, text),) = said("camera front", RobotFrame(pictures(front=(224, 224))), policy_info(center_crop=0.9))

    assert text.endswith("of that the middle 90% of the area is looked at")


def test_cameras_that_do_not_fit() -> None:
    """One is missing, another is none of the policy's; a close name is offered."""
    frame = RobotFrame(pictures(front=(224, 224), wrst=(8, 8), mast=(8, 8)))

    assert said("camera wrist", frame)[0][0] == "wrong"
    assert said("camera wrst", frame) == [
        ("wrong", "the policy has no such camera; it has front, wrist: did you mean wrist?")
    ]
    assert said("camera mast", frame) == [("wrong", "the policy has no such camera; it has front, wrist")]


def test_a_configured_key_and_an_only_picture_name_the_camera() -> None:
    """As the daemon takes them."""
    keyed = policy_info(camera_keys={"front": "cam_high"})
    named = policy_info(camera_slots={"front": "base_0_rgb"})
    alone = RobotFrame({None: np.zeros((224, 224, 3), np.uint8)})

    assert said("camera front", RobotFrame(pictures(cam_high=(224, 224))), keyed)[0][0] == "ok"
    assert said("camera front", RobotFrame(pictures(base_0_rgb=(224, 224))), named)[0][0] == "ok"
    assert said("camera front", alone, policy_info())[0][0] == "ok"
    assert said("camera None", alone) == [("wrong", "a picture without a name; the policy's cameras are front, wrist")]


@pytest.mark.parametrize(
    ("state", "level", "words"),
    [
        (None, "wrong", "none is sent; the policy reads 3 numbers: x [m], y [m], opening [m]"),
        ([0.0] * 8, "wrong", "8 numbers sent; the policy reads 3"),
        ({"x": 0.0, "z": 0.0}, "wrong", "it has no z and y, opening not sent"),
        ([0.0] * 3, "ok", "3 numbers: x [m], y [m], opening [m], in this order"),
    ],
)
def test_whether_the_state_fits(state: Any, level: str, words: str) -> None:
    """By number or by name."""
    ((found, text),) = said("state", RobotFrame(BOTH, state))

    assert found == level
    assert words in text


def test_a_state_that_is_not_read_is_no_fault() -> None:
    """It is left aside, which may surprise."""
    plain = policy_info()

    assert said("state", RobotFrame(state=[0.0] * 2), plain) == [
        ("warning", "2 numbers left aside: this policy reads no state")
    ]
    assert said("state", RobotFrame(), plain) == [("ok", "none is read, none is sent")]


def test_numbers_of_another_unit_are_noticed() -> None:
    """Where a robot measured them: stand-ins are not judged, nor what is not scaled."""
    far = {"x": 38.0, "y": -1.15, "opening": 1.0}
    unscaled = policy_info(state=state_info("x", "y", "opening", unit=""))
    unscaled.state.norm_stats["robot"]["mask"][:] = [False] * 3  # type: ignore[union-attr] # it was just given one

    assert said("state", RobotFrame(state=far, measured=True))[1:] == [
        ("warning", "x = 38 is clipped: the training data go from -1 to 1 [m]; is it in that unit?")
    ]
    assert len(said("state", RobotFrame(state=list(far.values()), measured=True))) == 2
    assert len(said("state", RobotFrame(state=far))) == 1
    assert [level for level, _ in said("state", RobotFrame(state=far, measured=True), unscaled)] == ["ok", "warning"]


def test_statistics_have_to_be_chosen() -> None:
    """Where the checkpoint has several and no default."""
    entry = policy_info().norm_stats["robot"]
    many = policy_info(norm_stats={"a": entry, "b": entry}, default_unnorm_key=None)

    assert said("statistics", RobotFrame(), many) == [("wrong", "unnorm_key has to name one of a, b")]
    assert said("statistics", RobotFrame(unnorm_key="c"), many)[0][0] == "wrong"
    assert said("statistics", RobotFrame(unnorm_key="b"), many) == [("ok", "actions are scaled by b")]


def test_the_table_is_aligned() -> None:
    """Level, subject, words."""
    found = [Finding(Level.WARNING, "state", "a"), Finding(Level.OK, "camera front", "b")]

    assert table(found) == "warning  state         a\nok       camera front  b\n"
    assert table([]) == ""
    assert refused([*found, Finding(Level.WRONG, "c", "d")])
