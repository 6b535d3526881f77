from __future__ import annotations

import base64
import copy

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.testing import policy_info, state_info
from stillframe.web.openapi.problem_codes import PROBLEM_CODES
from stillframe_client.wire import encode_array, pack

EXAMPLES = settings(derandomize=True)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
SESSION_FIELDS = st.sampled_from(["session_id", "secret", "service", "reuse", "epoch"])
MARKERS = st.sampled_from(
    ["__ndarray__", "__npgeneric__", "__ndarray_class__", "__image__", "nd", "type", "kind", "shape", "dtype", "data"]
)
FIELDS = st.sampled_from(
    ["image", "images", "instruction", "unnorm_key", "max_age_ms", "encoded", "session_id", "reuse", "state", "other"]
)


@pytest.fixture(scope="module")
def fuzzed(new_desk):
    """One daemon for all examples: what one leaves behind, the next would meet."""
    return new_desk()


@pytest.fixture(scope="module")
def needy(new_desk):
    """The same, of a policy that reads the robot's state."""
    return new_desk(info=policy_info(state=state_info("x", "y", "opening")))


def assert_sane(reply):
    """Hold that a reply is an action, or a client's problem from the catalogue."""
    if reply.is_success:
        return
    code = reply.json()["code"]
    assert reply.status_code < 500 or code == "deadline-exceeded", reply.text  # for a max_age_ms of next to nothing
    assert PROBLEM_CODES[code].status == reply.status_code
    assert "Traceback" not in reply.text


@EXAMPLES
@given(body=st.binary(max_size=300))
def test_any_bytes(fuzzed, body):
    """Bytes that are no frame are never an action and never our fault."""
    reply = fuzzed.ask("POST", "/act", content=body)

    assert_sane(reply)
    assert reply.status_code != 200


@EXAMPLES
@given(fields=st.dictionaries(FIELDS, VALUES, max_size=5))
def test_any_fields(fuzzed, fields):
    """An object with our field names and any values is never an action: none of them is a picture."""
    reply = fuzzed.act(fields)

    assert_sane(reply)
    assert reply.status_code != 200


@EXAMPLES
@given(key=st.sampled_from(["__numpy__", "dtype", "shape"]), value=VALUES)
def test_any_array(fuzzed, picture, key, value):
    """A raw picture with one part replaced is never an action."""
    reply = fuzzed.act({"image": {**encode_array(picture), key: value}, "instruction": "go"})

    assert_sane(reply)
    assert reply.status_code != 200


@EXAMPLES
@given(field=FIELDS, value=VALUES)
def test_one_field_replaced(fuzzed, picture, field, value):
    """A good frame with one field replaced is answered with an action or with the client's problem."""
    frame = copy.deepcopy({"image": encode_array(picture), "instruction": "go", "unnorm_key": "jaco"})

    assert_sane(fuzzed.act({**frame, field: value}))


@EXAMPLES
@given(kind=st.sampled_from(["JPEG", "PNG"]), at=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.booleans())
def test_any_damage_to_a_picture(fuzzed, encoded, kind, at, byte, cut):
    """A JPEG or PNG with a byte changed or its end cut off never becomes our fault."""
    data = bytearray(base64.b64decode(encoded(kind)))
    at %= len(data)
    data = data[:at] if cut else data[:at] + bytes([byte]) + data[at + 1 :]

    assert_sane(fuzzed.act({"image": base64.b64encode(data).decode(), "instruction": "go"}))


BINARY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(MARKERS | st.text(max_size=8), inner, max_size=5),
    max_leaves=12,
)


@EXAMPLES
@given(fields=st.dictionaries(FIELDS, BINARY, max_size=5))
def test_any_map(fuzzed, fields):
    """In msgpack too: maps that may look like arrays in any of their forms, and are none."""
    reply = fuzzed.ask(
        "POST", "/v1/act", content=msgpack.packb(fields), headers={"content-type": "application/msgpack"}
    )

    assert_sane(reply)
    assert reply.status_code != 200


@EXAMPLES
@given(state=VALUES)
def test_any_state(needy, picture, state):
    """A policy that reads three numbers gets three finite ones, or the frame is the client's problem."""
    before = len(needy.policy.seen)
    reply = needy.act({"image": encode_array(picture), "instruction": "go", "state": state})

    assert_sane(reply)
    assert all(np.isfinite(seen.state).all() and seen.state.shape == (3,) for seen in needy.policy.seen[before:])


@EXAMPLES
@given(state=BINARY | st.dictionaries(MARKERS, BINARY, max_size=5))
def test_any_state_in_msgpack(needy, picture, state):
    """The same of maps that may look like arrays in any of their forms, and are none."""
    before = len(needy.policy.seen)
    body = pack({"image": picture, "instruction": "go"})
    body = bytes([body[0] + 1]) + body[1:] + msgpack.packb("state") + msgpack.packb(state)
    reply = needy.ask("POST", "/v1/act", content=body, headers={"content-type": "application/msgpack"})

    assert_sane(reply)
    assert all(np.isfinite(seen.state).all() and seen.state.shape == (3,) for seen in needy.policy.seen[before:])


@EXAMPLES
@given(
    fields=st.dictionaries(st.sampled_from(["session_id", "secret", "service", "reuse", "epoch"]), VALUES, max_size=4)
)
def test_any_session(fuzzed, fields):
    """Whatever is asked of sessions is done or refused; what was opened can be closed."""
    opened = fuzzed.ask("POST", "/v1/sessions", json=fields)
    if opened.status_code == 201:
        assert fuzzed.ask("DELETE", opened.headers["location"]).status_code == 204
    for path in ("/reset", "/v1/sessions/nobody/reset"):
        assert_sane(fuzzed.ask("POST", path, json=fields))

    assert_sane(opened)


@EXAMPLES
@given(
    session=st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=140),
    key=st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=140),
    kind=st.sampled_from(["", "application/json", "text/plain", "multipart/form-data", "application/msgpack"]),
    tail=st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60),
)
def test_any_head(fuzzed, session, key, kind, tail):
    """A frame under any headers is answered, or its head is refused."""
    headers = {"X-Session-Id": session, "Idempotency-Key": key, "Content-Type": kind + tail}
    reply = fuzzed.ask(
        "POST", "/v1/act", content=b"{}", headers=[(name, value.encode("latin-1")) for name, value in headers.items()]
    )

    assert_sane(reply)
    assert reply.status_code != 200


@EXAMPLES
@given(
    boundary=st.text("ab-", min_size=1, max_size=4),
    parts=st.lists(st.binary(max_size=60), max_size=4),
    end=st.booleans(),
)
def test_any_form(fuzzed, boundary, parts, end):
    """Parts of a form that hold anything are never an action."""
    mark = b"--" + boundary.encode()
    body = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + (b"--\r\n" if end else b"")
    kind = f"multipart/form-data; boundary={boundary}"
    reply = fuzzed.ask("POST", "/api/inference", content=body, headers={"content-type": kind})

    assert_sane(reply)
    assert reply.status_code != 200
