"""Writes a file whole or not at all: beside its place, then renamed into it.

Knows no content.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path


def write_whole(file: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill `file`.part, then rename it. What fails leaves what was there, and no part.

    `write` gets a path that ends in .part: hand an open file to numpy.savez, which adds a suffix of its own to names.
    """
    part = file.with_name(file.name + ".part")
    try:
        write(part)
        part.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def write_whole_bytes(file: Path, content: bytes) -> None:
    """The same for bytes that are there. Raises OSError."""
    write_whole(file, lambda part: part.write_bytes(content))
