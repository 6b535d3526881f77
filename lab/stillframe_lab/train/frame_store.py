"""FrameStore: labelled frames on disk, a picture a camera, memory-mapped, written once and read in any order.

Knows arrays; no simulator and no network.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from stillframe.errors import ConfigError
from stillframe.files.writing import write_whole

IMAGE_PX = 224
LABELS_NAME, IMAGES_NAME = "labels.npz", "images.u8"


@dataclass(frozen=True)
class Labels:
    """Labels of each frame. Points: red, green, blue cube, laser spot, tool."""

    actions: NDArray[np.float32]  # [frames, instructions, 7], normalised to [-1, 1]; gripper 0 or 1
    points_m: NDArray[np.float32]  # [frames, 5, 3], world frame
    points_px: NDArray[np.float32]  # [frames, 5, 2], u right, v down
    finger_rad: NDArray[np.float32]  # [frames]

    @classmethod
    def joined(cls, parts: Iterable[Labels]) -> Self:
        """Concatenate labels."""
        listed = list(parts)
        return cls(*(np.concatenate([getattr(part, field.name) for part in listed]) for field in fields(cls)))


@dataclass(frozen=True)
class FrameStore:
    """A folder's pictures and labels."""

    images: NDArray[np.uint8]  # [frames, cameras, px, px, 3], memory-mapped; px is 224 unless said
    labels: Labels

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def exists(cls, folder: Path) -> bool:
        """Whether a finished store exists: labels are written last."""
        return (folder / LABELS_NAME).is_file()

    @classmethod
    def open(cls, folder: Path, origin: str, kind: type[Labels] = Labels, image_px: int = IMAGE_PX) -> FrameStore:
        """Map a finished store, whose labels are of that kind. Raises ConfigError if it has another origin."""
        labels = read_labels(folder, origin, kind)
        return cls(map_images(folder, len(labels.actions), image_px), labels)


Kind = TypeVar("Kind", bound=Labels)


def read_labels(folder: Path, origin: str, kind: type[Kind]) -> Kind:
    """A finished store's labels. Raises ConfigError if it has another origin."""
    with np.load(folder / LABELS_NAME) as arrays:
        if "origin" not in arrays or str(arrays["origin"]) != origin:
            raise ConfigError(f"{folder} holds frames of another recipe or scene; delete it, or name another folder")
        return kind(**{field.name: arrays[field.name] for field in fields(kind)})


def map_images(folder: Path, frames: int, image_px: int) -> NDArray[np.uint8]:
    """A finished store's pictures [frames, cameras, image_px, image_px, 3], memory-mapped."""
    images = np.memmap(folder / IMAGES_NAME, np.uint8, mode="r")
    return images.reshape(frames, -1, image_px, image_px, 3)


class FrameWriter:
    """Appends frames to a folder; `close` makes it a store with an origin."""

    def __init__(self, folder: Path, origin: str):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._origin = origin
        self._images = (folder / IMAGES_NAME).open("wb")
        self._labels: list[Labels] = []

    def __len__(self) -> int:
        return len(self._labels)

    def append(self, images: NDArray[np.uint8], labels: Labels) -> None:
        """Add one frame's pictures [cameras, px, px, 3] and its labels, each with a leading axis of one."""
        self._images.write(np.ascontiguousarray(images).tobytes())
        self._labels.append(labels)

    def close(self) -> None:
        """Flush the pictures, then write the labels."""
        self._images.close()
        joined = type(self._labels[0]).joined(self._labels)
        arrays = {field.name: getattr(joined, field.name) for field in fields(joined)}
        write_npz(self._folder / LABELS_NAME, origin=np.array(self._origin), **arrays)


def write_npz(file: Path, **arrays: Any) -> None:
    """Write arrays into one file, whole or not at all."""

    def write(part: Path) -> None:
        with part.open("wb") as opened:  # by name, numpy would add a suffix
            np.savez(opened, **arrays)

    write_whole(file, write)
