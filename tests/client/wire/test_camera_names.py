from __future__ import annotations

import pytest

from stillframe_client.wire.camera_names import (
    Mount,
    NameMatch,
    camera_mount,
    match_camera,
    match_name,
    mount_of,
    split_words,
)


@pytest.mark.parametrize(
    ("key", "place"),
    [
        *((key, Mount.HAND) for key in ("wrist", "robot0_eye_in_hand_image", "gripperPOV", "eyeInHand", "WRIST_RGB")),
        *((key, Mount.HAND) for key in ("handeye", "in-hand", "wrist1", "images.left_wristcam", "ee_camera")),
        *((key, Mount.SCENE) for key in ("agentview", "base_0_rgb", "exterior_image_1_left", "front", "head_cam")),
        *((key, Mount.SCENE) for key in ("image_primary", "full_image", "third_person", "rgb_static", "overhead")),
        *((key, None) for key in ("image", "rgb", "left", "cam0", "handle_view", "cam_low", "observation/image", "")),
    ],
)
def test_what_a_key_says_of_its_place(key, place):
    """Whole words, but for those that are never part of others."""
    assert mount_of(key) is place


@pytest.mark.parametrize(
    ("camera", "key", "how"),
    [
        ("image", "image", NameMatch.SAME),
        ("image_front", "front.image", NameMatch.WORDS),
        ("front", "observation/front_rgb", NameMatch.WITH_FILLER),
        ("front", "front_camera_2", NameMatch.NUMBERED),
        ("left_wrist_0_rgb", "images/cam_left_wrist", NameMatch.ABRIDGED),
        ("left_wrist_0_rgb", "wrist_image_left", NameMatch.ABRIDGED),
        ("image_front_1", "front", NameMatch.ABRIDGED),
        ("left_wrist_0_rgb", "cam_right_wrist", NameMatch.SAME_MOUNT),
        ("left_wrist_0_rgb", "wrist", NameMatch.SAME_MOUNT),
        ("wrist_1", "wrist_2", NameMatch.SAME_MOUNT),
        ("image_1", "image", NameMatch.NO_MOUNT),
        ("front", "agentview", NameMatch.SAME_MOUNT),
        ("wrist", "right_wrist", NameMatch.SAME_MOUNT),
        ("front", "image", NameMatch.NO_MOUNT),
        ("front", "wrist", NameMatch.NONE),
        ("wrist", "image", NameMatch.NONE),
        ("\u76f8\u6a5f", "\u76f8\u6a5f/rgb", NameMatch.WITH_FILLER),
        ("?", "!", NameMatch.NO_MOUNT),
    ],
)
def test_how_well_a_key_names_a_camera(camera, key, how):
    """From the letter to silence."""
    assert match_name(camera, key) is how


def test_words_of_a_key():
    """At every change of letters, numbers and signs."""
    assert split_words("Observation/D435wristImage0.RGB") == ("observation", "d", "435", "wrist", "image", "0", "rgb")


@pytest.mark.parametrize(
    ("camera", "slot", "key", "how"),
    [
        ("d405", "left_wrist_0_rgb", "d405", NameMatch.SAME),
        ("d405", "left_wrist_0_rgb", "left_wrist_0_rgb", NameMatch.SAME),
        ("d405", "left_wrist_0_rgb", "image/left_wrist_0_rgb", NameMatch.WITH_FILLER),
        ("d405", "left_wrist_0_rgb", "hand", NameMatch.SAME_MOUNT),
        ("d405", "left_wrist_0_rgb", "image", NameMatch.NONE),
        ("mast", "base_0_rgb", "agentview", NameMatch.SAME_MOUNT),
        ("mast", "base_0_rgb", "image", NameMatch.NO_MOUNT),
        ("wrist", "base_0_rgb", "agentview", NameMatch.NONE),
        ("wrist", "base_0_rgb", "base_0_rgb", NameMatch.SAME),
        ("front", "front", "image", NameMatch.NO_MOUNT),
    ],
)
def test_how_well_a_key_names_a_camera_in_a_slot(camera, slot, key, how):
    """By either name; by the mount that the camera's own says, or the slot's where it says none."""
    assert match_camera(camera, slot, key) is how


def test_where_a_camera_in_a_slot_is_mounted():
    """Its own name counts first."""
    assert camera_mount("wrist", "base_0_rgb") is Mount.HAND
    assert camera_mount("d405", "left_wrist_0_rgb") is Mount.HAND
    assert camera_mount("mast", "base_0_rgb") is Mount.SCENE
    assert camera_mount("mast", "mast") is None
