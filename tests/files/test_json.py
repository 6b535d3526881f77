from __future__ import annotations

import json
from pathlib import Path

import pytest

from stillframe.errors import CheckpointError
from stillframe.files.json import DEEPEST, MOST_BYTES, read_object


def written(folder: Path, content: str | bytes) -> Path:
    """A file with that content."""
    file = folder / "config.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def refused(file: Path) -> str:
    """What the error says: one line, and not a long one."""
    with pytest.raises(CheckpointError) as caught:
        read_object(file)
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 600
    return said


def test_an_object_is_read(tmp_path: Path) -> None:
    """As it is, with a byte order mark or without; what is equal but not the same key stands beside it."""
    value = {"a": [1, 2.5, None, {"b": "ä"}], "A": True}
    plain = json.dumps(value).encode()

    assert read_object(written(tmp_path, plain)) == read_object(written(tmp_path, b"\xef\xbb\xbf" + plain)) == value


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2600\n", "is a Git LFS pointer"),
        ("", "is empty (0 bytes)"),
        (bytes(4096), "begins with zeros: room was made for 4096 bytes"),
        ("<!DOCTYPE html><html>Sign in</html>", "is a web page (HTML)"),
        ('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is XML, such as a server's error"),
        (b"\x1f\x8b\x08 and so on", "is compressed by gzip: unpack it first"),
        (b"PK\x03\x04" + bytes(20), "is a ZIP archive"),
        (b"\x80\x04\x95 pickled", "is a Python pickle, which can run code and is never opened"),
        ('{"a": 1}'.encode("utf-16"), "is text in UTF-16: save it in UTF-8"),
    ],
)
def test_what_is_something_else_is_called_by_its_name(tmp_path: Path, content: str | bytes, what: str) -> None:
    """The file, what it is, and what to do, in place of 'expected value at line 1'."""
    file = written(tmp_path, content)

    assert f"{file} is not JSON: it {what}" in refused(file)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """However deep: of two values the last would win, meant or not."""
    said = refused(written(tmp_path, '{"text_config": {"hidden_size": 16, "vocab_size": 8, "hidden_size": 32}}'))

    assert "the key 'hidden_size' stands twice in one object" in said


@pytest.mark.parametrize("brackets", [DEEPEST, 999, 100_000])
@pytest.mark.parametrize("pair", [("[", "]"), ('{"a":', "}")])
def test_a_document_is_not_nested_for_ever(tmp_path: Path, brackets: int, pair: tuple[str, str]) -> None:
    """Neither beyond what Python would recurse into nor just below."""
    opening, closing = pair
    said = refused(written(tmp_path, f'{{"a": {opening * brackets}1{closing * brackets}}}'))

    assert f"nested deeper than {DEEPEST} levels" in said


def test_a_document_has_a_largest_size(tmp_path: Path) -> None:
    """No more than that is ever read; up to there it is."""
    fits = b'{"a": 1}'.ljust(MOST_BYTES)

    assert read_object(written(tmp_path, fits)) == {"a": 1}
    assert f"has more than {MOST_BYTES} bytes" in refused(written(tmp_path, fits + b" "))


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 5000])
def test_a_number_too_long_to_read_is_refused(tmp_path: Path, number: str) -> None:
    """Python refuses more than 4300 digits, and the error repeats none of them."""
    assert "is not JSON (Exceeds the limit" in refused(written(tmp_path, f'{{"a": {number}}}'))


def test_half_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    """It is no text, and an error that repeated it could not be printed."""
    assert "is not JSON ('utf-8' codec can't encode" in refused(written(tmp_path, r'{"model_type": "\ud800"}'))


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """With the system's reason."""
    assert f"{tmp_path} cannot be read: Is a directory" in refused(tmp_path)
