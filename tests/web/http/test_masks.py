"""The field `masks`: through JSON, msgpack and forms to the policy, and what is refused and why."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import PIL.Image
import pytest

from stillframe_client.wire import encode_array, pack


@pytest.fixture
def desk(new_desk):
    """The app over a policy that tells what it saw."""
    return new_desk()


@pytest.fixture
def sent(desk, frame, picture):
    """A frame with this value for its mask of the one camera, by its name."""
    name = desk.policy.info.cameras[0]
    plain = {**frame, "image": encode_array(picture)}
    return lambda value: {**plain, "masks": {name: value}}


def png(pixels, kind="PNG"):
    """A file's bytes."""
    sink = io.BytesIO()
    PIL.Image.fromarray(pixels).save(sink, kind)
    return sink.getvalue()


def refused(desk, fields):
    """The problem that a native frame is answered with."""
    return desk.ask("POST", "/v1/act", json=fields).json()


def mask_of(picture):
    """Of the picture's size."""
    mask = np.zeros(picture.shape[:2], np.bool_)
    mask[1:3, 2] = True
    return mask


def test_every_form_is_the_same_mask(desk, sent, picture):
    """Arrays and PNGs, in JSON and msgpack; anything but 0 is on."""
    mask = mask_of(picture)
    forms = [
        encode_array(mask.astype(np.uint8)),
        encode_array(mask.astype(np.uint8) * 255),
        base64.b64encode(png(mask)).decode(),
        "data:image/png;base64," + base64.b64encode(png(mask.astype(np.uint8))).decode(),
    ]
    for form in forms:
        assert desk.ask("POST", "/v1/act", json=sent(form)).status_code == 200
    for form in (mask.astype(np.uint8), png(mask)):
        body = pack({**sent(form), "image": picture})
        reply = desk.ask("POST", "/v1/act", content=body, headers={"content-type": "application/msgpack"})
        assert reply.status_code == 200
    fields = {key: value for key, value in sent(forms[0]).items() if key != "image"}
    reply = desk.ask(
        "POST",
        "/v1/act",
        files={"image": ("a.png", png(picture), "image/png")},
        data={"json": json.dumps(fields)},
    )
    assert reply.status_code == 200

    seen = [observation.masks for observation in desk.policy.seen]
    assert len(seen) == 7
    for masks in seen:
        assert [*masks] == [desk.policy.info.cameras[0]]
        assert np.array_equal(next(iter(masks.values())), mask)


def test_a_frame_may_say_nothing(desk, sent):
    """Null, or no mask of any camera."""
    for said in (None, {}):
        assert desk.ask("POST", "/v1/act", json={**sent(0), "masks": said}).status_code == 200

    assert [observation.masks for observation in desk.policy.seen] == [{}, {}]


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        (7, "mask-invalid", "no an array"),
        ("!", "bad-codec", "base64"),
        (base64.b64encode(b"GIF89a").decode(), "mask-invalid", "no PNG"),
        (base64.b64encode(png(np.zeros((4, 5), np.uint8))).decode(), "mask-invalid", "is 4 x 5; its picture is"),
        (encode_array(np.zeros((4, 5), np.uint8)), "mask-invalid", "is 4 x 5; its picture is"),
        (encode_array(np.zeros((1, 4, 5), np.uint8)), "mask-invalid", "is 1 x 4 x 5; its picture is"),
        ({"__numpy__": "", "dtype": "|u1"}, "mask-invalid", "is no size; its picture is"),
    ],
    ids=str,
)
def test_what_is_no_mask(desk, sent, value, code, words):
    """It is refused before the policy, with a pointer to it."""
    problem = refused(desk, sent(value))

    assert (problem["code"], problem["errors"][0]["pointer"]) == (code, f"/masks/{desk.policy.info.cameras[0]}")
    assert re.search(words, problem["detail"])
    assert desk.policy.seen == []


def test_a_mask_of_colours_or_of_floats(desk, sent, picture):
    """It says what it is, and what is expected."""
    colours = refused(desk, sent(base64.b64encode(png(picture)).decode()))
    floats = refused(desk, sent(encode_array(mask_of(picture).astype(np.float32))))

    assert (colours["code"], "mode RGB; expected one grey channel" in colours["detail"]) == ("mask-invalid", True)
    assert floats["code"] == "bad-codec"


def test_masks_go_with_pictures(desk, sent):
    """Each with one that the frame has, in an object."""
    unknown = refused(desk, {**sent(0), "masks": {"elbow": 0}})
    plain = refused(desk, {**sent(0), "masks": 5})

    assert (unknown["code"], unknown["errors"][0]["pointer"]) == ("unknown-camera", "/masks")
    assert "'elbow'" in unknown["detail"]
    assert (plain["code"], plain["errors"][0]["pointer"]) == ("bad-field", "/masks")


def test_other_dialects_have_no_masks(desk, sent):
    """What their clients call so is not ours to read."""
    assert desk.act({**sent(0), "masks": "anything"}).status_code == 200
    assert desk.policy.seen[0].masks == {}
