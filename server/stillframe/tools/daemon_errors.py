"""Errors about a daemon that a command asks, as the one line that the command prints.

Knows the client's errors; no daemon.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stillframe.errors import ConfigError, StillframeError
from stillframe_client import PolicyError


@contextmanager
def daemon_errors(url: str | None) -> Iterator[None]:
    """Turn errors about the daemon at `url`, or about `url` itself, into StillframeError."""
    try:
        yield
    except PolicyError as error:
        raise StillframeError(str(error)) from error
    except ValueError as error:
        raise ConfigError(f"{url}: {error}") from error
