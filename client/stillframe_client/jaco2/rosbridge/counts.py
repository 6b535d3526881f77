"""What a connection saw, for `check`, logs and tests. Knows nothing else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counts:
    """Since the connection was made for the first time."""

    connects: int = 0
    published: int = 0
    dropped: int = 0  # messages that the socket or the server could not take in time
    received: int = 0  # messages of subscribed topics that could be read
    garbage: int = 0  # that could not: no JSON, no operation known here, a message of another shape
