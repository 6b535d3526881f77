"""What other families' clients, as they are published, say of the robot reaches a policy that reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from stillframe.testing import EchoPolicy, policy_info, running, state_info

WORDS = "pick up the red cube"
STATE = [at / 8 for at in range(8)]
PICTURE = np.arange(32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(32, 32, 3)


@pytest.fixture(scope="module")
def policy() -> EchoPolicy:
    """Two cameras and eight numbers: seven joints, or a hand's pose, and a gripper."""
    return EchoPolicy(policy_info(cameras=("front", "wrist"), state=state_info(*(f"s{at}" for at in range(8)))))


@pytest.fixture(scope="module")
def url(policy: EchoPolicy) -> Iterator[str]:
    """Its daemon."""
    with running(policy) as address:
        yield address


@pytest.mark.parametrize("kind", ["libero", "droid"])
@pytest.mark.parametrize("packages", ["openpi-client-0.1.2", "openpi-client-0.1.1"])
def test_openpis_client(policy: EchoPolicy, url: str, connect: Callable[..., Any], packages: str, kind: str) -> None:
    """The state whole, or joints and gripper apart; ALOHA's fourteen numbers are refused and the connection goes on."""
    order = connect(packages, "openpi", url)
    order("left", "act", PICTURE, WORDS, kind)
    seen = policy.seen[-1].state
    wrong = order("left", "act", PICTURE, WORDS, "aloha")
    again = order("left", "act", PICTURE, WORDS, kind)

    assert seen is not None
    assert seen.tolist() == STATE
    assert wrong.error == "RuntimeError"
    assert "wrong-state: The state has 14 numbers; this policy reads 8 numbers" in wrong.text
    assert again["actions"].shape == (1, 7)
    assert len(order("left", "metadata")["state"]) == 8


@pytest.mark.parametrize("packages", ["json-numpy-2.1.1", "json-numpy-1.0.1"])
def test_openvla_ofts_client(policy: EchoPolicy, url: str, connect: Callable[..., Any], packages: str) -> None:
    """`state` beside its pictures, to the bit."""
    actions = connect(packages, "openvla_oft", url)("left", "act", PICTURE, WORDS)
    seen = policy.seen[-1].state

    assert np.shape(actions) == (1, 7)
    assert seen is not None
    assert seen.tolist() == STATE
