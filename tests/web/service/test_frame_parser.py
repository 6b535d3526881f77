from __future__ import annotations

import base64
import dataclasses
import json

import numpy as np
import pytest

from stillframe.errors import RequestError
from stillframe.web.dialects.cogact import COGACT
from stillframe.web.dialects.openpi import OPENPI
from stillframe.web.dialects.openvla import OPENVLA
from stillframe.web.dialects.openvla_oft import OPENVLA_OFT
from stillframe.web.dialects.select import by_json_keys
from stillframe.web.http.codecs import JSON
from stillframe.web.http.limits import Limits
from stillframe.web.http.parsing import parse_json
from stillframe.web.http.session_fields import RequestAddress
from stillframe.web.service.frame_parser import FrameParser
from stillframe_client.wire import encode_array


@pytest.fixture
def info(desk):
    """The description of a policy with one camera and two sets of statistics."""
    return desk.policy.info


@pytest.fixture
def two_cameras(info):
    """The description of a policy with two cameras."""
    return dataclasses.replace(info, cameras=("front", "wrist"))


def read_body(body, info, **limits):
    bounds = Limits(**limits)
    dialect, inner = by_json_keys(parse_json(body, bounds.max_json_parts), JSON, bounds.max_json_parts)
    return FrameParser(info, bounds).parse(inner, dialect, RequestAddress())


def parse(fields, info, **limits):
    return read_body(json.dumps(fields).encode(), info, **limits)


def refusal(fields, info, **limits):
    with pytest.raises(RequestError) as caught:
        parse(fields, info, **limits)
    return caught.value.code, caught.value.pointer


def test_a_frame_is_read_whole(frame, picture, info):
    """Pixels, words, key and age arrive as they were sent; an unknown field does no harm."""
    read_out = parse({**frame, "max_age_ms": 250, "mood": "calm"}, info)

    assert np.array_equal(read_out.observation.images["front"], picture)
    assert read_out.observation.instruction == "pick up the red cube"
    assert read_out.observation.unnorm_key == "jaco"
    assert read_out.max_age_ms == 250.0


def test_cameras_keep_the_order_of_the_request(picture, two_cameras):
    """The order of the keys may carry meaning and is kept."""
    images = {"wrist": encode_array(picture[:9]), "front": encode_array(picture)}
    observation = parse({"images": images, "instruction": "go"}, two_cameras).observation

    assert list(observation.images) == ["wrist", "front"]
    assert observation.images["wrist"].shape == (9, 16, 3)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        ({"image": ...}, ("missing-field", "/image")),
        ({"image": None}, ("image-invalid", "/image")),
        ({"image": [[[1, 2, 3]]]}, ("image-invalid", "/image")),
        ({"image": 7}, ("image-invalid", "/image")),
        ({"image": {"dtype": "|u1"}}, ("image-invalid", "/image")),
        ({"instruction": ...}, ("missing-field", "/instruction")),
        ({"instruction": 5}, ("bad-field", "/instruction")),
        ({"instruction": "\ud800"}, ("bad-field", "/instruction")),
        ({"instruction": " \n"}, ("instruction-empty", "/instruction")),
        ({"instruction": "é" * 1025}, ("instruction-too-long", "/instruction")),
        ({"unnorm_key": 5}, ("bad-field", "/unnorm_key")),
        ({"unnorm_key": "jacko"}, ("unknown-unnorm-key", "/unnorm_key")),
        ({"max_age_ms": "100"}, ("bad-field", "/max_age_ms")),
        ({"max_age_ms": True}, ("bad-field", "/max_age_ms")),
        ({"max_age_ms": 0}, ("bad-field", "/max_age_ms")),
        ({"max_age_ms": 60_001}, ("bad-field", "/max_age_ms")),
        ({"max_age_ms": 10**400}, ("bad-field", "/max_age_ms")),
        ({"session_id": 7}, ("bad-field", "/session_id")),
        ({"session_id": ""}, ("session-id-invalid", "/session_id")),
        ({"reuse": "exact"}, ("reuse-without-session", "/reuse")),
        ({"session_id": "arm", "reuse": True}, ("bad-field", "/reuse")),
        ({"session_id": "arm", "reuse": "exakt"}, ("unknown-reuse-mode", "/reuse")),
        ({"images": {}}, ("bad-field", "/images")),
        ({"encoded": "{}"}, ("bad-codec", "/encoded")),
    ],
)
def test_a_spoilt_field_is_named(frame, info, spoil, expected):
    """Each fault has its code and points at its field."""
    fields = {key: value for key, value in {**frame, **spoil}.items() if value is not ...}

    assert refusal(fields, info) == expected


@pytest.mark.parametrize("stamp", [2**63, -(2**63) - 1, 10**30, True, 1.0, "1", [1]])
def test_a_stamp_has_to_be_a_number_of_64_bits(frame, info, stamp):
    """Else it could not be handed back on every wire."""
    assert refusal({**frame, "t_obs_ns": stamp}, info) == ("bad-field", "/t_obs_ns")


@pytest.mark.parametrize("stamp", [0, -(2**63), 2**63 - 1])
def test_a_stamp_is_handed_back(frame, info, stamp):
    """As it was sent; none is none."""
    assert parse({**frame, "t_obs_ns": stamp}, info).echo == {"t_obs_ns": stamp}
    assert parse({**frame, "t_obs_ns": None}, info).echo == parse(frame, info).echo == {}


@pytest.mark.parametrize(
    ("dialect", "fields", "expected"),
    [
        (OPENVLA_OFT, {"full_image": 7, "instruction": "go"}, ("image-invalid", "/full_image")),
        (OPENVLA_OFT, {"full_image": ..., "instruction": " "}, ("instruction-empty", "/instruction")),
        (COGACT, {"images": b"GIF89a", "task_description": "go"}, ("image-invalid", "/images")),
        (COGACT, {"images": ..., "task_description": " "}, ("instruction-empty", "/json/task_description")),
        (OPENPI, {"observation/image": ..., "prompt": 5}, ("bad-field", "/prompt")),
        (OPENPI, {"observation/image": np.zeros((4, 4, 3), np.uint8)}, ("image-invalid", "/observation~1image")),
    ],
)
def test_a_fault_is_where_its_client_said_it(info, encoded, dialect, fields, expected):
    """In the words of the dialect that it speaks, not of the native one."""
    png = base64.b64decode(encoded("PNG"))
    said = {key: png if value is ... else value for key, value in fields.items()}
    with pytest.raises(RequestError) as caught:
        FrameParser(info, Limits()).parse(said, dialect, RequestAddress())

    assert (caught.value.code, caught.value.pointer) == expected


def test_figures_just_within_the_limits_are_taken(frame, info, two_cameras, picture):
    """Letters, age and pictures, to the last one."""
    images = {name: encode_array(picture) for name in two_cameras.cameras}

    assert parse({**frame, "instruction": "é" * 1024}, info).observation.instruction == "é" * 1024
    assert parse({**frame, "max_age_ms": 60_000}, info).max_age_ms == 60_000
    assert parse(frame, info).max_age_ms == Limits().default_max_age_ms
    assert len(parse({"images": images, "instruction": "go"}, two_cameras, max_images=2).observation.images) == 2
    assert refusal({"images": images, "instruction": "go"}, two_cameras, max_images=1)[0] == "too-many-images"
    assert refusal({"images": images, **frame}, two_cameras) == ("bad-field", "/images")


def test_a_frames_parts_are_counted(frame, info):
    """Commas and brackets of every kind, to the last one."""
    body = json.dumps({**frame, "more": [{}, [], {}]}).encode()
    parts = sum(body.count(mark) for mark in (b",", b"[", b"{"))

    assert read_body(body, info, max_json_parts=parts).observation.instruction == frame["instruction"]
    with pytest.raises(RequestError, match="parts"):
        read_body(body, info, max_json_parts=parts - 1)


def test_the_digest_goes_with_the_frame(frame, info):
    """By it a repeat is told from another frame."""
    assert FrameParser(info, Limits()).parse(frame, OPENVLA, RequestAddress(), b"digest").digest == b"digest"


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ({"front": 1}, ("missing-camera", "/images")),
        ({"front": 1, "wrists": 1}, ("unknown-camera", "/images")),
        ({"front": 1, "wrist": 1, "~/": 1}, ("unknown-camera", "/images")),
        ({str(number): 1 for number in range(9)}, ("too-many-images", "/images")),
        ({"front": 1, "wrist": 1}, ("image-invalid", "/images/front")),
        ([1, 2], ("bad-field", "/images")),
    ],
)
def test_cameras_have_to_match(two_cameras, images, expected):
    """Every camera of the policy has to be there and no other; the count is judged before the names."""
    assert refusal({"images": images, "instruction": "go"}, two_cameras) == expected


def test_one_picture_is_not_enough_for_two_cameras(frame, two_cameras):
    """A bare 'image' does not say which camera it is from."""
    assert refusal(frame, two_cameras) == ("missing-camera", "/image")


def test_the_choices_are_listed(frame, info):
    """An unknown key is answered with all keys there are, and the nearest one."""
    with pytest.raises(RequestError, match=r"choose one of bridge_orig, jaco\. Did you mean 'bridge_orig'") as caught:
        parse({**frame, "unnorm_key": "bridge_org"}, info)
    assert caught.value.status == 422


def test_the_key_is_needed_where_there_is_no_default(frame, info):
    """With several statistics and no default, null is refused; an empty key is a wrong one."""
    choosy = dataclasses.replace(info, default_unnorm_key=None)

    assert refusal({**frame, "unnorm_key": ""}, info) == ("unknown-unnorm-key", "/unnorm_key")
    assert refusal({**frame, "unnorm_key": None}, choosy) == ("unknown-unnorm-key", "/unnorm_key")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe{}",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": ' + b"[" * 9000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": [' + b"0," * 10_001 + b"0]}",
        b'{"encoded": "[1"}',
        b'{"encoded": "[1]"}',
    ],
    ids=lambda body: repr(body[:16]),
)
def test_what_is_not_one_json_object(info, body):
    """Broken, deep, many-parted or non-standard JSON is refused as such, at either level of encoding."""
    with pytest.raises(RequestError) as caught:
        read_body(body, info)
    assert (caught.value.code, caught.value.status) == ("bad-json", 400)


def test_encoded_has_to_be_text(info):
    """The value of 'encoded' is JSON text, not an object."""
    assert refusal({"encoded": {"image": 1}}, info) == ("bad-codec", "/encoded")
