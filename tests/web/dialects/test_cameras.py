from __future__ import annotations

from dataclasses import replace

import pytest

from stillframe.errors import BadRequest, RequestError, TooLarge, Unprocessable
from stillframe.web.dialects.cameras import assign_cameras, keys_by_camera


@pytest.fixture
def info(desk):
    """The description of a policy."""
    return desk.policy.info


def assigned(info, cameras, keys, *, ordered=False, fixed=(), slots=()):
    """Camera -> key, as a frame with pictures under these keys is understood."""
    asked = replace(info, cameras=tuple(cameras), camera_keys=dict(fixed), camera_slots=dict(slots))
    said = assign_cameras({key: f"pixels of {key}" for key in keys}, {"prompt": "go"}, asked, ordered=ordered)
    assert list(said.fields) == ["prompt", "images"]
    assert said.fields["images"] == {camera: f"pixels of {key}" for camera, key in said.keys.items()}
    assert said.pointers == {f"/images/{camera}": "/" + key.replace("/", "~1") for camera, key in said.keys.items()}
    return dict(said.keys)


def refused(code, *args, **kwargs):
    """What is said to a frame that is refused."""
    with pytest.raises(RequestError) as caught:
        assigned(*args, **kwargs)
    assert caught.value.code == code
    return caught.value.detail


@pytest.mark.parametrize(
    ("cameras", "keys", "expected"),
    [
        # one picture and one camera: of whatever name, unless the name says that it is another place's
        (["front"], ["front"], ["front"]),
        (["front"], ["anything"], ["anything"]),
        (["image"], ["images"], ["images"]),
        (["wrist"], ["image"], ["image"]),
        (["wrist"], ["cam0"], ["cam0"]),
        (["hand"], ["robot0_eye_in_hand_image"], ["robot0_eye_in_hand_image"]),
        # hand to hand, whatever it is called, and the scene to the scene
        (["image"], ["robot0_eye_in_hand_image", "agentview_image"], ["agentview_image"]),
        (["image"], ["agentview_image", "robot0_eye_in_hand_image"], ["agentview_image"]),
        (["image"], ["rgb_gripper", "rgb_static"], ["rgb_static"]),
        (["image"], ["hand_camera", "base_camera"], ["base_camera"]),
        (["image"], ["image_wrist", "image_primary"], ["image_primary"]),
        (["image"], ["wristImage", "thirdPersonImage"], ["thirdPersonImage"]),
        (["image"], ["eyeInHandCamera", "x"], ["x"]),
        (["image"], ["gripperPOV", "camera_0"], ["camera_0"]),
        (["wrist"], ["robot0_eye_in_hand_image", "agentview_image"], ["robot0_eye_in_hand_image"]),
        (["gripper"], ["image", "wrist_image"], ["wrist_image"]),
        (["wrist"], ["front_rgb", "gripper_rgb"], ["gripper_rgb"]),
        (["eye_in_hand"], ["agentview", "hand"], ["hand"]),
        (["front", "wrist"], ["observation/image", "observation/wrist_image"], [0, 1]),
        (["front", "wrist"], ["observation/wrist_image", "observation/image"], [1, 0]),
        (["front", "wrist"], ["robot0_eye_in_hand_image", "agentview_image"], [1, 0]),
        (["front", "wrist"], ["wrist", "front"], [1, 0]),
        (["wrist", "front"], ["image", "wrist_image"], [1, 0]),
        (["base_0_rgb", "left_wrist_0_rgb"], ["observation/image", "observation/wrist_image"], [0, 1]),
        # by name, what clients put round it left away
        (["left", "right"], ["cam_right", "right", "left"], [2, 1]),
        (["left", "right"], ["images.right", "images.left"], [1, 0]),
        (["left"], ["images.left", "images.right"], ["images.left"]),
        (["image"], ["observation/image", "observation/wrist_image"], ["observation/image"]),
        (["image"], ["other", "observation.images.image"], ["observation.images.image"]),
        (["rgb"], ["depth_view", "images/rgb"], ["images/rgb"]),
        (["front"], ["first", "observation/front"], ["observation/front"]),
        (["front"], ["first", "images.front"], ["images.front"]),
        (["front"], ["first", "front_rgb"], ["front_rgb"]),
        (["front"], ["first", "image_front_left"], ["image_front_left"]),
        (["front"], ["side_image", "front_image", "back_image"], ["front_image"]),
        (["front"], ["front_rgb", "front"], ["front"]),
        (["front", "side"], ["image", "side_image"], [0, 1]),
        (["left_wrist", "right_wrist"], ["wrist_image_right", "wrist_image_left"], [1, 0]),
        (["front", "left_wrist", "right_wrist"], ["right_wrist_rgb", "wrist", "image"], [2, 1, 0]),
        # by convention: openpi's ALOHA policies look at the high camera, the left lens and the left hand
        (["image"], ["cam_high", "cam_low", "cam_left_wrist", "cam_right_wrist"], ["cam_high"]),
        (["front", "wrist"], ["cam_high", "cam_low", "cam_left_wrist", "cam_right_wrist"], [0, 2]),
        # whole words decide before the mount, however many of either side's say nothing
        (
            ["base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"],
            ["images/cam_high", "images/cam_low", "images/cam_left_wrist", "images/cam_right_wrist"],
            [0, 2, 3],
        ),
        (
            ["base_0_rgb", "left_wrist_0_rgb"],
            ["exterior_image_1_left", "wrist_image_left", "wrist_image_right"],
            [0, 1],
        ),
        (["wrist"], ["exterior_image_1_left", "wrist_image_left", "wrist_image_right"], ["wrist_image_left"]),
    ],
)
def test_each_camera_has_its_picture(info, cameras, keys, expected):
    """In the policy's order, and no picture twice."""
    found = [keys[each] if isinstance(each, int) else each for each in expected]

    assert list(assigned(info, cameras, keys).items()) == list(zip(cameras, found, strict=True))


@pytest.mark.parametrize(
    ("cameras", "keys", "listed"),
    [
        (["image"], ["x", "y"], ["x", "y"]),
        (["image"], ["image_0", "image_1"], ["image_0", "image_1"]),
        (["front"], ["image", "goal_image"], ["image", "goal_image"]),
        (["image"], ["exterior_image_1_left", "exterior_image_2_left", "wrist_image_left"], ["exterior_image_2_left"]),
        (["image"], ["frontview_image", "sideview_image"], ["frontview_image", "sideview_image"]),
        (["wrist"], ["gripper_rgb", "hand_rgb", "front"], ["gripper_rgb", "hand_rgb"]),
        (["wrist"], ["wrist_1", "wrist_2"], ["wrist_1", "wrist_2"]),
        (["left", "right"], ["x", "y"], ["x", "y"]),
        (["front", "left_wrist", "right_wrist"], ["wrist_1", "wrist_2", "image"], ["wrist_1", "wrist_2"]),
    ],
)
def test_where_no_name_decides_the_frame_is_refused(info, cameras, keys, listed):
    """With the pictures that fit, the camera that they fit, and what can be done."""
    said = refused("ambiguous-camera", info, cameras, keys)

    assert all(repr(key) in said for key in listed)
    assert "cameras: {" in said


@pytest.mark.parametrize(
    ("cameras", "keys", "lacking"),
    [
        (["front"], ["wrist_image"], "front"),
        (["image"], ["robot0_eye_in_hand_image"], "image"),
        (["wrist"], ["agentview_image"], "wrist"),
        (["hand"], ["exterior_image_1_left"], "hand"),
        (["front", "wrist"], ["image"], "wrist"),
        (["front", "wrist"], ["image", "side"], "wrist"),
        (["front", "side"], ["image"], "front"),
        (["front", "wrist"], [], "front"),
    ],
)
def test_a_camera_without_a_picture_is_named(info, cameras, keys, lacking):
    """A hand's picture is never the scene's, nor the other way round; what came is listed."""
    said = refused("missing-camera", info, cameras, keys)

    assert f"camera {lacking!r}" in said
    assert all(repr(key) in said for key in keys)


@pytest.mark.parametrize(
    ("cameras", "keys", "expected"),
    [
        (["front", "wrist"], ["full_image", "left_wrist_image", "right_wrist_image"], [0, 1]),
        (["front", "wrist"], ["full_image", "a_wrist", "b_wrist"], [0, 1]),
        (["front", "wrist_a", "wrist_b"], ["full_image", "wrist_1", "wrist_2"], [0, 1, 2]),
        (["front", "gripper"], ["full_image", "wrist_image"], [0, 1]),
        (["image"], ["full_image", "wrist_image"], [0]),
    ],
)
def test_where_the_order_says_it_the_order_decides(info, cameras, keys, expected):
    """For clients whose wire has it so: the first wrist is the first of the policy's."""
    found = {camera: keys[each] for camera, each in zip(cameras, expected, strict=True)}

    assert assigned(info, cameras, keys, ordered=True) == found


def test_the_configuration_decides_first(info):
    """Whatever the names say; the other cameras have theirs among what is left."""
    keys = ["cam_high", "cam_low", "cam_left_wrist", "cam_right_wrist"]
    fixed = {"wrist": "cam_right_wrist"}

    assert assigned(info, ["front", "wrist"], keys, fixed=fixed) == {"front": "cam_high", "wrist": "cam_right_wrist"}
    assert assigned(info, ["image"], ["x", "y"], fixed={"image": "y"}) == {"image": "y"}
    assert assigned(info, ["image"], ["wrist", "image"], fixed={"image": "wrist"}) == {"image": "wrist"}


@pytest.mark.parametrize(
    ("slots", "keys", "expected"),
    [
        ({"mast": "base_0_rgb", "d405": "left_wrist_0_rgb"}, ["left_wrist_0_rgb", "base_0_rgb"], [1, 0]),
        ({"mast": "base_0_rgb", "d405": "left_wrist_0_rgb"}, ["observation/wrist_image", "observation/image"], [1, 0]),
        ({"mast": "base_0_rgb", "d405": "left_wrist_0_rgb"}, ["images/d405", "agentview", "hand"], [1, 0]),
        ({"d405": "left_wrist_0_rgb"}, ["observation/image", "observation/wrist_image"], [1]),
        ({"a": "right_wrist_0_rgb", "b": "left_wrist_0_rgb"}, ["right_wrist_rgb", "left_wrist_0_rgb", "a"], [2, 1]),
        ({"wrist": "base_0_rgb"}, ["observation/image", "observation/wrist_image"], [1]),
        ({"wrist": "base_0_rgb"}, ["wrist_image", "base_0_rgb"], [1]),
    ],
)
def test_a_camera_is_known_by_the_checkpoints_name_for_it(info, slots, keys, expected):
    """By either name; its mount by its own, and by the checkpoint's where its own does not say it."""
    found = {camera: keys[at] for camera, at in zip(slots, expected, strict=True)}

    assert assigned(info, list(slots), keys, slots=slots) == found


@pytest.mark.parametrize(
    ("slots", "keys", "lacking"),
    [
        ({"d405": "left_wrist_0_rgb"}, ["observation/image", "agentview"], "d405"),
        ({"wrist": "base_0_rgb"}, ["agentview", "observation/image"], "wrist"),
    ],
)
def test_a_slot_makes_no_scene_of_a_hand(info, slots, keys, lacking):
    """A picture that says another mount, or none, is no hand's."""
    assert f"camera {lacking!r}" in refused("missing-camera", info, list(slots), keys, slots=slots)


def test_a_configured_key_that_does_not_come_is_named(info):
    """With what came: another picture does not take its place."""
    said = refused("missing-camera", info, ["image"], ["image", "y"], fixed={"image": "images/cam_low"})

    assert "'images/cam_low'" in said
    assert "'image', 'y'" in said


def test_names_of_the_configuration_on_the_native_wire(info):
    """A camera comes under its own name or the client's; not under both."""
    asked = replace(info, cameras=("front", "wrist"), camera_keys={"front": "cam_high"})

    assert keys_by_camera({"cam_high": 1, "wrist": 2}, asked) == {"front": "cam_high", "wrist": "wrist"}
    assert keys_by_camera({"wrist": 2, "front": 1, "x": 3}, asked) == {"wrist": "wrist", "front": "front", "x": "x"}
    with pytest.raises(BadRequest, match="Camera 'front' has two pictures, 'cam_high', 'front'"):
        keys_by_camera({"cam_high": 1, "front": 2}, asked)


def test_the_checkpoints_names_on_the_native_wire(info):
    """A camera comes under its own name or the checkpoint's; a configured key that is called so is another's."""
    asked = replace(info, cameras=("front", "wrist"), camera_slots={"front": "base", "wrist": "left"})
    keyed = replace(asked, camera_keys={"front": "left"})

    assert keys_by_camera({"base": 1, "wrist": 2}, asked) == {"front": "base", "wrist": "wrist"}
    assert keys_by_camera({"left": 1, "wrist": 2}, keyed) == {"front": "left", "wrist": "wrist"}
    with pytest.raises(BadRequest, match="Camera 'front' has two pictures, 'base', 'front'"):
        keys_by_camera({"base": 1, "front": 2}, asked)


def test_a_frame_of_many_pictures_is_not_looked_through(info):
    """Looking takes time for each of them; an error names a few, cut short."""
    with pytest.raises(TooLarge, match="65 pictures"):
        assign_cameras({f"key_{number}": 1 for number in range(65)}, {}, info)
    with pytest.raises(Unprocessable) as caught:
        assign_cameras({f"{'x' * 250}{number}": 1 for number in range(64)}, {}, info)

    assert len(caught.value.detail) < 600
    assert "and 56 more" in caught.value.detail
