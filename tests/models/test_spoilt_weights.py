from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stillframe.errors import CheckpointError
from stillframe.models.registry import load_policy

HEAD = "language_model.lm_head.weight"
WORD = 5  # a row of the head that says text


def load(folder: Path) -> None:
    """As a daemon does."""
    load_policy(folder, dtype=torch.float32, device=torch.device("cpu"))


@pytest.fixture
def copied(tmp_path: Path, golden_folder: Path) -> Path:
    """A checkpoint that may be spoilt."""
    folder = tmp_path / "copied"
    shutil.copytree(golden_folder, folder)
    return folder


def spoil(folder: Path, name: str, rows: slice, number: float) -> None:
    """Write a number over rows of a tensor."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors[name][rows] = number
    save_file(tensors, file)


def test_a_download_that_stopped_is_refused(copied: Path) -> None:
    """Preallocated and never filled: the second half of the file is zeros."""
    file = copied / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))

    with pytest.raises(CheckpointError, match="zeros only; room was probably made for a download that stopped"):
        load(copied)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", [HEAD, "language_model.model.embed_tokens.weight", "projector.fc1.bias"])
def test_a_single_number_that_is_none_is_refused(copied: Path, name: str, number: float) -> None:
    """Wherever it stands, be it read seldom."""
    spoil(copied, name, slice(WORD, WORD + 1), number)

    with pytest.raises(CheckpointError, match=f"tensor {name} holds -?(nan|inf) at .*; weights have to be finite"):
        load(copied)


@pytest.mark.parametrize("name", [HEAD, "projector.fc2.weight", "language_model.model.norm.weight"])
def test_a_weight_of_zeros_is_refused(copied: Path, name: str) -> None:
    """Whatever comes behind it would be the same for every picture."""
    spoil(copied, name, slice(None), 0.0)

    with pytest.raises(CheckpointError, match=f"tensor {name} holds zeros only"):
        load(copied)


def test_a_head_that_ends_early_is_refused(copied: Path) -> None:
    """The file stopped within the head: some actions are as likely as each other."""
    spoil(copied, HEAD, slice(31_990, None), 0.0)

    with pytest.raises(CheckpointError, match="holds zeros only in row 31990 and 9 more"):
        load(copied)


def test_biases_and_padding_may_be_zero(copied: Path) -> None:
    """Fresh biases are; so are rows of a vocabulary's padding."""
    spoil(copied, "projector.fc1.bias", slice(None), 0.0)
    spoil(copied, HEAD, slice(32_000, None), 0.0)

    load(copied)
