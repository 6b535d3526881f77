from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stillframe.domain import ActionChunk
from stillframe.errors import Unprocessable
from stillframe.web.dialects.base import Reply
from stillframe.web.dialects.openpi import OPENPI, ROBOARENA
from stillframe.web.dialects.pictures import as_picture, is_picture
from stillframe.web.http.image_headers import JPEG_HEAD, PNG_HEAD
from stillframe.web.http.msgpack_values import UnsupportedValue


@pytest.fixture
def info(desk):
    """The description of a policy."""
    return desk.policy.info


def test_pictures_of_every_kind_become_bytes(picture):
    """Channels first or last, alone or a batch of one, bytes or floats from 0 to 1; each to the same picture."""
    floats = picture / np.float32(255)
    near = floats.copy()
    near[0, 0], near[0, 1] = -9e-6, 1 + 9e-6  # rounding

    for sent in (picture, picture.transpose(2, 0, 1), floats, floats.astype(np.float64).transpose(2, 0, 1)):
        for batched in (sent, sent[None]):
            made = as_picture(batched)
            assert (made.shape, made.dtype) == (picture.shape, np.uint8)
            assert np.abs(made.astype(int) - picture).max() <= 1
    assert np.array_equal(as_picture(picture[:3]), picture[:3])  # three pixels high, channels last
    assert as_picture(near)[0, :2].tolist() == [[0] * 3, [255] * 3]
    assert as_picture(np.full((8, 8, 3), 0.5, np.float16))[1, 1].tolist() == [127, 127, 127]
    assert as_picture(b"a file") == b"a file"


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda floats: floats * 255, "float32 values are 0 to "),
        (lambda floats: floats * 2 - 1, "-1 to "),
        (lambda floats: floats + np.float32(2e-5) + (1 - floats.max()), "to 1.00002"),
        (lambda floats: floats - np.float32(2e-5), "-2e-05 to "),
        (lambda floats: np.where(floats == 0, np.nan, floats), "NaN"),
        (lambda floats: np.where(floats == 0, np.inf, floats), "to inf"),
    ],
)
def test_floats_of_another_range_are_refused(info, picture, spoil, found):
    """They would become another picture: the range that came and the one expected are said, with the key."""
    floats = spoil(picture / np.float32(255)).astype(np.float32)
    with pytest.raises(Unprocessable) as caught:
        OPENPI.translate({"observation/image": floats, "prompt": "go"}, info)

    assert (caught.value.code, caught.value.pointer) == ("image-invalid", "/observation~1image")
    assert found in caught.value.detail
    assert "expected 0 to 1, or uint8" in caught.value.detail


def test_only_pictures_that_are_looked_at_are_judged(info, picture):
    """What is left aside may be anything: another camera's floats, depth, joint states, words."""
    aside = {"observation/wrist_image": picture.astype(np.float32), "depth": np.zeros((8, 8, 1), np.float32)}
    more = {"state": np.zeros((1, 8)), "tags": UnsupportedValue("dtype is '<U4'"), "trajectory": np.zeros((10, 7, 7))}
    said = OPENPI.translate({**aside, **more, "observation/image": picture, "prompt": "go"}, info)

    assert np.array_equal(said.fields["images"]["front"], picture)
    assert said.keys == {"front": "observation/image"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("observation/image", np.zeros((60, 80, 2), np.uint8)),
        ("observation/image", np.zeros((60, 80), np.uint8)),
        ("observation/image", np.zeros((2, 60, 80, 3), np.uint8)),
        ("observation/image", b"RIFF....WEBP"),
        ("observation/image", UnsupportedValue("dtype is '|O'")),
        ("anything", np.zeros((60, 80, 1), np.uint8)),
    ],
)
def test_what_was_to_be_a_picture_is_handed_on(info, key, value):
    """Where a camera has no other: so that its reader says what is wrong with it, and where."""
    said = OPENPI.translate({key: value, "state": np.zeros(8), "prompt": "go"}, info)

    assert said.fields["images"]["front"] is value
    assert said.pointers["/images/front"] == "/" + key.replace("/", "~1")


def test_a_frame_without_a_picture(info):
    """Says which camera has none."""
    with pytest.raises(Unprocessable, match="no picture from camera 'front': the frame has no pictures") as caught:
        OPENPI.translate({"state": np.zeros(8), "prompt": "go"}, info)

    assert caught.value.code == "missing-camera"


def test_what_is_a_picture(picture):
    """An array of RGB or RGBA, alone or as a batch of one, and a JPEG's or PNG's bytes; states and words are none."""
    files = [PNG_HEAD + b"x", JPEG_HEAD + b"x", b"GIF89a", b""]
    grey, double = picture[..., :1], np.stack([picture, picture])
    rgba = np.dstack([picture, picture[..., :1]])

    assert [is_picture(value) for value in (picture, *files)] == [True, True, True, False, False]
    assert all(map(is_picture, (picture[None], rgba, rgba.transpose(2, 0, 1), rgba[None])))
    assert not any(map(is_picture, (picture[0], grey, double, "words", 7, None, [picture])))


@pytest.mark.parametrize("where", ["images", "observation"])
def test_pictures_may_lie_in_a_map(info, picture, where):
    """As ALOHA's clients send them; their place is that of the key in it."""
    said = OPENPI.translate({where: {"cam_high": picture, "depth": np.zeros(8)}, "prompt": "go"}, info)

    assert list(said.fields["images"]) == ["front"]
    assert said.pointers == {"/images/front": f"/{where}~1cam_high", "/instruction": "/prompt"}


def test_pictures_may_lie_in_a_map_of_a_map(info, picture):
    """As LeRobot's data sets have them."""
    said = OPENPI.translate({"observation": {"images": {"front": picture}, "state": np.zeros(8)}, "prompt": "go"}, info)

    assert said.keys == {"front": "observation/images/front"}


@pytest.mark.parametrize(
    ("words", "text", "place"),
    [
        ({"prompt": "a", "instruction": "b", "task": "c"}, "a", "/prompt"),
        ({"task": "c", "instruction": "b"}, "b", "/instruction"),
        ({"task": "c"}, "c", "/task"),
        ({"prompt": b"\xc3\xa9\xff"}, "é\ufffd", "/prompt"),
        ({"prompt": ["a"]}, "a", "/prompt"),
        ({"prompt": [b"a"]}, "a", "/prompt"),
        ({"prompt": ["a", "b"]}, ["a", "b"], "/prompt"),
    ],
)
def test_words_go_by_several_names(info, picture, words, text, place):
    """The first that there is of prompt, instruction and task; bytes are text."""
    said = OPENPI.translate({"image": picture, **words}, info)

    assert (said.fields["instruction"], said.pointers["/instruction"]) == (text, place)


def test_what_is_ours_is_passed_on(info, picture):
    """Key, age and mode, for clients that know us; other keys are not."""
    ours = {"unnorm_key": "jaco", "max_age_ms": 50, "reuse": "exact"}
    said = OPENPI.translate({"image": picture, "torque": np.zeros(8), **ours}, info)

    assert said.fields == {**ours, "images": {"front": said.fields["images"]["front"]}}
    assert said.pointers["/instruction"] == "/prompt"


def test_actions_go_out_as_both_read_them():
    """float32 [horizon, action_dim]: in a map with times in numbers, or bare; the queue is not the policy's time."""
    chunk = ActionChunk(np.arange(14.0).reshape(2, 7) / 3, "jaco")
    answer = Reply(chunk, "echo", {"queue": 0.5, "total": 2.0}, {}, echo={"prev_total_ms": 7.0})
    reply, bare = OPENPI.write(answer), ROBOARENA.write(answer)

    assert reply["actions"].dtype == bare.dtype == np.dtype("<f4")
    assert np.array_equal(reply["actions"], bare)
    assert np.array_equal(bare, chunk.actions.astype(np.float32))
    assert reply["policy_timing"] == {"infer_ms": 1.5}
    assert reply["server_timing"] == {"infer_ms": 2.0, "prev_total_ms": 7.0}


@pytest.mark.parametrize(
    ("cameras", "wrist", "external"),
    [
        (["front"], False, 1),
        (["front", "wrist"], True, 1),
        (["a", "b", "c", "left_wrist"], True, 2),
        (["wrist"], True, 0),
        (["front", "gripper"], True, 1),
    ],
)
def test_roboarena_is_told_of_the_cameras(info, cameras, wrist, external):
    """Whether a wrist's is needed, and how many others: two at most."""
    said = ROBOARENA.metadata(replace(info, cameras=tuple(cameras)))

    assert (said["needs_wrist_camera"], said["n_external_cameras"]) == (wrist, external)
    assert said["image_resolution"] == [224, 224]
