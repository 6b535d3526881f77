from __future__ import annotations

import pytest

from stillframe.errors import BadRequest
from stillframe.web.dialects.native import BINARY_NATIVE, JSON_NATIVE
from stillframe.web.dialects.openvla import OPENVLA, DoubleEncoded
from stillframe.web.dialects.openvla_oft import OPENVLA_OFT
from stillframe.web.dialects.select import by_json_keys, native_by_codec
from stillframe.web.http.codecs import FORM, JSON, MSGPACK

ARRAY, TEXT = {"__numpy__": "AAAA"}, "AAAA"


@pytest.mark.parametrize(
    ("fields", "dialect"),
    [
        ({"image": ARRAY}, OPENVLA),
        ({"image": TEXT}, JSON_NATIVE),
        ({"images": {"front": ARRAY, "wrist": ARRAY}}, OPENVLA),
        ({"images": {"front": ARRAY, "wrist": TEXT}}, JSON_NATIVE),
        ({"images": {"front": TEXT, "wrist": ARRAY}}, JSON_NATIVE),
        ({"full_image": ARRAY}, OPENVLA_OFT),
        ({"full_image": TEXT, "image": TEXT}, OPENVLA_OFT),
        ({}, JSON_NATIVE),
    ],
)
def test_a_frame_is_told_by_its_keys(fields, dialect):
    """Arrays alone want an array back; the same inside a string."""
    wrapped, inner = by_json_keys({"encoded": str(fields).replace("'", '"')}, JSON, 100)

    assert by_json_keys(fields, JSON, 100) == (dialect, fields)
    assert (wrapped, inner) == (DoubleEncoded(dialect), fields)


@pytest.mark.parametrize("fields", [{"encoded": "{}", "image": TEXT}, {"encoded": {}}, {"encoded": None}])
def test_what_is_wrapped_is_wrapped_alone(fields):
    """In a string, with nothing beside it."""
    with pytest.raises(BadRequest, match="only key") as caught:
        by_json_keys(fields, JSON, 100)
    assert caught.value.code == "bad-codec"


def test_a_codec_has_its_native_words():
    """Arrays for msgpack; a form's files are pictures, its other fields are not."""
    said = {"front": b"file", "instruction": "go"}

    assert native_by_codec({"image": 1}, MSGPACK, 100) == (BINARY_NATIVE, {"image": 1})
    assert native_by_codec(said, FORM, 100) == (JSON_NATIVE, {"instruction": "go", "images": {"front": b"file"}})
    assert native_by_codec({"image": b"file", "seq": 1}, FORM, 100) == (JSON_NATIVE, {"image": b"file", "seq": 1})
