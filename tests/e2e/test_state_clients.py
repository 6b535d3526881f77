"""What other families' clients, as they are published, say of the robot reaches a policy that reads it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillframe.engine.engine import Engine
from stillframe.models.registry import load_policy
from stillframe.reuse.settings import ReuseSettings
from stillframe.testing import EchoPolicy, policy_info, running, state_info
from stillframe_client import PolicyClient, PolicyStream

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


SPOON = "put the spoon on the towel"
CASE = "f0_i1_wrist1_proprio1_l1"
CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def libero() -> dict[str, Any]:
    """A frame of two pictures and eight numbers, and the reference's eight actions for it."""
    with np.load(Path(__file__).parents[1] / "goldens" / "oft-micro.npz") as record:
        return {
            "seen": (record["frames"][0], record["wrist_frames"][0], record[f"{CASE}/proprio_raw"]),
            "actions": record[f"{CASE}/actions"],
        }


@pytest.fixture(scope="module")
def oft_url(oft_folder: Path) -> Iterator[str]:
    """A daemon of the micro OpenVLA-OFT: image, wrist and state."""
    config = {"cameras": ["image", "wrist"], "use_proprio": True, "action_head": "l1", "num_actions_chunk": 8}
    model = load_policy(oft_folder, dtype=torch.float32, device=torch.device("cpu"), config=config)
    engine = Engine(
        model,
        reuse=ReuseSettings(mode="exact"),
        queue_frames=8,
        clock=time.perf_counter,
        log=logging.getLogger("oft"),
        on_refresh=lambda _: None,
    )
    engine.warm_up()
    with running(engine) as address:
        yield address


def test_the_references_actions_over_its_own_clients_wire(
    oft_url: str, libero: dict[str, Any], connect: Callable[..., Any]
) -> None:
    """OpenVLA-OFT's client gets the reference's chunk, a vector for each action."""
    actions = connect("json-numpy-2.1.1", "openvla_oft", oft_url)("left", "libero", *libero["seen"], SPOON)

    assert [(action.dtype, action.shape) for action in actions] == [(np.float64, (7,))] * 8
    np.testing.assert_allclose(actions, libero["actions"], **CLOSE)


def test_the_references_actions_over_openpis(oft_url: str, libero: dict[str, Any], connect: Callable[..., Any]) -> None:
    """The client of openpi gets the same chunk, in float32."""
    reply = connect("openpi-client-0.1.2", "openpi", oft_url)("left", "libero", *libero["seen"], SPOON)

    np.testing.assert_allclose(reply["actions"], libero["actions"], **CLOSE)


@pytest.mark.parametrize("client", [PolicyClient, PolicyStream])
def test_the_references_actions_over_ours(
    oft_url: str, libero: dict[str, Any], client: type[PolicyClient | PolicyStream]
) -> None:
    """By name, in another order; another state is another answer."""
    front, wrist, state = libero["seen"]
    with client(oft_url, timeout_s=20.0) as robot:
        reads = robot.info().state
        assert reads is not None
        named = dict(reversed([*zip(reads.names, state, strict=True)]))
        pictures = {"image": front, "wrist": wrist}
        chunk = robot.act_with_report(pictures, SPOON, state=named, encoding="png").actions
        other = robot.act_with_report(pictures, SPOON, state=state[::-1].copy(), encoding="png").actions

    assert len(reads.units) == 8
    np.testing.assert_allclose(chunk, libero["actions"], **CLOSE)
    assert np.abs(other - chunk).max() > 1e-4
