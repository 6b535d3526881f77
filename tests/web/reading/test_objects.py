from __future__ import annotations

import numpy as np
import pytest

from stillframe.errors import BadRequest
from stillframe.web.reading.objects import parse_map, parse_object
from stillframe_client.wire import pack


def test_a_map_is_read_with_its_arrays(picture):
    """As it was packed; an array may be looked at, not written to."""
    fields = parse_map(pack({"image": picture, "seq": 3}), 100)

    assert (fields["seq"], list(fields)) == (3, ["image", "seq"])
    assert np.array_equal(fields["image"], picture)
    assert not fields["image"].flags.writeable


@pytest.mark.parametrize("value", [[1, 2], "text", 7, None, b"bytes"])
def test_what_is_no_map_is_refused(value):
    """Though it is msgpack."""
    with pytest.raises(BadRequest, match="not a map") as caught:
        parse_map(pack(value), 100)
    assert caught.value.code == "bad-codec"


@pytest.mark.parametrize("many", [{"a": list(range(200))}, {str(n): n for n in range(200)}, {"a": [[[]]] * 70}])
def test_parts_are_bounded_before_they_are_built(many):
    """Members and elements, in msgpack as in JSON."""
    assert parse_map(pack(many), 10_000) == many
    with pytest.raises(BadRequest) as caught:
        parse_map(pack(many), 100)
    assert caught.value.code == "bad-codec"


@pytest.mark.parametrize("text", ['{"a": [1, {"b": 2}, 3]}', '{"a": [], "b": {}, "c": 1}'])
def test_json_is_bounded_to_the_part(text):
    """Commas and opening brackets of both kinds count."""
    parts = sum(text.count(mark) for mark in ",[{")

    assert parse_object(text, parts) == parse_object(text.encode(), parts)
    with pytest.raises(BadRequest, match=f"over {parts - 1} parts"):
        parse_object(text, parts - 1)
