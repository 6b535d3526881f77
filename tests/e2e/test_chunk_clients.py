"""Other families' clients, as they are published, before a policy of eight actions a frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from stillframe.testing import EchoPolicy, policy_info, running

WORDS = "pick up the red cube"
PICTURE = np.arange(32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(32, 32, 3)
CHUNK = np.random.default_rng(8).normal(size=(8, 7))
NARROW = CHUNK.astype(np.float32)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The daemon of a policy that always answers CHUNK."""
    with running(EchoPolicy(policy_info(chunk_horizon=8), actions=CHUNK)) as address:
        yield address


@pytest.mark.parametrize("packages", ["openpi-client-0.1.2", "openpi-client-0.1.1"])
def test_openpis_client(url: str, connect: Callable[..., Any], packages: str) -> None:
    """LIBERO's loop takes its five actions of each chunk; the broker four, and asks once for them."""
    order = connect(packages, "openpi", url)
    taken = order("left", "episode", [PICTURE] * 2, WORDS, 5)
    applied = order("left", "run", [PICTURE] * 6, WORDS, 1, 4)

    assert order("left", "metadata")["action_horizon"] == 8
    assert np.array_equal(taken, [*NARROW[:5], *NARROW[:5]])
    assert np.array_equal(applied, [*NARROW[:4], *NARROW[:2]])


def test_roboarenas_client(url: str, connect: Callable[..., Any]) -> None:
    """The bare array, all of it."""
    reply = connect("openpi-client-0.1.2", "roboarena", f"{url}/roboarena")("left", "act", PICTURE, WORDS)

    assert (reply.dtype, reply.shape) == (np.float32, (8, 7))
    assert np.array_equal(reply, NARROW)


@pytest.mark.parametrize("packages", ["json-numpy-2.1.1", "json-numpy-1.0.1"])
def test_openvla_ofts_client(url: str, connect: Callable[..., Any], packages: str) -> None:
    """Eight vectors, to the bit."""
    assert np.array_equal(connect(packages, "openvla_oft", url)("left", "act", PICTURE, WORDS), CHUNK)


def test_openvlas_client(url: str, connect: Callable[..., Any]) -> None:
    """The first action: it plays one, and plans anew."""
    action = connect("json-numpy-2.1.1", "openvla", url)("left", "act", PICTURE, WORDS)

    assert (action.dtype, action.tolist()) == (np.float64, CHUNK[0].tolist())


def test_cogacts_client(url: str, connect: Callable[..., Any]) -> None:
    """A list for each action."""
    assert connect("json-numpy-2.1.1", "cogact", url)("left", "act", PICTURE, WORDS) == CHUNK.tolist()
