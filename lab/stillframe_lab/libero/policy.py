"""A policy behind a daemon: what its contract says, how it is asked, and a player for each thread.

Knows the client and a suite's way of asking; runs no simulator.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from stillframe.domain import ReuseMode
from stillframe.errors import ConfigError
from stillframe_client import ModelInfo, PolicyClient
from stillframe_lab.evaluation.actors import ServerActor
from stillframe_lab.libero.bench import Bench
from stillframe_lab.libero.episode import Asking, PolicyPlayer

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class ServedPolicy:
    """A daemon's policy, and how it is asked."""

    url: str
    mode: ReuseMode | None  # None: as the daemon is set
    info: ModelInfo
    protocol: Asking
    warnings: set[str] = field(default_factory=set)  # ours, and what the daemon finds odd about frames

    @property
    def origin(self) -> dict[str, Any]:
        """What an episode's result depends on, beside the episode."""
        said = {"policy": self.info.name, "source": self.info.card.get("source"), "family": self.info.family}
        return {**said, "dtype": self.info.card.get("dtype"), "reuse_asked": self.mode, **self.protocol.described()}

    @contextmanager
    def player(self) -> Iterator[PolicyPlayer]:
        """One robot: a session of its own."""
        with _client(self.url) as client:
            actor = ServerActor(client, self.mode, self.protocol.unnorm_key)
            yield PolicyPlayer(actor, self.protocol)
            self.warnings.update(actor.warnings)


def served_policy(
    url: str, bench: Bench, mode: ReuseMode | None, execute: int | None, unnorm_key: str | None
) -> ServedPolicy:
    """Learn how the daemon's policy is asked. Raises ConfigError, and PolicyError of the connection."""
    with _client(url) as client:
        info = client.info()
    asking = bench.asking(info, execute, unnorm_key)
    return ServedPolicy(url, mode, info, asking, {*bench.doubts(info, asking)})


def _client(url: str) -> PolicyClient:
    try:
        return PolicyClient(url, timeout_s=TIMEOUT_S)
    except ValueError as error:
        raise ConfigError(f"--server: {error}") from error
