"""Switches that one process sets and another one looks at: files of a folder. Knows not what they switch."""

from __future__ import annotations

from pathlib import Path


class Switches:
    """All are off at first."""

    def __init__(self, folder: Path):
        self._folder = folder

    def on(self, name: str) -> None:
        """Set one."""
        (self._folder / name).touch()

    def off(self) -> None:
        """Clear all."""
        for file in self._folder.iterdir():
            file.unlink()

    def is_on(self, name: str) -> bool:
        """Look at one."""
        return (self._folder / name).exists()
