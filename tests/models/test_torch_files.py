from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from stillframe.errors import CheckpointError
from stillframe.models.torch_files import saved_tensors


class Trap:
    """Would write a file where it is unpickled."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.place, "sprung")


def test_tensors_come_by_name(tmp_path: Path) -> None:
    """As they were saved, to the bit."""
    saved = {"fc.weight": torch.arange(6.0).view(2, 3), "fc.bias": torch.ones(2, dtype=torch.bfloat16)}
    torch.save(saved, tmp_path / "head.pt")
    found = saved_tensors(tmp_path / "head.pt")

    assert found.keys() == saved.keys()
    assert all(torch.equal(found[name], saved[name]) for name in saved)


def test_no_code_of_a_file_is_run(tmp_path: Path) -> None:
    """An object that does something where it is unpickled is refused, and does nothing."""
    torch.save({"weight": torch.ones(1), "trap": Trap(tmp_path / "trace")}, tmp_path / "head.pt")

    with pytest.raises(CheckpointError, match=r"head\.pt is no file of tensors that torch\.save wrote"):
        saved_tensors(tmp_path / "head.pt")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no file of tensors: it"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "is no file of tensors: it"),
        (b"\x80\x02}q\x00.", "is no file of tensors: it"),
        (b"<html>not here</html>", "is no file of tensors: it"),
        (b"PK\x03\x04 and no more", "is no file of tensors that torch.save wrote"),
    ],
)
def test_another_kind_of_file_is_called_so(tmp_path: Path, content: bytes, said: str) -> None:
    """In one line, with what to do."""
    (tmp_path / "head.pt").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        saved_tensors(tmp_path / "head.pt")

    assert f"{tmp_path / 'head.pt'} {said}" in str(caught.value)
    assert str(caught.value).isprintable()


def test_an_archive_that_holds_something_else(tmp_path: Path) -> None:
    """A ZIP file is not what torch.save wrote because it is one."""
    with zipfile.ZipFile(tmp_path / "head.pt", "w") as archive:
        archive.writestr("readme.txt", "nothing")

    with pytest.raises(CheckpointError, match="is no file of tensors"):
        saved_tensors(tmp_path / "head.pt")


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ([torch.ones(1)], "holds a list; expected tensors by name"),
        ({}, "holds 0 entries"),
        (torch.ones(1), "holds a Tensor"),
        ({"model": {"weight": torch.ones(1)}}, "'model' is 1 entries; expected plain tensors by name"),
        ({"step": 5}, "'step' is a int"),
        ({1: torch.ones(1)}, "1 is a Tensor"),
        ({"weight": torch.eye(2).to_sparse()}, "'weight' is a Tensor"),
    ],
    ids=["list", "empty", "tensor", "nested", "number", "index", "sparse"],
)
def test_what_is_no_state_dict(tmp_path: Path, saved: Any, said: str) -> None:
    """What there is in its place."""
    torch.save(saved, tmp_path / "head.pt")
    with pytest.raises(CheckpointError) as caught:
        saved_tensors(tmp_path / "head.pt")

    assert said in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Or cannot be read."""
    with pytest.raises(CheckpointError, match="cannot be read"):
        saved_tensors(tmp_path / "gone.pt")
