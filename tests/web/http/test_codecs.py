from __future__ import annotations

import math

import pytest

from stillframe.errors import BadRequest
from stillframe.web.http.codecs import FORM, JSON, MSGPACK, codec_of, compact


@pytest.mark.parametrize(
    ("kind", "codec"),
    [
        ("", JSON),
        (" ; charset=utf-8", JSON),
        ("application/json", JSON),
        ("Application/JSON ; charset=utf-8", JSON),
        ("application/vnd.robot+json", JSON),
        ("text/json", JSON),
        ("TEXT/JSON;charset=UTF-8", JSON),
        ("application/x-json", JSON),
        ("application/json;", JSON),
        ("application/msgpack", MSGPACK),
        ("application/vnd.robot+msgpack", MSGPACK),
        ("application/x-msgpack; v=5", MSGPACK),
        ("application/vnd.msgpack", MSGPACK),
        ("multipart/form-data; boundary=x", FORM),
    ],
)
def test_a_codec_is_known_by_its_kind(kind, codec):
    """In any case of letters, without its parameters; where none is said it is JSON."""
    assert codec_of(kind) is codec


@pytest.mark.parametrize("kind", ["json", "text/plain", "application/octet-stream", "application/json, text/plain"])
def test_another_kind_is_refused(kind):
    """With what came, and those that there are."""
    with pytest.raises(BadRequest, match="application/msgpack") as caught:
        codec_of(kind)

    assert repr(kind) in caught.value.detail
    assert "curl" not in caught.value.detail


def test_what_curl_says_by_itself():
    """Is no JSON; it is told how to say so."""
    with pytest.raises(BadRequest, match="-H 'Content-Type: application/json'"):
        codec_of("application/x-www-form-urlencoded")


def test_json_is_written_as_others_do():
    """Without a blank, in UTF-8, and never a number that JSON does not have."""
    assert compact({"a": [1.5, "\u00e9"], "b": None}) == '{"a":[1.5,"\u00e9"],"b":null}'.encode()
    for poison in (math.nan, math.inf):
        with pytest.raises(ValueError, match="JSON compliant"):
            compact({"a": poison})
