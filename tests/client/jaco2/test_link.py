from __future__ import annotations

import math
import socket
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe_client.jaco2 import link
from stillframe_client.jaco2.core.messages import NOTHING, ORDERS, Order
from stillframe_client.jaco2.core.watchdog import State
from stillframe_client.jaco2.link import BridgeEnd, Status, StreamerEnd

STATUS = Status(
    tick=7, time_s=12.5, state=State.HOLD, at_rest=False, late_ms=0.25, pose=(0.1, -0.4, 0.3, 1.0, 0.0, 0.0, 0.0),
    pose_age_s=0.05, closure=0.5, sent=(0.01, -0.02, 0.03, 0.1, 0.2, 0.3), reason="no fresh step",
)  # fmt: skip


@pytest.fixture
def raw():
    """The bridge's bare socket, for packets that no bridge of ours sends, and the streamer's end."""
    ours, theirs = link.pair()
    with ours, theirs:
        yield ours, StreamerEnd(theirs)


@pytest.fixture
def ends(raw):
    """Both ends."""
    ours, streamer = raw
    return BridgeEnd(ours), streamer


@given(
    st.lists(st.floats(width=64), min_size=6, max_size=6),
    st.tuples(st.floats(width=64), st.floats(width=64), st.floats(width=64)),
)
def test_a_step_arrives_to_the_last_bit(delta, rest):
    """Also what is not finite: the streamer decides what it makes of it."""
    ours, theirs = link.pair()
    with ours, theirs:
        BridgeEnd(ours).step(delta, *rest)
        (step,) = StreamerEnd(theirs).receive().messages
    numbers = [*step.delta.tolist(), step.gripper, step.lasts_s, step.deadline_s]
    assert np.array(numbers).tobytes() == np.array([*delta, *rest]).tobytes()


def test_messages_arrive_in_order_and_steps_are_numbered(ends):
    """Orders and steps as they were sent, each once; what was read does not come again."""
    bridge, streamer = ends
    for order in ORDERS:
        bridge.order(order)
    assert [bridge.step([0.0] * 6, 1.0, 0.1, 5.0) for _ in range(3)] == [1, 2, 3]
    inbox = streamer.receive()
    assert [message if isinstance(message, Order) else message.seq for message in inbox.messages] == [
        *map(Order, ORDERS), 1, 2, 3,
    ]  # fmt: skip
    assert inbox.heartbeat
    assert not inbox.garbage
    assert streamer.receive() == NOTHING


def test_a_heartbeat_is_heard_and_is_no_message(ends):
    """It says that the bridge is there, and nothing else."""
    bridge, streamer = ends
    bridge.heartbeat()
    assert streamer.receive() == replace(NOTHING, heartbeat=True)


def test_an_order_that_is_none_is_the_callers_mistake(ends):
    """It is not sent."""
    bridge, streamer = ends
    with pytest.raises(ValueError, match="jump"):
        bridge.order("jump")
    assert streamer.receive() == NOTHING


GOOD = link._STEP.pack(link.MAGIC, 1, 1, *[0.0] * 9)
FOREIGN = {
    "one byte": b"S", "magic alone": link.MAGIC, "half a step": GOOD[:40], "a step and a half": GOOD + GOOD[:40],
    "two steps": GOOD + GOOD, "longer than any": GOOD + b"\0" * 5000, "another version": b"SJ02" + GOOD[4:],
    "unknown kind": link._HEARTBEAT.pack(link.MAGIC, 9), "unknown order": link._ORDER.pack(link.MAGIC, 2, 200),
    "text": b"POST /act HTTP/1.1\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("packet", FOREIGN.values(), ids=FOREIGN)
def test_a_packet_that_is_no_message_is_garbage_and_harms_no_other(raw, packet):
    """It is said what came; the messages before and after it are read."""
    ours, streamer = raw
    for each in (GOOD, packet, GOOD):
        ours.send(each)
    inbox = streamer.receive()
    assert len(inbox.messages) == 2
    assert inbox.garbage
    assert not inbox.gone
    assert not streamer.receive().garbage


@given(st.binary(min_size=1, max_size=300))
def test_no_bytes_stop_the_streamer(packet):
    """Any packet is a message or garbage."""
    ours, theirs = link.pair()
    with ours, theirs:
        ours.send(packet)
        inbox = StreamerEnd(theirs).receive()
        assert bool(inbox.garbage) == (not inbox.messages and packet != link._HEARTBEAT.pack(link.MAGIC, 3))


def test_a_flood_is_garbage_and_is_read_bit_by_bit(raw, monkeypatch):
    """At most so many packets a tick; the rest waits."""
    monkeypatch.setattr(link, "MOST_PER_TICK", 20)
    ours, streamer = raw
    for _ in range(30):
        ours.send(GOOD)
    first, second = streamer.receive(), streamer.receive()
    assert (len(first.messages), len(second.messages)) == (20, 10)
    assert "over 20 messages" in first.garbage
    assert not second.garbage


def test_a_bridge_that_has_gone_is_noticed(ends):
    """Also after its last messages, which are read first; and it stays so."""
    bridge, streamer = ends
    bridge.order("disarm")
    bridge.close()
    inbox = streamer.receive()
    assert (inbox.messages, inbox.gone) == ((Order("disarm"),), True)
    assert streamer.receive().gone
    streamer.say(STATUS)


def test_a_streamer_that_has_gone_is_noticed(ends):
    """By reading and by sending, without an exception."""
    bridge, streamer = ends
    streamer.say(STATUS)
    streamer.close()
    assert bridge.newest() == STATUS
    assert bridge.is_closed
    bridge.heartbeat()
    assert bridge.newest() is None


def test_a_status_arrives_whole_and_the_newest_counts(ends):
    """With a reason of any length and alphabet, cut at 200 bytes; an older one is passed over."""
    bridge, streamer = ends
    assert bridge.newest() is None
    for reason in ("first", "été " * 100):
        streamer.say(replace(STATUS, reason=reason))
    said = bridge.newest()
    assert said.reason.startswith("été été")
    assert len(said.reason) <= 200
    streamer.say(replace(STATUS, closure=math.nan, pose_age_s=math.inf))
    odd = bridge.newest()
    assert (math.isnan(odd.closure), odd.pose_age_s) == (True, math.inf)
    assert replace(odd, closure=0.5, pose_age_s=0.05) == STATUS


def test_neither_end_waits_for_a_full_socket(raw):
    """What does not fit is dropped, and no one takes it for a peer that has gone."""
    ours, streamer = raw
    bridge = BridgeEnd(ours)
    for _ in range(5000):
        bridge.heartbeat()
        streamer.say(STATUS)
    assert not bridge.is_closed
    assert bridge.newest() == STATUS
    while streamer.receive() != NOTHING:
        pass
    bridge.order("stop")
    assert streamer.receive().messages == (Order("stop"),)


def test_a_packet_keeps_its_bounds():
    """The pair is of whole packets: no byte of one is read with another."""
    ours, theirs = link.pair()
    with ours, theirs:
        assert ours.type == socket.SOCK_SEQPACKET
        assert theirs.gettimeout() == 0
