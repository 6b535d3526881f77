from __future__ import annotations

from dataclasses import replace

import pytest

from stillframe.web.dialects.cameras import placed


@pytest.fixture
def info(desk):
    """The description of a policy."""
    return desk.policy.info


@pytest.mark.parametrize(
    ("cameras", "keys", "expected"),
    [
        (["front"], ["front"], ["front"]),
        (["front"], ["anything"], ["anything"]),
        (["front"], ["wrist_image"], []),
        (["front"], ["a", "b"], ["a"]),
        (["front", "wrist"], ["observation/image", "observation/wrist_image"], [0, 1]),
        (["front", "wrist"], ["observation/wrist_image", "observation/image"], [1, 0]),
        (["front", "wrist"], ["wrist", "front"], [1, 0]),
        (["front", "wrist"], ["image"], [0]),
        (["wrist", "front"], ["image", "wrist_image"], [1, 0]),
        (["left", "right"], ["cam_right", "right", "left"], [2, 1]),
        (["left", "right"], ["x", "y", "z"], [0, 1]),
        (["left", "right"], ["images.right", "x"], [1, 0]),
        (["front", "left_wrist", "right_wrist"], ["wrist_1", "wrist_2", "image"], [2, 0, 1]),
        (["front", "left_wrist", "right_wrist"], ["right_wrist_rgb", "wrist", "image"], [2, 1, 0]),
    ],
)
def test_each_camera_has_its_picture(info, cameras, keys, expected):
    """By name; else wrist to wrist and the others in their order; no picture twice; in the policy's order."""
    said = placed({key: f"pixels of {key}" for key in keys}, {"prompt": "go"}, replace(info, cameras=tuple(cameras)))
    found = [keys[each] if isinstance(each, int) else each for each in expected]
    having = [camera for camera in cameras if camera in said.fields["images"]]

    assert list(said.fields) == ["prompt", "images"]
    assert list(said.fields["images"].items()) == [
        (camera, f"pixels of {key}") for camera, key in zip(having, found, strict=True)
    ]
    assert said.places == {
        f"/images/{camera}": "/" + key.replace("/", "~1") for camera, key in zip(having, found, strict=True)
    }


@pytest.mark.parametrize("decorated", ["observation/front", "images.front", "front_rgb", "image_front_left"])
def test_what_clients_put_round_a_name_is_no_part_of_it(info, decorated):
    """The picture is found by the camera's name, though another one comes first."""
    said = placed({"first": 1, decorated: 2}, {}, replace(info, cameras=("front",)))

    assert said.fields["images"] == {"front": 2}


def test_a_long_key_is_nobodys_name(info):
    """To look at it would take its length squared: it is a picture without a name, and comes in its order."""
    long = "observation/" * 6 + "front"
    said = placed({"first": 1, long: 2}, {}, replace(info, cameras=("front",)))

    assert said.fields["images"] == {"front": 1}
