from __future__ import annotations

import base64
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe_client.errors import UnsupportedDtype, WireError
from stillframe_client.wire import (
    JSON,
    JSON_PROTOCOL,
    MSGPACK,
    MSGPACK_PROTOCOL,
    PackLimits,
    encode_array,
    pack,
)

MIB = 2**20
EXAMPLES = settings(max_examples=2 * settings().max_examples, derandomize=True)
ACTIONS = np.array([[0.1, -1, 2], [3, 4, 5.5]], np.float64)
BOTH = pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=lambda codec: codec.name)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=15,
)
MESSAGES = st.dictionaries(st.text(max_size=8).filter(lambda name: name not in ("actions", "nd")), VALUES, max_size=5)


@BOTH
@EXAMPLES
@given(message=MESSAGES)
def test_messages_come_back(codec, message):
    """What one end writes, the other reads: names in their order, values of the same types."""
    assert repr(codec.load(codec.dump(message))) == repr(message)


def test_frames_follow_the_codec():
    """Msgpack goes in binary frames, JSON in text frames; each has its sub-protocol."""
    assert isinstance(MSGPACK.dump({"type": "ping"}), bytes)
    assert isinstance(JSON.dump({"type": "ping"}), str)
    assert (MSGPACK.protocol, JSON.protocol) == (MSGPACK_PROTOCOL, JSON_PROTOCOL)


@BOTH
def test_actions_are_an_array(codec):
    """Actions are an array at both ends, of 64-bit floats where they went as rows of numbers."""
    back = codec.load(codec.dump({"type": "action", "actions": ACTIONS}))["actions"]

    assert back.dtype == np.float64
    assert np.array_equal(back, ACTIONS)


def test_actions_are_rows_in_json():
    """In JSON people can read the actions; everything else that is an array has json_numpy's form."""
    text = JSON.dump({"actions": ACTIONS.astype("<f4")[:, 1:], "image": np.zeros(1, np.uint8)})

    assert text == '{"actions":[[-1.0,2.0],[4.0,5.5]],"image":{"__numpy__":"AA==","dtype":"|u1","shape":[1]}}'


def test_msgpack_is_packing():
    """A message in msgpack is the map that pack writes."""
    message = {"type": "action", "actions": ACTIONS.astype("<f4")}

    assert MSGPACK.dump(message) == pack(message)


@BOTH
def test_pictures_come_back(codec):
    """A raw picture is an array at both ends, inside whatever holds it."""
    picture = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)

    assert np.array_equal(codec.load(codec.dump({"images": {"front": picture}}))["images"]["front"], picture)


def test_bytes_are_base64_in_json():
    """A JPEG is its bytes in msgpack, base64 text in JSON."""
    message = {"image": b"\xff\xd8\xff"}

    assert MSGPACK.load(MSGPACK.dump(message)) == message
    assert JSON.load(JSON.dump(message)) == {"image": base64.b64encode(b"\xff\xd8\xff").decode()}


@BOTH
@pytest.mark.parametrize("scalar", [np.float32(0.5), np.float64(0.5), np.int16(-3), np.bool_(True)], ids=repr)  # noqa: FBT003 (numpy's)
def test_scalars_are_plain_numbers(codec, scalar):
    """A numpy scalar arrives as the plain number that it is."""
    back = codec.load(codec.dump({"max_age_ms": scalar}))["max_age_ms"]

    assert (type(back), back) == (type(scalar.item()), scalar.item())


def test_json_is_read_from_bytes_too():
    """JSON may come as text or as its UTF-8."""
    assert JSON.load('{"a":"é"}'.encode()) == JSON.load('{"a":"é"}') == {"a": "é"}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), np.float32("nan"), np.array([[np.nan]])])
def test_json_holds_finite_numbers_only(number):
    """NaN and infinity are never written as JSON, neither alone nor in an action."""
    with pytest.raises(WireError, match="NaN"):
        JSON.dump({"actions": number})


@BOTH
@pytest.mark.parametrize(
    "value", [object(), {1, 2}, "\ud800", {"\ud800": 1}, 1j], ids=["object", "set", "half", "half key", "complex"]
)
def test_other_objects_are_not_sent(codec, value):
    """What has no form on the wire is refused, without the library's words."""
    with pytest.raises(WireError, match="The message holds"):
        codec.dump({"a": value})


@BOTH
def test_loops_are_not_sent(codec):
    """A map that holds itself is refused, not followed."""
    loop: dict = {}
    loop["loop"] = loop

    with pytest.raises(WireError):
        codec.dump(loop)


@BOTH
def test_other_arrays_are_not_sent(codec):
    """Arrays of objects go on neither wire."""
    with pytest.raises(UnsupportedDtype):
        codec.dump({"a": np.array([None])})


@BOTH
@pytest.mark.parametrize("value", [None, 1, "text", [], [{"type": "ping"}]], ids=repr)
def test_a_message_is_a_map(codec, value):
    """Anything but a map of names and values is refused."""
    data = pack(value) if codec is MSGPACK else json.dumps(value)

    with pytest.raises(WireError, match="not a map"):
        codec.load(data)


def test_text_is_not_msgpack():
    """A text frame is refused where msgpack is expected."""
    with pytest.raises(WireError, match="binary frames"):
        MSGPACK.load("{}")


BROKEN = ["", "{", '{"a":1}}', "{'a':1}", b"\xff", b'{"a":"\xed\xa0\x80"}', '{"a":"\\ud800"}', '{"\\udfff":1}']
NO_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 65]
TWICE = ['{"a":1,"a":1}', '{"b":[{"a":1,"a":2}]}']


@pytest.mark.parametrize("text", [*BROKEN, *(f'{{"a":{number}}}' for number in NO_NUMBERS), *TWICE], ids=ascii)
def test_what_is_no_json_of_ours(text):
    """Broken JSON, numbers that are none, broken Unicode and a name said twice are refused."""
    with pytest.raises(WireError):
        JSON.load(text)


ROWS = ["[]", "[1]", "[[1],[1,2]]", '[["1"]]', "[[true]]", "[[null]]", "[[[1]]]", "[{}]"]


@pytest.mark.parametrize("actions", ROWS)
def test_actions_that_are_no_rows(actions):
    """Rows of numbers, all of one length, or no actions."""
    with pytest.raises(WireError, match="rows of numbers"):
        JSON.load(f'{{"actions":{actions}}}')


def test_the_longest_number_is_a_float():
    """An action of as many digits as may be is a number still."""
    assert JSON.load(f'{{"actions":[[{"9" * 64}]]}}')["actions"].tolist() == [[1e64]]


@pytest.mark.parametrize("change", [{"shape": [3]}, {"dtype": "|O"}, {"__numpy__": "?"}, {"shape": [2**40, 2**40]}])
def test_arrays_that_do_not_hold(change):
    """A json_numpy object that is no array is refused, wherever it stands."""
    with pytest.raises(WireError):
        JSON.load(json.dumps({"images": {"front": {**encode_array(np.zeros(2, np.uint8)), **change}}}))


def test_the_bounds_are_kept():
    """The last part, depth, name and array under a bound is read; the next one is not."""
    limits = PackLimits(max_parts=20, max_depth=4, max_key_length=9, max_array_bytes=8)
    picture = json.dumps(encode_array(np.zeros(8, np.uint8)))
    good = [f'{{"a":[{"0," * 18}0]}}', '{"a":[[[]]]}', '{"abcdefghi":0}', f'{{"a":{picture}}}']
    larger = json.dumps(encode_array(np.zeros(9, np.uint8)))
    bad = [f'{{"a":[{"0," * 19}0]}}', '{"a":[[[[]]]]}', '{"abcdefghij":0}', f'{{"a":{larger}}}']

    for text in good:
        JSON.load(text, limits=limits)
    for text in bad:
        with pytest.raises(WireError):
            JSON.load(text, limits=limits)


HOSTILE = {
    "many lists": '{"a":[' + "[]," * 5 * MIB + "0]}",
    "deep lists": "[" * MIB,
    "deep lists within the parts": "[" * 9000,
    "closed deep lists": "[" * 4000 + "]" * 4000,
    "deep objects": '{"a":' * MIB,
    "a long number": '{"a":' + "9" * 4 * MIB + "}",
    "a long float": '{"a":' + "9" * 4 * MIB + ".0}",
    "a huge array": '{"a":{"__numpy__":"","dtype":"<f8","shape":[1099511627776,1099511627776]}}',
    "promised bytes": '{"a":{"__numpy__":"AAAA","dtype":"<f8","shape":[1000000]}}',
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_memory_is_bounded(text):
    """Each hostile shape is refused, at no more than seven times its length and 4 MiB."""
    tracemalloc.start()
    with pytest.raises(WireError):
        JSON.load(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 7 * len(text) + 4 * MIB


LONG = "x" * 10_000
QUOTABLE = {
    "a shape": JSON.dump({"a": {"__numpy__": LONG, "dtype": "<f8", "shape": LONG}}),
    "a dtype": JSON.dump({"a": {"__numpy__": LONG, "dtype": LONG, "shape": [1]}}),
    "a name": JSON.dump({LONG: 1}),
    "a packed dtype": MSGPACK.dump({"a": {"__ndarray__": True, "dtype": LONG, "shape": [], "data": b""}}),
    "a packed shape": MSGPACK.dump({"a": {"__ndarray__": True, "dtype": "<f8", "shape": [LONG] * 99, "data": b""}}),
    "a packed name": MSGPACK.dump({LONG: 1}),
    "a packed scalar": MSGPACK.dump({"a": {"__npgeneric__": True, "dtype": "<f8", "data": LONG}}),
}


@pytest.mark.parametrize("data", QUOTABLE.values(), ids=QUOTABLE.keys())
def test_errors_do_not_quote_at_length(data):
    """What a refusal says stays short, whatever was sent: it goes into logs and over the wire."""
    with pytest.raises(WireError) as caught:
        (JSON if isinstance(data, str) else MSGPACK).load(data)

    assert len(str(caught.value)) < 250


def test_what_json_reads_owns_its_memory():
    """An array out of JSON can be written to: it is nobody else's."""
    assert JSON.load(JSON.dump({"a": np.zeros(2, np.uint8)}))["a"].flags.writeable
