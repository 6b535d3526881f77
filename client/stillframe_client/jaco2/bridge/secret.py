"""Reads the token that is shown to the daemon. Knows no daemon; the token itself is in no configuration and no log."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from stillframe_client.jaco2.config import ConfigError


def read_token(file: Optional[str]) -> Optional[str]:
    """The token in a file; None for none. Raises ConfigError."""
    if file is None:
        return None
    try:
        token = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"policy.token is {file!r}, which cannot be read: {error}") from error
    if not token:
        raise ConfigError(f"policy.token is {file!r}, which is empty; expected the daemon's token in it")
    return token
