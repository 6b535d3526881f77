from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stillframe.errors import CheckpointError
from stillframe.history.checkpoint import (
    CONFIG_NAME,
    TENSORS_NAME,
    HistoryConfig,
    HistoryWeights,
    has_history,
    load_history,
    save_history,
)

CPU = torch.device("cpu")
CONFIG = HistoryConfig(3, 2, 8, chunk_tokens=6, slots=2, taps=(0, 2), extras=8, hidden=4, cell="lstm")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint's folder with a memory in it."""
    torch.manual_seed(1)
    save_history(tmp_path, HistoryWeights(CONFIG))
    return tmp_path


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    """Sizes and tensors to the bit, ready to be asked and not to be trained."""
    saved = HistoryWeights(CONFIG)
    assert not has_history(tmp_path)
    save_history(tmp_path, saved)
    read = load_history(tmp_path, CPU)

    assert has_history(tmp_path)
    assert read.config == CONFIG
    assert read.config.inputs == 2 * 2 * 16 + 8
    assert all(torch.equal(tensor, read.state_dict()[name]) for name, tensor in saved.state_dict().items())
    assert not any(parameter.requires_grad for parameter in read.parameters())
    assert (read.trained, read.training) == (True, False)


def test_a_daemon_of_another_account_can_read_it(folder: Path) -> None:
    """Whichever account trained it; and no working name is left behind."""
    assert (folder / TENSORS_NAME).stat().st_mode & 0o777 == 0o644
    assert {file.name for file in folder.iterdir()} == {CONFIG_NAME, TENSORS_NAME}


def test_tensors_are_whole_or_absent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full half-way through leaves those that were there."""

    def full(_: object, file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError("no space")

    before = (folder / TENSORS_NAME).read_bytes()
    monkeypatch.setattr("stillframe.history.checkpoint.save_file", full)
    with pytest.raises(OSError, match="no space"):
        save_history(folder, HistoryWeights(CONFIG))

    assert (folder / TENSORS_NAME).read_bytes() == before


def test_who_never_learnt_to_look_is_told_so(tmp_path: Path) -> None:
    """With what to do about it."""
    with pytest.raises(CheckpointError, match=r"was not trained with older frames.*history.enabled to false"):
        load_history(tmp_path, CPU)


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(hidden=0),
        lambda document: document.update(hidden=2.5),
        lambda document: document.update(slots=True),
        lambda document: document.update(extras=0),
        lambda document: document.update(taps=[3]),
        lambda document: document.update(cell="transformer"),
        lambda document: document.update(more=1),
        lambda document: document.pop("slots"),
        lambda document: document.update(taps=7),
    ],
)
def test_sizes_that_cannot_be_are_refused(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Before anything is allocated."""
    document = json.loads((folder / CONFIG_NAME).read_text())
    change(document)
    (folder / CONFIG_NAME).write_text(json.dumps(document))

    with pytest.raises(CheckpointError, match=rf"{CONFIG_NAME}(: expected whole| cannot be read; expected the keys)"):
        load_history(folder, CPU)


@pytest.mark.parametrize("spoil", [lambda file: file.write_bytes(b"nonsense"), lambda file: file.unlink()])
def test_tensors_that_are_not_there_are_refused(folder: Path, spoil: Callable[[Path], Any]) -> None:
    """Damaged, missing, or of other sizes than the description's."""
    spoil(folder / TENSORS_NAME)

    with pytest.raises(CheckpointError, match=r"memory.safetensors cannot be read"):
        load_history(folder, CPU)
