from __future__ import annotations

from pathlib import Path

import pytest

from stillframe.files.kinds import SHOWN, mistaken, shown, words


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:6d59\nsize 15082474368\n",
            "is a Git LFS pointer of 76 bytes in place of the file of 15082474368 bytes: run `git lfs install",
        ),
        (b"../../.git/annex/objects/Xq/4v/SHA256E-s12--0.bin", "is a git-annex pointer in place of the file"),
        (b"", "is empty (0 bytes)"),
        (bytes(2000), "begins with zeros: room was made for 2000 bytes that never came"),
        (b"\n\n <!doctype html><title>Log in</title>", "is a web page (HTML)"),
        (b"<HTML><BODY>404</BODY></HTML>", "is a web page (HTML)"),
        (b"<?xml version='1.0'?><Error/>", "is XML"),
        (b"GGUF\x03\0\0\0", "is a GGUF file, as llama.cpp reads them"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        (b"\x93NUMPY\x01\0", "is a NumPy array"),
        (b"cos\nsystem\n(S'exit'\ntR.", "is a Python pickle"),
        (b"\x80\x02}q\0", "is a Python pickle"),
        (b"\x28\xb5\x2f\xfd\x04", "is compressed by zstd"),
        (b"a/b.json".ljust(257, b"\0") + b"ustar\x0000", "is a tar archive"),
        (b"-----BEGIN PRIVATE KEY-----\n", "is a PEM file"),
    ],
)
def test_a_file_is_told_by_its_first_bytes(tmp_path: Path, content: bytes, what: str) -> None:
    """Whatever its name promises."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)

    assert (mistaken(file) or "").startswith(what)


@pytest.mark.parametrize(
    "content", [b"{}", b"\x10\0\0\0\0\0\0\0{}", b"checkpoint: x", b"Entry not found", b"\0" * 511 + b"a"]
)
def test_what_may_be_right_is_left_to_its_reader(tmp_path: Path, content: bytes) -> None:
    """JSON, safetensors, YAML, plain words; and zeros that something follows."""
    file = tmp_path / "file"
    file.write_bytes(content)

    assert mistaken(file) is None
    assert mistaken(tmp_path / "gone") is None


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"Entry not found", "is text, which begins 'Entry not found'"),
        (b"Invalid username or password.\n", "is text, which begins 'Invalid username or password.'"),
        (b"\x10\0\0\0\0\0\0\0{}", None),
        (b"\xff\xfe", None),
        (b"", None),
    ],
)
def test_plain_words_are_repeated(tmp_path: Path, content: bytes, what: str | None) -> None:
    """A server's refusal, saved under a file's name, says itself what went wrong."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    said = words(file)

    assert said is None if what is None else str(said).startswith(what)


def test_what_is_shown_is_short_and_printable() -> None:
    """Long names are cut in the middle, control characters and halves of letters are written out."""
    long = shown("a" * 5000 + "z")

    assert len(long) == SHOWN + 3
    assert long.startswith("aaa")
    assert long.endswith("az")
    assert shown("a\n\x1b[31mb\ud800") == r"a\n\x1b[31mb\ud800"
    assert shown(Path("/models/ä b")) == "/models/ä b"
