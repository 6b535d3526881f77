from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from stillframe.errors import CheckpointError
from stillframe.models.tensor_files import MOST_HEADER_BYTES, Stored, header, opened


def refused(file: Path) -> str:
    """What the error says: one line that names the file."""
    with pytest.raises(CheckpointError) as caught:
        header(file)
    said = str(caught.value)
    assert said.isprintable()
    assert said.startswith(f"{file} is not a readable safetensors file")
    return said


def made(file: Path, document: Any, data: bytes = b"") -> Path:
    """A file with that header."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where it lies."""
    return tmp_path / "model.safetensors"


def test_a_header_says_what_is_stored(file: Path) -> None:
    """Type, shape and end of each tensor; the metadata is none."""
    save_file({"a": torch.ones(2, 3), "b": torch.ones(1, dtype=torch.bfloat16)}, file, {"format": "pt"})

    assert dict(header(file)) == {"a": Stored("F32", (2, 3), 24), "b": Stored("BF16", (1,), 26)}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 15082474368\n", "it is a Git LFS pointer"),
        (b"", "it is empty (0 bytes)"),
        (bytes(10_000), "it begins with zeros"),
        (b"<html>Sign in</html>", "it is a web page (HTML)"),
        (b"Entry not found", "it is text, which begins 'Entry not found'"),
        (b"PK\x03\x04" + bytes(100), "it is a ZIP archive: torch.save writes such ones"),
        (b"\x80\x04pickle?" * 64, "it is a Python pickle"),
        (b"GGUF\x03\0\0\0" + bytes(100), "it is a GGUF file"),
        (b"\xff" * 64, "its first 8 bytes name a header of 18446744073709551615 bytes"),
    ],
)
def test_what_is_something_else_is_called_by_its_name(file: Path, content: bytes, what: str) -> None:
    """In place of 'header too large'."""
    file.write_bytes(content)

    assert what in refused(file)


@pytest.mark.parametrize("lost", [1, 64, 10_000])
def test_a_file_that_is_cut_short_says_how_much_is_missing(file: Path, lost: int) -> None:
    """Both sizes are in the error."""
    save_file({"a": torch.ones(100, 100)}, file)
    whole = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-lost])

    assert f"it is cut short, has {whole - lost} bytes where its header promises {whole}" in refused(file)


def test_a_header_that_is_cut_short(file: Path) -> None:
    """It promises more of itself than there is."""
    file.write_bytes(struct.pack("<Q", 5000) + b'{"a": {')

    assert "it is cut short, has 15 bytes where its header alone has 5000" in refused(file)


def test_a_header_has_a_largest_size(file: Path) -> None:
    """No memory is taken for what a file merely claims."""
    file.write_bytes(struct.pack("<Q", MOST_HEADER_BYTES + 1) + b"{")

    assert f"name a header of {MOST_HEADER_BYTES + 1} bytes" in refused(file)


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"a": 3},
        {"a": {}},
        {"a": ENTRY | {"shape": ["1"]}},
        {"a": ENTRY | {"shape": [-1]}},
        {"a": ENTRY | {"shape": [True]}},
        {"a": ENTRY | {"shape": [10**30]}},
        {"a": ENTRY | {"shape": 1}},
        {"a": ENTRY | {"dtype": 7}},
        {"a": ENTRY | {"data_offsets": [0]}},
        {"a": ENTRY | {"data_offsets": [0, 4.0]}},
        {"a": ENTRY | {"more": 1}},
        b"{" * 100_000,
        b"\xff\xff",
        b'{"a": %b, "a": %b}' % ((json.dumps(ENTRY).encode(),) * 2),
    ],
)
def test_a_header_that_describes_no_tensors(file: Path, document: Any) -> None:
    """JSON of another kind, sizes that are none, a name twice."""
    assert "its header describes no tensors" in refused(made(file, document, bytes(8)))


def test_what_safetensors_itself_refuses_is_refused(file: Path) -> None:
    """Tensors that overlap look right one by one."""
    made(file, {"a": ENTRY, "b": ENTRY}, bytes(range(4)))

    with pytest.raises(CheckpointError, match="is not a readable safetensors file"), opened(file):
        pass


def test_a_file_that_is_gone_is_named(file: Path) -> None:
    """It was there when the folder was looked at."""
    with pytest.raises(CheckpointError, match=f"{file} cannot be read: No such file"):
        header(file)
    with pytest.raises(CheckpointError, match=f"{file} cannot be read: No such file"), opened(file):
        pass
