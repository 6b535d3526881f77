from __future__ import annotations

import logging

import pytest

from stillframe.errors import RequestError
from stillframe.web.http.limits import Limits
from stillframe.web.http.multipart import read_form

KIND = "multipart/form-data; boundary=xyz"


def part(name, content, *headers, kind="form-data"):
    """One part of a form, as browsers write it."""
    said = "" if name is None else f'; name="{name}"'
    lines = [f"Content-Disposition: {kind}{said}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


def form(*parts, end=b"--xyz--\r\n"):
    """A form of these parts."""
    return b"".join(b"--xyz\r\n" + each + b"\r\n" for each in parts) + end


def refusal(body, kind=KIND, **limits):
    with pytest.raises(RequestError) as caught:
        read_form(body, kind, Limits(**limits))
    return caught.value.code


def test_parts_come_under_their_names():
    """To the byte, whatever is in them and whatever their other headers say; JSON's members beside them."""
    png = bytes(range(256)) + b"\r\n--xy\r\n--"
    head = ["X-Name: name=other", "Content-Type: image/png", "content-transfer-encoding: binary"]
    fields = read_form(form(part("front", png, *head), part("json", b'{"a": [1], "b": "c"}')), KIND, Limits())

    assert fields == {"front": png, "a": [1], "b": "c"}


def test_a_form_needs_no_json():
    """A picture alone is one; so is nothing at all."""
    assert read_form(form(part("image", b"x")), KIND, Limits()) == {"image": b"x"}
    assert read_form(b"--xyz--\r\n", KIND, Limits()) == {}


@pytest.mark.parametrize("twice", [(part("a", b"file"), part("json", b'{"a": 1}')), (part("a", b"1"), part("a", b"2"))])
def test_what_is_said_twice_is_refused(twice):
    """As a file and in the object, or in two parts: none of the two is chosen, and the name is said."""
    with pytest.raises(RequestError, match="'a'") as caught:
        read_form(form(*twice), KIND, Limits())

    assert caught.value.code == "bad-codec"


def test_a_header_of_a_part_is_read_for_itself():
    """Also where one that says nothing of its name comes before or after it, in any case of letters."""
    body = form(b'X-A: b\r\ncontent-DISPOSITION: form-data; name="a"\r\nX-C: d\r\n\r\ncontent')

    assert read_form(body, KIND, Limits()) == {"a": b"content"}


def test_so_many_pictures_and_no_more():
    """As many as the limits say, and the part of JSON beside them."""
    parts = [part(f"p{number}", b"x") for number in range(3)]
    whole = form(*parts, part("json", b"{}"))

    assert len(read_form(whole, KIND, Limits(max_images=3))) == 3
    assert refusal(form(*parts, part("json", b"{}"), part("more", b"x")), max_images=3) == "too-many-images"
    assert refusal(form(*[part(f"p{number}", b"x") for number in range(99)]), max_images=3) == "too-many-images"


@pytest.mark.parametrize(
    "body",
    [
        form(part("a", b"x"), end=b""),
        form(part("a", b"x"), end=b"--xyz"),
        form(part("a", b"x"))[:-4],
        form(part("a", b"x"), part("a", b"y")),
        form(part(None, b"x")),
        form(part("", b"x")),
        form(b"\r\nno headers"),
        b"no form",
        b"",
    ],
    ids=["no end", "half an end", "cut", "twice", "no name", "empty name", "no headers", "no form", "nothing"],
)
def test_a_form_that_is_none_is_refused(body):
    """Cut short, of parts that cannot be told apart, or something else."""
    assert refusal(body) == "bad-codec"


@pytest.mark.parametrize(
    ("kind", "good"),
    [
        ("multipart/form-data; boundary=" + "x" * 70, True),
        ("multipart/form-data; boundary=" + "x" * 71, False),
        ("multipart/form-data; boundary=", False),
        ("multipart/form-data", False),
    ],
)
def test_a_boundary_has_a_length(kind, good):
    """Of 1 to 70 characters, as RFC 2046 has it."""
    body = b"--" + kind.rpartition("=")[2].encode() + b"--\r\n"

    if good:
        assert read_form(body, kind, Limits()) == {}
    else:
        assert refusal(body, kind) == "bad-codec"


def test_a_bad_form_fills_no_log(caplog):
    """Anybody can send one, as often as he likes."""
    caplog.set_level(logging.DEBUG)
    refusal(b"no form")

    assert caplog.records == []


@pytest.mark.parametrize("header", ["X: " + "y" * 2000, "X: y\r\n" * 20 + "X: y"], ids=["long", "many"])
def test_headers_of_a_part_are_bounded(header):
    """In number and in length."""
    assert refusal(form(part("a", b"x", header))) == "bad-codec"
