"""Write a command's result to a file. Knows files; no command."""

from __future__ import annotations

from pathlib import Path

from stillframe.errors import ConfigError


def write_text(file: Path, text: str) -> None:
    """Write `text`, creating parent folders. Raises ConfigError if that fails; callers have printed the result."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}; the result is printed above") from error
