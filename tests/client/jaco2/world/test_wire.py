"""Packets between a simulated world and those who reach it."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import numpy as np
import pytest

from stillframe_client.jaco2.domain import ArmState, ToolPose, Twist
from stillframe_client.jaco2.world import wire


def test_a_command_arrives_as_it_was_sent() -> None:
    """Linear, angular and closure keep their places and every bit."""
    sent = Twist(np.array([0.1, -0.2, 1 / 3]), np.array([0.4, 0.5, -0.6]), 0.7)

    got = wire.read_command(wire.pack_command(sent))

    assert isinstance(got, Twist)
    assert got.linear_m_s.tolist() == sent.linear_m_s.tolist()
    assert got.angular_rad_s.tolist() == sent.angular_rad_s.tolist()
    assert got.closure == sent.closure


@pytest.mark.parametrize("kind", [wire.STOP, wire.START, wire.HOME], ids=["stop", "start", "home"])
def test_an_order_arrives(kind: int) -> None:
    """Orders are told apart from commands by their size and kind."""
    assert wire.read_command(wire.pack_order(kind)) == kind


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"SW01",
        wire.pack_order(77),
        b"XX01" + wire.pack_order(wire.STOP)[4:],
        wire.pack_command(Twist(np.full(3, np.nan), np.zeros(3), 0.0)),
        wire.pack_command(Twist(np.zeros(3), np.zeros(3), 0.0)) + b"x",
    ],
    ids=["empty", "short", "unknown order", "other magic", "not finite", "too long"],
)
def test_what_is_no_command_is_refused(packet: bytes) -> None:
    """Anything else raises ValueError, and moves nothing."""
    with pytest.raises(ValueError, match=r"no command|not finite"):
        wire.read_command(packet)


def test_a_report_arrives_with_the_time_of_its_arrival() -> None:
    """Number, pose, closure and joints are the sender's, the time is the receiver's."""
    pose = ToolPose(np.array([0.1, -0.4, 0.3]), np.array([1.0, 0.0, 0.0, 0.0]))
    sent = ArmState(7, 5.0, pose, 0.25, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0))

    got = wire.read_report(wire.pack_report(sent), 9.0)

    assert (got.seq, got.time_s, got.closure, got.joints_rad) == (7, 9.0, 0.25, sent.joints_rad)
    assert got.pose.position_m.tolist() == pose.position_m.tolist()
    assert got.pose.orientation.tolist() == pose.orientation.tolist()


def test_a_picture_goes_in_pieces() -> None:
    """No packet is longer than what one is read with, and the pieces are the picture."""
    picture = np.random.default_rng(0).integers(0, 256, (224, 224, 3)).astype(np.uint8)

    head, *pieces = wire.pack_picture(3, picture)

    assert wire.read_picture_head(head) == (224, 224, picture.nbytes)
    assert max(map(len, pieces)) <= wire.LONGEST
    assert b"".join(pieces) == picture.tobytes()


def test_a_picture_of_another_length_is_refused() -> None:
    """A head whose bytes are not height by width by three begins no picture."""
    with pytest.raises(ValueError, match="bytes for a picture"):
        wire.read_picture_head(struct.pack("<4sQHHI", wire.MAGIC, 1, 4, 4, 47))


@pytest.mark.parametrize("packet", [b"", b"\xc1", wire.pack_message([1]), wire.pack_message({1: 2})])
def test_what_is_no_question_is_refused(packet: bytes) -> None:
    """A question is a map with names."""
    with pytest.raises(ValueError, match="message"):
        wire.read_message(packet)


def test_a_greeting_names_its_role() -> None:
    """Another role than arm, camera or episodes is refused, and so is a packet of another length."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        near.send(struct.pack("<4sc16sHd", wire.MAGIC, b"Z", b"", 0, 0.0))
        with pytest.raises(ValueError, match="role"):
            wire.read_hello(far.recv(wire.LONGEST))
    with pytest.raises(ValueError, match="greeting"):
        wire.read_hello(b"hello")


def test_without_a_world_the_text_says_how_to_start_one(tmp_path: Path) -> None:
    """The error names the path and the command."""
    with pytest.raises(wire.WorldError, match=r"stillframe_client\.jaco2\.world --socket PATH"):
        wire.dial(str(tmp_path / "none.sock"), wire.Hello(wire.ARM), 0.0)
