from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stillframe.errors import ConfigError
from stillframe.testing import policy_info, state_info
from stillframe.web.service.model_card import model_card
from stillframe_client import ModelInfo
from stillframe_client.replies import model_info
from stillframe_lab.libero.contract import doubts, protocol_of
from stillframe_lab.libero.pictures import as_openpi, as_openvla, upright

PLAIN = {"q01": [-0.5] * 6 + [0.0], "q99": [0.5] * 6 + [1.0], "mask": [True] * 6 + [False]}
SIGNED = {"q01": [-0.5] * 6 + [-1.0], "q99": [0.5] * 6 + [1.0], "mask": [True] * 7}
OPENVLA = {"family": "openvla", "cameras": ("image",), "gripper": "0 = close, 1 = open"}
OPENPI = {
    "family": "pi0",
    "cameras": ("base_0_rgb", "left_wrist_0_rgb"),
    "gripper": "0 = open, 1 = close",
    "norm_stats": {"physical-intelligence/libero": SIGNED},
    "default_unnorm_key": "physical-intelligence/libero",
    "chunk_horizon": 10,
}


def contract(**changes: Any) -> ModelInfo:
    """A model's contract as a client reads it off the wire."""
    stats = {"norm_stats": {"libero_spatial": PLAIN, "bridge_orig": PLAIN}, "default_unnorm_key": None}
    return model_info(model_card(policy_info(**{**OPENVLA, **stats, **changes})).model_dump(mode="json"))


def gripper(info: ModelInfo, *numbers: float) -> list[float]:
    """What the simulator's gripper is told for these numbers of the policy's."""
    asking = protocol_of(info, "libero_spatial")
    return [float(asking.played(np.array([0.1] * 6 + [number]))[6]) for number in numbers]


def test_openvlas_gripper_is_made_binary_and_turned_round() -> None:
    """0 is closed and 1 is open; the simulator has 1 closed and -1 open, and holds where it is exactly between."""
    assert gripper(contract(), 0.0, 0.4, 0.5, 0.6, 1.0, 0.996) == [1, 1, 0, -1, -1, -1]


def test_openpis_gripper_keeps_its_sign() -> None:
    """Its data has the simulator's own numbers, -1 open and 1 closed, as its statistics say."""
    assert gripper(contract(**OPENPI), -1.0, -0.2, 0.3, 1.0) == [-1, -1, 1, 1]


def test_the_rest_of_an_action_is_left_alone() -> None:
    """And so is the answer itself."""
    action = np.array([0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 1.0])
    played = protocol_of(contract(), "libero_spatial").played(action)

    assert played.tolist() == [0.1, -0.2, 0.3, -0.4, 0.5, -0.6, -1.0]
    assert action[6] == 1.0


@pytest.mark.parametrize(
    ("keys", "default", "expected"),
    [
        (("bridge_orig", "libero_spatial", "libero_spatial_no_noops"), "bridge_orig", "libero_spatial"),
        (("libero_spatial_no_noops", "libero_goal_no_noops"), None, "libero_spatial_no_noops"),
        (("libero_4_task_suites_no_noops",), None, "libero_4_task_suites_no_noops"),
        (("bridge_orig", "libero_goal"), "libero_goal", "libero_goal"),
    ],
)
def test_statistics_are_the_suites(keys: tuple[str, ...], default: str | None, expected: str) -> None:
    """As OpenVLA's evaluation looks for them; else the only ones, or the daemon's default."""
    info = contract(norm_stats=dict.fromkeys(keys, PLAIN), default_unnorm_key=default)

    assert protocol_of(info, "libero_spatial").unnorm_key == expected


def test_statistics_are_never_guessed() -> None:
    """Of several that are not called after the suite one has to be chosen."""
    info = contract(norm_stats={"libero_goal": PLAIN, "libero_10": PLAIN})

    with pytest.raises(ConfigError, match="choose with --unnorm-key: libero_goal, libero_10"):
        protocol_of(info, "libero_spatial")
    assert protocol_of(info, "libero_spatial", unnorm_key="libero_10").unnorm_key == "libero_10"


@pytest.mark.parametrize(
    ("changes", "plays"),
    [
        ({}, 1),
        ({"family": "openvla-oft", "chunk_horizon": 8, "execute": 4}, 8),
        (OPENPI, 5),
        ({**OPENPI, "chunk_horizon": 3}, 3),
        ({"family": "cogact", "chunk_horizon": 16, "execute": 2}, 2),
    ],
)
def test_so_much_of_a_chunk_is_played_as_in_the_papers(changes: dict[str, Any], plays: int) -> None:
    """OpenVLA one, OpenVLA-OFT all, openpi five; of another family what the daemon advises."""
    assert protocol_of(contract(**changes), "libero_spatial").execute == plays


def test_more_than_a_chunk_cannot_be_played() -> None:
    """What is said on the command line wins, within the chunk."""
    info = contract(family="openvla-oft", chunk_horizon=8)

    assert protocol_of(info, "libero_spatial", execute=3).execute == 3
    for execute in (0, 9):
        with pytest.raises(ConfigError, match=f"--execute is {execute}; a chunk of echo has 8"):
            protocol_of(info, "libero_spatial", execute=execute)


@pytest.mark.parametrize(
    ("cameras", "sources"),
    [
        (("image",), {"image": "agentview"}),
        (("image", "wrist"), {"image": "agentview", "wrist": "wrist"}),
        (("base_0_rgb", "left_wrist_0_rgb"), {"base_0_rgb": "agentview", "left_wrist_0_rgb": "wrist"}),
        (("robot0_eye_in_hand",), {"robot0_eye_in_hand": "wrist"}),
    ],
)
def test_each_camera_gets_its_picture(cameras: tuple[str, ...], sources: dict[str, str]) -> None:
    """Turned, and resized as the family's paper does, to the size of the policy."""
    drawn = {name: np.full((256, 256, 3), at, np.uint8) for at, name in enumerate(("agentview", "wrist"))}
    drawn["agentview"][:40, :90] = 250
    for changes, resize in (({}, as_openvla), ({"family": "pi05"}, as_openpi)):
        asking = protocol_of(contract(cameras=cameras, image_size=(112, 112), **changes), "libero_spatial")
        seen = asking.seen(drawn)

        assert dict(asking.sources) == sources
        for camera, source in sources.items():
            assert np.array_equal(seen[camera], resize(upright(drawn[source]), (112, 112)))


def test_masks_go_the_way_of_their_pictures() -> None:
    """Turned and resized by the same factor: what a pixel of the mask shows a pixel of the picture does."""
    masks = {name: np.zeros((128, 128), bool) for name in ("agentview", "wrist")}
    masks["agentview"][:10, 100:] = True
    masks["wrist"][64, 64] = True
    asking = protocol_of(contract(cameras=("image", "wrist"), image_size=(64, 32)), "libero_spatial")
    sent = asking.masked(masks)

    assert {name: (mask.dtype, mask.shape) for name, mask in sent.items()} == {
        "image": (np.bool_, (64, 32)),
        "wrist": (np.bool_, (64, 32)),
    }
    assert np.array_equal(np.argwhere(sent["image"]), [[y, x] for y in range(59, 64) for x in range(7)])
    assert np.argwhere(sent["wrist"]).tolist() == [[31, 15]]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"cameras": ("front", "side")}, "at most one camera on the hand"),
        ({"gripper": "as the data set has it"}, "'as the data set has it' of the gripper"),
        ({"action_names": ("dx", "dy", "gripper")}, "answers 3 numbers"),
        ({"state": state_info("x", "y")}, "reads 2 numbers of state; LIBERO has 8"),
    ],
)
def test_a_policy_of_another_robot_is_refused(changes: dict[str, Any], problem: str) -> None:
    """Before an episode is played, in words that name what differs."""
    with pytest.raises(ConfigError, match=problem):
        protocol_of(contract(**changes, norm_stats={"robot": PLAIN}), "libero_spatial")


def test_what_differs_from_the_papers_is_said() -> None:
    """Whole pictures where crops were trained, and statistics of another robot; else nothing."""

    def doubted(**changes: Any) -> list[str]:
        info = contract(**changes)
        return [one.split(";")[0] for one in doubts(info, protocol_of(info, "libero_spatial"))]

    assert doubted() == ["the daemon looks at whole pictures"]
    assert doubted(center_crop=0.9) == []
    assert doubted(**OPENPI) == []
    other = doubted(center_crop=0.9, norm_stats={"bridge_orig": PLAIN})
    assert other == ["actions are scaled by 'bridge_orig', which is not called after LIBERO"]
