from __future__ import annotations

import httpx
import numpy as np
import pytest

from stillframe_client import PolicyClient, PolicyStream
from stillframe_client.frames import FrameOptions, frame_fields

PICTURE = np.zeros((2, 2, 3), np.uint8)


def fields(image=PICTURE, instruction="reach", **said):
    return frame_fields(image, instruction, lambda picture: picture.shape, FrameOptions(**said))


def test_what_is_said():
    """What there is to say, in Python's own types: numpy's text and numbers become those."""
    said = fields({np.str_("front"): PICTURE}, np.str_("reach"), max_age_ms=np.float32(80), t_obs_ns=np.int64(7))

    assert said == {"images": {"front": (2, 2, 3)}, "instruction": "reach", "max_age_ms": 80.0, "t_obs_ns": 7}
    assert {type(value) for value in said.values()} == {dict, str, float, int}
    assert type(next(iter(said["images"]))) is str
    assert fields(instruction=np.array("reach"), max_age_ms=15) == {
        "image": (2, 2, 3),
        "instruction": "reach",
        "max_age_ms": 15,
    }


@pytest.mark.parametrize("kind", [bool, np.uint8])
def test_masks_are_bytes_of_zeros_and_ones(kind):
    """Whatever a segmenter gives for what matters."""
    mask = np.array([[0, 3], [1, 0]], np.uint8).astype(kind)
    (sent,) = fields(masks={np.str_("front"): mask})["masks"].values()

    assert sent.dtype == np.uint8
    assert sent.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"instruction": b"reach"}, r"instruction is bytes; expected text \(str\): decode it"),
        ({"instruction": None}, "instruction is of type NoneType; expected text"),
        ({"instruction": 7}, "instruction is of type int"),
        ({"instruction": ["reach"]}, "instruction is of type list"),
        ({"instruction": np.array(["a", "b"])}, "instruction is of type ndarray"),
        ({"instruction": "\ud800"}, "instruction holds half a surrogate pair"),
        ({"unnorm_key": b"jaco"}, "unnorm_key is bytes"),
        ({"unnorm_key": 7}, "unnorm_key is of type int"),
        ({"reuse": True}, "reuse is of type bool"),
        ({"image": {7: PICTURE}}, "camera's name is of type int"),
        ({"image": {b"front": PICTURE}}, "camera's name is bytes"),
        ({"max_age_ms": "80"}, "max_age_ms is '80'; expected milliseconds"),
        ({"max_age_ms": True}, "max_age_ms is True"),
        ({"max_age_ms": -1}, "max_age_ms is -1"),
        ({"max_age_ms": float("nan")}, "max_age_ms is nan"),
        ({"max_age_ms": float("inf")}, "max_age_ms is inf"),
        ({"t_obs_ns": 1.5}, "t_obs_ns is 1.5"),
        ({"t_obs_ns": 2**64}, "t_obs_ns is 18446744073709551616; expected"),
        ({"masks": np.zeros((2, 2), bool)}, "masks is of type ndarray; expected a mapping"),
        ({"masks": {7: np.zeros((2, 2), bool)}}, "camera's name is of type int"),
        ({"masks": {"front": [[0, 1]]}}, r"masks\['front'\] is list; expected an array"),
        ({"masks": {"front": np.zeros((2, 2))}}, r"masks\['front'\] is float64 \(2, 2\); expected an array"),
        ({"masks": {"front": np.zeros((2, 2, 1), np.uint8)}}, r"is uint8 \(2, 2, 1\); expected an array"),
    ],
    ids=str,
)
def test_what_cannot_be_said(said, words):
    """It is refused before anything is sent, by its name, with what was expected."""
    with pytest.raises(ValueError, match=words):
        fields(**said)


def test_both_clients_look_first():
    """Nothing is sent of a frame that is none: a robot's program is told of its mistake, not of the network."""
    never = httpx.MockTransport(lambda _: pytest.fail("sent"))
    with PolicyClient("http://robot.test", transport=never) as client, pytest.raises(ValueError, match="decode it"):
        client.act(PICTURE, b"reach")  # type: ignore[arg-type]
    with PolicyStream("http://127.0.0.1:1") as stream, pytest.raises(ValueError, match="decode it"):
        stream.act(PICTURE, b"reach")  # type: ignore[arg-type]
