from __future__ import annotations

import numpy as np
import pytest

from stillframe.errors import BadRequest
from stillframe.web.http.msgpack_values import UnsupportedValue
from stillframe.web.http.parsing import parse_json, parse_msgpack
from stillframe_client.wire import pack


def test_a_map_is_read_with_its_arrays(picture):
    """As it was packed; an array may be looked at, not written to."""
    fields = parse_msgpack(pack({"image": picture, "seq": 3}), 100)

    assert (fields["seq"], list(fields)) == (3, ["image", "seq"])
    assert np.array_equal(fields["image"], picture)
    assert not fields["image"].flags.writeable


@pytest.mark.parametrize("value", [[1, 2], "text", 7, None, b"bytes"])
def test_what_is_no_map_is_refused(value):
    """Though it is msgpack."""
    with pytest.raises(BadRequest, match="not a map") as caught:
        parse_msgpack(pack(value), 100)
    assert caught.value.code == "bad-codec"


@pytest.mark.parametrize("many", [{"a": list(range(200))}, {str(n): n for n in range(200)}, {"a": [[[]]] * 70}])
def test_parts_are_bounded_before_they_are_built(many):
    """Members and elements, in msgpack as in JSON."""
    assert parse_msgpack(pack(many), 10_000) == many
    with pytest.raises(BadRequest) as caught:
        parse_msgpack(pack(many), 100)
    assert caught.value.code == "bad-codec"


@pytest.mark.parametrize("text", ['{"a": [1, {"b": 2}, 3]}', '{"a": [], "b": {}, "c": 1}'])
def test_json_is_bounded_to_the_part(text):
    """Commas and opening brackets of both kinds count."""
    parts = sum(text.count(mark) for mark in ",[{")

    assert parse_json(text, parts) == parse_json(text.encode(), parts)
    with pytest.raises(BadRequest, match=f"over {parts - 1} parts"):
        parse_json(text, parts - 1)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"a": 1, "a": 1}', "'a'"),
        ('{"image": 1, "b": 2, "image": 3}', "'image'"),
        ('{"images": {"front": 1, "front": 2}}', "'front'"),
        ('{"a": [{"b": 1, "b": 2}]}', "'b'"),
        ('{"a": 1, "\\u0061": 2}', "'a'"),
    ],
)
def test_a_key_that_stands_twice_is_named(text, key):
    """At whatever depth, however it is written, whatever its values: as in msgpack."""
    with pytest.raises(BadRequest, match=f"holds the key {key} twice") as caught:
        parse_json(text, 100)
    assert caught.value.code == "bad-json"


def test_a_long_key_comes_back_short():
    """An error does not carry whatever was sent."""
    key = "x" * 10_000
    with pytest.raises(BadRequest) as caught:
        parse_json(f'{{"{key}": 1, "{key}": 2}}', 100)
    assert len(caught.value.detail) < 200


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"image": "AAAA\nAAAA"}', "line 1, column 16: a line break or another control character inside a string"),
        ('{"a": 1,\n "b": "x\ty"}', "line 2, column 9: a line break or another control character"),
        ('{"a": 1', "line 1, column 8: no comma"),
        ('{"a" 1}', "line 1, column 6: no colon"),
        ('{"a": }', "line 1, column 7: no value"),
        ('{"a": 1}}', "line 1, column 9: something behind the end"),
        ("{'a': 1}", "line 1, column 2: no name in double quotes"),
        ('{"a": "x}', "line 1, column 7: a string that never ends"),
        ('{"a": "\\x"}', "column 8: a backslash that begins no escape"),
        ("", "line 1, column 1: no value"),
        (b'{"a": "\xff"}', "byte 7 is no UTF-8"),
        ('{"a": "x"}'.encode("utf-16"), "byte 0 is no UTF-8"),
        ('{"a": NaN}', "NaN is no number of JSON"),
        ('{"a": -Infinity}', "-Infinity is no number of JSON"),
        ('{"a": ' + "9" * 5000 + "}", "a number has too many digits"),
        ('{"a": ' + '{"a":' * 3000 + "1" + "}" * 3000 + "}", "nested too deep"),
    ],
)
def test_what_is_wrong_with_json_is_said_and_where(text, said):
    """In words of ours, by line and column from 1."""
    with pytest.raises(BadRequest) as caught:
        parse_json(text, 10_000)

    assert caught.value.code == "bad-json"
    assert said in caught.value.detail


def array_of(dtype, data, shape, **more):
    """An array of strings as openpi's clients write it: ours cannot."""
    return {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape, **more}


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (np.array("pick up"), "pick up"),
        (np.array(["pick up"]), "pick up"),
        (np.array([["\u00e9\U0001f916"]]), "\u00e9\U0001f916"),
        (np.array("pick", ">U9"), "pick"),
        (np.array(b"pick up"), "pick up"),
        (np.array([b"\xc3\xa9"], "S9"), "\u00e9"),
        (np.array("", "<U3"), ""),
    ],
)
def test_an_array_of_one_string_is_a_string(sent, text):
    """Of either kind, in either order of bytes, padded or not."""
    packed = pack({"prompt": array_of(sent.dtype.str, sent.tobytes(), list(sent.shape)), "seq": 1})

    assert parse_msgpack(packed, 100) == {"prompt": text, "seq": 1}


def test_a_scalar_of_text_is_a_string():
    """As openpi's clients write np.str_."""
    packed = pack({"prompt": {b"__npgeneric__": True, b"data": "pick up", b"dtype": "<U7"}})

    assert parse_msgpack(packed, 100) == {"prompt": "pick up"}


@pytest.mark.parametrize(
    "sent",
    [
        array_of("<U2", np.array(["ab", "cd"]).tobytes(), [2]),
        array_of("<U2", b"", [0]),
        array_of("|O", b"", [0]),
        array_of("<c8", bytes(8), [1]),
        array_of("<M8[s]", bytes(8), [1]),
        array_of([["a", "<f4"]], bytes(4), [1]),
        array_of("<U2", bytes(8), "one"),
        {b"nd": True, b"type": "<U2", b"kind": b"", b"shape": [2], b"data": bytes(16)},
        {b"nd": True, b"type": "|O", b"kind": b"O", b"shape": [1], b"data": bytes(8)},
    ],
)
def test_what_nothing_reads_is_left_aside(sent):
    """Strings in the plural, objects, times: the rest of the message is as it would be without them."""
    fields = parse_msgpack(pack({"tags": sent, "seq": 1}), 100)

    assert fields["seq"] == 1
    assert isinstance(fields["tags"], UnsupportedValue)
    assert fields["tags"].why


@pytest.mark.parametrize(
    "sent",
    [
        array_of("<U2", bytes(7), [1]),
        array_of("<U1", b"\xff\xff\xff\xff", [1]),
        array_of("|S2", b"\xff\xff", [1]),
        array_of("<f4", bytes(3), [1]),
    ],
)
def test_an_array_that_is_none_is_refused(sent):
    """Bytes that do not make what they say."""
    with pytest.raises(BadRequest) as caught:
        parse_msgpack(pack({"tags": sent}), 100)
    assert caught.value.code == "bad-codec"
