from __future__ import annotations

import json

import numpy as np
import pytest

from stillframe.domain import ActionChunk
from stillframe.errors import Internal
from stillframe.web.dialects.base import Reply
from stillframe.web.dialects.cogact import COGACT
from stillframe.web.dialects.native import BINARY_NATIVE, JSON_NATIVE
from stillframe.web.dialects.openpi import OPENPI, ROBOARENA
from stillframe.web.dialects.openvla import OPENVLA, DoubleEncoded
from stillframe.web.dialects.openvla_oft import OPENVLA_OFT
from stillframe_client.wire import decode_array

# An 8 x 8 picture, all (1, 2, 3), as requests and json-numpy put it on the wire.
PIXELS = b"AQID" * 64
ARRAY = b'{"__numpy__": "' + PIXELS + b'", "dtype": "|u1", "shape": [8, 8, 3]}'
REQUEST = b'{"image": ' + ARRAY + b', "instruction": "go", "unnorm_key": "jaco"}'
# (8, 8, 1, 2, 3, 2, 1) as float64, as OpenVLA's own server writes it.
ACTION = "AAAAAAAAIEAAAAAAAAAgQAAAAAAAAPA/AAAAAAAAAEAAAAAAAAAIQAAAAAAAAABAAAAAAAAA8D8="
REPLY = b'{"__numpy__":"' + ACTION.encode() + b'","dtype":"<f8","shape":[7]}'
# Double-encoded, the inner text keeps json.dumps' spaces.
DOUBLE_REPLY = json.dumps(f'{{"__numpy__": "{ACTION}", "dtype": "<f8", "shape": [7]}}').encode()

REPORT = {"cache": {"mode": "off"}}


def answer(chunk):
    """What is said of a chunk."""
    return Reply(chunk, model="m", timing_ms={"total": 1.0}, report=REPORT)


@pytest.mark.parametrize("headers", [{"Content-Type": "application/json"}, {}], ids=["json", "untyped"])
def test_openvla_bytes(desk, headers):
    """OpenVLA's recorded request is answered with the bytes of OpenVLA's own server, content type or not."""
    reply = desk.ask("POST", "/act", content=REQUEST, headers=headers)

    assert (reply.status_code, reply.content) == (200, REPLY)
    assert reply.headers["content-type"] == "application/json"


def test_double_encoded_bytes(desk):
    """A request under the single key 'encoded' is answered with a JSON string that holds json_numpy text."""
    reply = desk.ask("POST", "/act", content=json.dumps({"encoded": REQUEST.decode()}).encode())

    assert (reply.status_code, reply.content) == (200, DOUBLE_REPLY)


def test_unnorm_key_may_be_absent_or_null(desk):
    """A request without a key, or with null, is scaled by the default one."""
    absent = desk.ask("POST", "/act", content=REQUEST.replace(b', "unnorm_key": "jaco"', b""))
    null = desk.ask("POST", "/act", content=REQUEST.replace(b'"jaco"', b"null"))

    assert absent.content == null.content == REPLY
    assert [observation.unnorm_key for observation in desk.policy.seen] == [None, None]


def test_readable_reply(desk, encoded):
    """A base64 picture is answered with an object: actions, steps, statistics, model, times, reuse, history."""
    reply = desk.act({"image": encoded("PNG"), "instruction": "go", "unnorm_key": "bridge_orig"}).json()

    assert list(reply) == ["actions", "steps", "unnorm_key", "model", "timing_ms", "cache", "history"]
    assert reply["actions"] == [[12.0, 16.0, 0.0, 1.0, 2.0, 2.0, 1.0]]
    assert (reply["unnorm_key"], reply["model"]) == ("bridge_orig", "echo")
    assert list(reply["timing_ms"]) == ["receive", "unpack", "queue", "prefill", "total"]


def test_readable_reply_double_encoded(desk, encoded):
    """Double encoding wraps the readable reply as well."""
    reply = desk.act({"encoded": json.dumps({"image": encoded("PNG"), "instruction": "go"})}).json()

    assert json.loads(reply)["actions"] == [[12.0, 16.0, 0.0, 1.0, 2.0, 2.0, 1.0]]


def test_bare_reply_holds_the_action_due_now():
    """Of a chunk, the bare dialect gets the first action; the readable one gets all, to the last bit."""
    chunk = ActionChunk(np.random.default_rng(0).normal(size=(3, 7)), "jaco")
    bare, readable = (dialect.write(answer(chunk)) for dialect in (OPENVLA, JSON_NATIVE))

    assert decode_array(bare).tobytes() == chunk.actions[0].tobytes()
    assert list(bare) == ["__numpy__", "dtype", "shape"]
    assert np.array_equal(readable["actions"], chunk.actions)
    assert readable["cache"] == REPORT["cache"]


@pytest.mark.parametrize(
    "dialect",
    [OPENVLA, DoubleEncoded(JSON_NATIVE), OPENVLA_OFT, COGACT, OPENPI, ROBOARENA, JSON_NATIVE, BINARY_NATIVE],
    ids=lambda dialect: type(dialect).__name__,
)
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_no_poison_reaches_a_robot(dialect, poison):
    """NaN or infinity anywhere in the chunk is an error in every dialect."""
    actions = np.zeros((2, 7))
    actions[1, 6] = poison

    with pytest.raises(Internal) as caught:
        dialect.write(answer(ActionChunk(actions, "jaco")))
    assert caught.value.code == "non-finite-action"
