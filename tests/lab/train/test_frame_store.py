from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from stillframe.errors import ConfigError
from stillframe_lab.train.auxiliary import KEYPOINTS
from stillframe_lab.train.frame_store import FrameStore, FrameWriter, Labels


def label(value: float) -> Labels:
    """One frame's labels, all of one number."""
    shapes = {"actions": (1, 6, 7), "points_m": (1, KEYPOINTS, 3), "points_px": (1, KEYPOINTS, 2), "finger_rad": (1,)}
    return Labels(**{name: np.full(shape, value, np.float32) for name, shape in shapes.items()})


@pytest.mark.parametrize("cameras", [1, 2])
def test_what_is_written_is_read(tmp_path: Path, cameras: int) -> None:
    """Every camera's pictures and the labels come back equal and in order, the pictures without being loaded."""
    pictures = np.random.default_rng(0).integers(0, 256, (3, cameras, 224, 224, 3), dtype=np.uint8)
    writer = FrameWriter(tmp_path / "store", "here")
    for number, picture in enumerate(pictures):
        writer.append(picture[..., ::-1, :], label(number))
    written = len(writer)
    writer.close()
    store = FrameStore.open(tmp_path / "store", "here")

    assert written == len(store) == 3
    assert isinstance(store.images, np.memmap)
    assert_array_equal(store.images, pictures[..., ::-1, :])
    for field in fields(Labels):
        values = getattr(store.labels, field.name)
        assert (values.dtype, len(values)) == (np.float32, 3)
        assert_array_equal(values.reshape(3, -1)[:, 0], [0, 1, 2])


def test_an_unfinished_store_does_not_exist(tmp_path: Path) -> None:
    """Until `close` has written the labels, the folder counts for nothing."""
    writer = FrameWriter(tmp_path, "here")
    writer.append(np.zeros((1, 224, 224, 3), np.uint8), label(1))
    before = FrameStore.exists(tmp_path)
    writer.close()

    assert not before
    assert FrameStore.exists(tmp_path)
    assert not list(tmp_path.glob("*part*"))


def test_a_store_cannot_be_written_to(tmp_path: Path, fill: Callable[..., FrameStore]) -> None:
    """Training reads; the pictures are mapped read-only."""
    store = fill(tmp_path, 1, seed=0)

    with pytest.raises(ValueError, match="read-only"):
        store.images[0, 0, 0, 0, 0] = 1


def test_frames_of_another_origin_are_refused(tmp_path: Path, fill: Callable[..., FrameStore]) -> None:
    """Frames made by another recipe or in another scene are never trained on unawares."""
    fill(tmp_path, 1, seed=0, origin="before the laser")

    with pytest.raises(ConfigError, match="another recipe or scene; delete it"):
        FrameStore.open(tmp_path, "with the laser")
