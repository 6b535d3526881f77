"""Two ways to ask a policy: in this process, or a daemon at a URL. Both are an `Act` for the simulator.

Knows configuration and client; no episodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.config import DaemonConfig
from stillframe.errors import ConfigError, StillframeError
from stillframe.local import LocalPolicy
from stillframe.serve import open_model
from stillframe_client import PolicyClient, PolicyError
from stillframe_client.sim.gl import NoOpenGLError
from stillframe_client.sim.rollout import Act

TIMEOUT_S = 60.0


@contextmanager
def ask_checkpoint(config: DaemonConfig) -> Iterator[Act]:
    """The checkpoint, loaded here."""
    yield LocalPolicy(open_model(config))


@contextmanager
def ask_server(url: str) -> Iterator[Act]:
    """A running daemon; pictures travel raw, so the actions are the same to the bit. Raises ConfigError for no URL."""
    with _client(url) as client:

        def act(observed: Mapping[str, Any]) -> NDArray[np.float64]:
            (picture,) = observed["images"].values()
            return client.act(picture, observed["instruction"])

        yield act


@contextmanager
def mendable() -> Iterator[None]:
    """Turn what the client and the simulator complain of into StillframeError: a line for whoever typed the command."""
    try:
        yield
    except (PolicyError, NoOpenGLError) as error:
        raise StillframeError(str(error)) from error


def _client(url: str) -> PolicyClient:
    try:
        return PolicyClient(url, timeout_s=TIMEOUT_S)
    except ValueError as error:
        raise ConfigError(f"--server: {error}") from error
