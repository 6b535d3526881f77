from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
from hypothesis import given

from stillframe_client.jaco2.arms.kinematic import START_M
from stillframe_client.jaco2.rosbridge.calls import Calls, Reply
from stillframe_client.jaco2.rosbridge.counts import Counts
from stillframe_client.jaco2.rosbridge.incoming import Incoming
from stillframe_client.jaco2.rosbridge.reports import Reports

POSE = "/arm_driver/out/tool_pose"
WORDS = st.sampled_from(["op", "publish", "topic", POSE, "msg", "pose", "position", "orientation", "x", "y", "z", "w"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=5)
)
OPERATIONS = st.sampled_from(["publish", "service_response", "status", "fragment", "png", ""])


def receiver() -> tuple[Incoming, Counts, Reports, Calls]:
    """A receiving side that follows one arm."""
    counts, calls, reports = Counts(), Calls(), Reports(6800.0, lambda: 1.0)
    incoming = Incoming(calls, counts)
    incoming.take_topic(POSE, reports.take_pose)
    incoming.take_topic("/arm_driver/out/finger_position", reports.take_fingers)
    incoming.take_topic("/arm_driver/out/joint_state", reports.take_joints)
    return incoming, counts, reports, calls


def pose_text() -> str:
    """A good pose."""
    position = dict(zip("xyz", START_M, strict=True))
    return json.dumps({"op": "publish", "topic": POSE, "msg": {"pose": {"position": position, "orientation": TURN}}})


TURN = {"x": 1.0, "y": 0.0, "z": 0.0, "w": 0.0}


@given(data=st.text() | st.binary() | VALUES.map(json.dumps))
def test_whatever_comes_is_counted_once(data: str | bytes) -> None:
    """No text, bytes or JSON raises, and none but a pose makes a report."""
    incoming, counts, reports, _ = receiver()
    incoming.take(data)
    incoming.take(pose_text())

    assert counts.received == 1
    assert counts.garbage <= 1
    assert reports.newest is not None
    assert reports.newest.seq == 1


@given(
    operation=OPERATIONS,
    topic=st.sampled_from([POSE, "/arm_driver/out/finger_position", "/arm_driver/out/joint_state"]),
    body=VALUES,
    rest=st.dictionaries(st.sampled_from(["id", "values", "result", "level"]), VALUES, max_size=4),
)
def test_whatever_an_operation_holds_nothing_breaks(
    operation: str, topic: str, body: Any, rest: dict[str, Any]
) -> None:
    """Known operations with bodies of any shape are taken or counted, and reading goes on."""
    incoming, counts, reports, _ = receiver()
    incoming.take(json.dumps({"op": operation, "topic": topic, "msg": body, **rest}))
    before = 0 if reports.newest is None else reports.newest.seq
    incoming.take(pose_text())

    assert counts.garbage + counts.received + len(incoming.errors) <= 2
    assert reports.newest is not None
    assert reports.newest.seq == before + 1


def test_a_call_ends_once() -> None:
    """The first answer counts; a second, or one after the connection broke, is garbage."""
    incoming, counts, _, calls = receiver()
    replies: list[Reply] = []
    first, second = calls.new("/a", replies.append), calls.new("/b", replies.append)
    answer = json.dumps({"op": "service_response", "id": first, "values": {"ok": 1}, "result": True})
    incoming.take(answer)
    incoming.take(answer)
    calls.end_all(Reply("gone"))
    incoming.take(json.dumps({"op": "service_response", "id": second, "values": {}, "result": True}))

    assert replies == [Reply("", {"ok": 1}), Reply("gone")]
    assert counts.garbage == 2
