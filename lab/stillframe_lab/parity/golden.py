"""Golden: a file of what a reference implementation returned, by key; it keeps count of the keys that were asked for.

Knows .npz files and the inputs that all layouts share: pictures, instructions, whose statistics. No family.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.errors import ConfigError
from stillframe.files.kinds import shown

Array = NDArray[Any]
FRAME = re.compile(r"f(\d+)")
INSTRUCTION = re.compile(r"i(\d+)")
# What the layouts' README spells out where a file has no `instructions`.
INSTRUCTIONS = (
    "pick up the black bowl between the plate and the ramekin and place it on the plate",
    "put the spoon on the towel",
    "Open the middle drawer of the cabinet",
)
MOST_KEYS = 100_000


class CannotCompare(Exception):
    """Why one case is left out: the file lacks an input, or has it in another form."""


class Golden:
    """Arrays by key, read when asked for."""

    def __init__(self, file: Path):
        """Raises ConfigError for what is no .npz of plain arrays."""
        self.file = file
        try:
            self._arrays = np.load(file, allow_pickle=False)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            why = getattr(error, "strerror", None) or "it is no .npz file of arrays"
            raise ConfigError(f"cannot read {shown(file)}: {why}; expected what numpy.savez wrote") from error
        if not isinstance(self._arrays, np.lib.npyio.NpzFile) or len(self._arrays.files) > MOST_KEYS:
            raise ConfigError(f"{shown(file)} is no .npz file of arrays by name; expected what numpy.savez wrote")
        self.keys = frozenset(self._arrays.files)
        self.read: set[str] = set()

    def close(self) -> None:
        """Let go of the file."""
        self._arrays.close()

    def __contains__(self, key: str) -> bool:
        return key in self.keys

    def __getitem__(self, key: str) -> Array:
        """An array. CannotCompare where it is missing, or cannot be read as plain numbers or text."""
        if key not in self.keys:
            raise CannotCompare(f"the file has no {shown(key)}")
        try:
            array: Array = self._arrays[key]
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise CannotCompare(f"{shown(key)} cannot be read ({shown(error)})") from error
        self.read.add(key)
        return array

    def names(self, ending: str) -> list[str]:
        """What stands before `/ending` in keys, sorted."""
        return sorted(key.removesuffix(f"/{ending}") for key in self.keys if key.endswith(f"/{ending}"))

    def unread(self, known: Iterable[re.Pattern[str]]) -> list[str]:
        """Keys that were not asked for and match none of the patterns."""
        patterns = list(known)
        return sorted(key for key in self.keys - self.read if not any(each.search(key) for each in patterns))

    def picture(self, frame: str, many: str = "frames") -> NDArray[np.uint8]:
        """uint8 [H, W, 3] at `frame`/frame, or in the array `many` in the order of the frames' names in keys."""
        found = self[f"{frame}/frame"] if f"{frame}/frame" in self else self._among(frame, many)
        if found.dtype != np.uint8 or found.ndim != 3 or found.shape[-1] != 3:
            raise CannotCompare(
                f"the picture {frame} is {found.dtype} of shape {found.shape}; expected uint8 [H, W, 3]"
            )
        return found

    def instruction(self, name: str) -> str:
        """The words of i0, i1, ...: those of the file, else those of the layouts' README."""
        words = [str(each) for each in self["instructions"]] if "instructions" in self else INSTRUCTIONS
        at = number(INSTRUCTION, name)
        if at >= len(words):
            raise CannotCompare(f"nothing says what instruction {name} is; put `instructions` into the file")
        return words[at]

    def unnorm_key(self, frame: str, keys: Iterable[str]) -> str:
        """Whose statistics: the file's word; else, as the README has it, data sets in turn, in the order of names."""
        if f"{frame}/unnorm_key" in self:
            return str(self[f"{frame}/unnorm_key"])
        known = sorted(keys)
        return known[number(FRAME, frame) % len(known)]

    def _among(self, frame: str, many: str) -> Array:
        frames = sorted({key[: found.end()] for key in self.keys if (found := FRAME.match(key))})
        pictures = self[many]
        if frame not in frames or frames.index(frame) >= len(pictures):
            raise CannotCompare(f"{many} has no picture for {frame}")
        picture: Array = pictures[frames.index(frame)]
        return picture


def number(pattern: re.Pattern[str], name: str) -> int:
    """The number in a name such as f3. CannotCompare for another name."""
    found = pattern.fullmatch(name)
    if found is None:
        raise CannotCompare(f"{shown(name)} is no name of that kind")
    return int(found[1])
