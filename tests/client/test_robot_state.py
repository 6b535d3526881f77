from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.testing import EchoPolicy, policy_info, running, state_info
from stillframe.web.service.inference import UNREAD_STATE
from stillframe_client import AsyncPolicyStream, PolicyClient, PolicyStream, Unprocessable, WebsocketClientPolicy
from stillframe_client.openpi import state_of
from stillframe_client.robot_state import state_field

PICTURE = np.zeros((8, 8, 3), np.uint8)
NUMBERS = [0.1, -1 / 3, 1e-300]
NAMES = ("x", "y", "opening")
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(numbers=st.lists(FINITE, max_size=64))
def test_numbers_are_kept_to_the_bit(numbers: list[float]) -> None:
    """A list, a tuple, an array alone or in a batch of one, and names."""
    named = {f"q{at}": np.float64(number) for at, number in enumerate(numbers)}
    for given_as in (numbers, tuple(numbers), np.array(numbers), np.array([numbers])):
        assert state_field("state", given_as) == numbers
    assert state_field("state", named) == {name: float(number) for name, number in named.items()}
    assert all(type(number) is float for number in state_field("state", np.array(numbers)))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("0.1", "state is of type str; expected a list or an array"),
        (b"0.1", "state is of type bytes"),
        (0.1, "state is of type float"),
        (None, "state is of type NoneType"),
        ([0.0] * 65, "state has 65 numbers; at most 64"),
        (np.zeros(65), "state has 65 numbers"),
        ({str(at): 0.0 for at in range(65)}, "state has 65 numbers"),
        (np.zeros((2, 4)), r"state has shape \(2, 4\); expected \(numbers,\)"),
        (np.array(0.5), r"state has shape \(\)"),
        (np.array(["a"]), "state is an array of <U1"),
        (np.array([True]), "state is an array of bool"),
        ([0.0, True], r"state\[1\] is of type bool; expected a number"),
        ([0.0, "1"], r"state\[1\] is of type str"),
        ([0.0, float("nan")], r"state\[1\] is nan; expected a finite number"),
        ([10**400], r"state\[0\] is inf"),
        ({"x": float("inf")}, r"state\['x'\] is inf"),
        ({"x": None}, r"state\['x'\] is of type NoneType"),
        ({7: 0.0}, "state has a name of type int"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_cannot_be_a_state(value: object, words: str) -> None:
    """It is refused before anything is sent."""
    with pytest.raises(ValueError, match=words):
        state_field("state", value)


@pytest.fixture(scope="module")
def needy() -> Iterator[tuple[str, EchoPolicy]]:
    """A daemon whose policy reads three numbers."""
    policy = EchoPolicy(policy_info(state=state_info(*NAMES, unit="m")))
    with running(policy) as url:
        yield url, policy


def over_http(url: str, **said: Any) -> Any:
    with PolicyClient(url, timeout_s=20.0) as client:
        return client.act_with_report(PICTURE, "go", **said)


def over_a_stream(url: str, **said: Any) -> Any:
    with PolicyStream(url, timeout_s=20.0) as client:
        return client.act_with_report(PICTURE, "go", **said)


def over_an_async_stream(url: str, **said: Any) -> Any:
    async def ask() -> Any:
        async with AsyncPolicyStream(url, timeout_s=20.0) as client:
            return await client.act_with_report(PICTURE, "go", **said)

    return asyncio.run(ask())


WIRES = [over_http, over_a_stream, over_an_async_stream]


@pytest.mark.parametrize("ask", WIRES)
@pytest.mark.parametrize(
    "state", [NUMBERS, np.array(NUMBERS), dict(zip(NAMES[::-1], NUMBERS[::-1], strict=True))], ids=str
)
def test_the_policy_reads_what_the_robot_said(
    needy: tuple[str, EchoPolicy], ask: Callable[..., Any], state: Any
) -> None:
    """Over HTTP and both streams, in the policy's order, to the bit."""
    url, policy = needy
    reply = ask(url, state=state)

    assert policy.seen[-1].state is not None
    assert policy.seen[-1].state.tolist() == NUMBERS
    assert reply.warnings == ()


@pytest.mark.parametrize("ask", WIRES)
@pytest.mark.parametrize(
    ("said", "code", "pointer"),
    [
        ({}, "missing-state", "/state"),
        ({"state": [1.0]}, "wrong-state", "/state"),
        ({"state": {"z": 1.0}}, "wrong-state", "/state"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(
    needy: tuple[str, EchoPolicy], ask: Callable[..., Any], said: dict[str, Any], code: str, pointer: str
) -> None:
    """By the daemon, with what the policy reads."""
    with pytest.raises(Unprocessable, match=r"3 numbers: x \[m\], y \[m\], opening \[m\]") as caught:
        ask(needy[0], **said)

    assert caught.value.problem.code == code
    assert caught.value.problem.faults[0].pointer == pointer


@pytest.mark.parametrize("client", [PolicyClient, PolicyStream])
def test_what_is_read_is_known(needy: tuple[str, EchoPolicy], client: type[PolicyClient | PolicyStream]) -> None:
    """`info().state` has names and units; None where none is read, and a robot that sends one is told once."""
    with client(needy[0], timeout_s=20.0) as robot:
        state = robot.info().state
    with running(EchoPolicy()) as url, client(url, timeout_s=20.0) as robot:
        none = robot.info().state
        warnings = [robot.act_with_report(PICTURE, "go", state=NUMBERS).warnings for _ in range(2)]

    assert state is not None
    assert (state.names, state.units) == (NAMES, ("m", "m", "m"))
    assert none is None
    assert warnings == [(UNREAD_STATE,), ()]


def test_openpis_observation(needy: tuple[str, EchoPolicy]) -> None:
    """The stand-in for openpi's client finds it under openpi's keys; a policy that reads none gets none."""
    url, policy = needy
    with WebsocketClientPolicy(url.replace("http", "ws"), timeout_s=20.0) as robot:
        metadata = robot.get_server_metadata()
        for seen in ({"observation/state": np.array(NUMBERS)}, {"state": NUMBERS}):
            robot.infer({"observation/image": PICTURE, "prompt": "go", **seen})
            assert policy.seen[-1].state is not None
            assert policy.seen[-1].state.tolist() == NUMBERS
        with pytest.raises(Unprocessable, match="the frame has none"):
            robot.infer({"observation/image": PICTURE, "prompt": "go"})
    with running(plain := EchoPolicy()) as other, WebsocketClientPolicy(other.replace("http", "ws")) as robot:
        robot.infer({"observation/image": PICTURE, "prompt": "go", "state": "anything"})

    assert metadata["state"] == [{"name": name, "unit": "m", "ranges": {"robot": [-1.0, 1.0]}} for name in NAMES]
    assert plain.seen[-1].state is None


def test_openpis_joints_come_before_the_gripper() -> None:
    """As DROID's policies concatenate them; None where there is nothing."""
    obs = {"observation/gripper_position": 0.5, "observation/joint_position": np.arange(2.0)}

    assert state_of(obs, ("a", "b", "c")) == [0.0, 1.0, 0.5]
    assert state_of({"observation": {"state": [1.0]}}, ("a",)) == [1.0]
    assert state_of({"prompt": "go"}, ("a",)) is None
    with pytest.raises(ValueError, match=r"joint_position'\]\[0\] is of type str|array of"):
        state_of({"observation/joint_position": ["a"]}, ("a",))
