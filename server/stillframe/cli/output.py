"""Writes a command's result into the file that was asked for. Knows files; no command."""

from __future__ import annotations

from pathlib import Path

from stillframe.errors import ConfigError


def write_text(file: Path, text: str) -> None:
    """Write `text`, making the folders above it. ConfigError where that cannot be done: the result is printed too."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}; the result is printed above") from error
