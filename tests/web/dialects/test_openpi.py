from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stillframe.domain import ActionChunk
from stillframe.web.dialects.base import Answer
from stillframe.web.dialects.openpi import OPENPI, ROBOARENA, as_picture, is_picture
from stillframe.web.reading.headers import JPEG_HEAD, PNG_HEAD


@pytest.fixture
def info(desk):
    """The description of a policy."""
    return desk.policy.info


def test_pictures_of_every_kind_become_bytes(picture):
    """Channels first or last, bytes or floats from 0 to 1, which are cut at both ends; a nan is black."""
    floats = picture / np.float32(255)
    odd = np.full((8, 8, 3), 0.5, np.float32)
    odd[0, :3, 0] = np.nan, -1.0, 2.0
    seen = as_picture(odd)

    for sent in (picture, picture.transpose(2, 0, 1), floats, floats.astype(np.float64).transpose(2, 0, 1)):
        made = as_picture(sent)
        assert (made.shape, made.dtype) == (picture.shape, np.uint8)
        assert np.abs(made.astype(int) - picture).max() <= 1
    assert np.array_equal(as_picture(picture[:3]), picture[:3])  # three pixels high, channels last
    assert seen[0, :3, 0].tolist() == [0, 0, 255]
    assert seen[1, 1].tolist() == [127, 127, 127]
    assert as_picture(b"a file") == b"a file"


def test_what_is_a_picture(picture):
    """An array of rank 3, and a JPEG's or PNG's bytes; states, words and other files are none."""
    files = [PNG_HEAD + b"x", JPEG_HEAD + b"x", b"GIF89a", b""]

    assert [is_picture(value) for value in (picture, *files)] == [True, True, True, False, False]
    assert not any(map(is_picture, (picture[0], picture[None], "words", 7, None, [picture])))


@pytest.mark.parametrize("where", ["images", "observation"])
def test_pictures_may_lie_in_a_map(info, picture, where):
    """As ALOHA's clients send them; their place is that of the key in it."""
    said = OPENPI.translate({where: {"cam_high": picture, "state": np.zeros(8)}, "prompt": "go"}, info)

    assert list(said.fields["images"]) == ["front"]
    assert said.places == {"/images/front": f"/{where}~1cam_high", "/instruction": "/prompt"}


@pytest.mark.parametrize(
    ("words", "text", "place"),
    [
        ({"prompt": "a", "instruction": "b", "task": "c"}, "a", "/prompt"),
        ({"task": "c", "instruction": "b"}, "b", "/instruction"),
        ({"task": "c"}, "c", "/task"),
        ({"prompt": b"\xc3\xa9\xff"}, "é\ufffd", "/prompt"),
    ],
)
def test_words_go_by_several_names(info, picture, words, text, place):
    """The first that there is of prompt, instruction and task; bytes are text."""
    said = OPENPI.translate({"image": picture, **words}, info)

    assert (said.fields["instruction"], said.places["/instruction"]) == (text, place)


def test_what_is_ours_is_passed_on(info, picture):
    """Key, age and mode, for clients that know us; joint states are not."""
    ours = {"unnorm_key": "jaco", "max_age_ms": 50, "reuse": "exact"}
    said = OPENPI.translate({"image": picture, "state": np.zeros(8), **ours}, info)

    assert said.fields == {**ours, "images": {"front": said.fields["images"]["front"]}}
    assert said.places["/instruction"] == "/prompt"


def test_actions_go_out_as_both_read_them():
    """float32 [horizon, action_dim]: in a map with times in numbers, or bare; the queue is not the policy's time."""
    chunk = ActionChunk(np.arange(14.0).reshape(2, 7) / 3, "jaco")
    answer = Answer(chunk, "echo", {"queue": 0.5, "total": 2.0}, {}, echo={"prev_total_ms": 7.0})
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
    ],
)
def test_roboarena_is_told_of_the_cameras(info, cameras, wrist, external):
    """Whether a wrist's is needed, and how many others: two at most."""
    said = ROBOARENA.metadata(replace(info, cameras=tuple(cameras)))

    assert (said["needs_wrist_camera"], said["n_external_cameras"]) == (wrist, external)
    assert said["image_resolution"] == [224, 224]
